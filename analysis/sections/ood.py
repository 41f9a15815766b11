"""Out-of-distribution accuracy: three ways to count it, and its relation to the accuracy in distribution."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from analysis import shift, tables
from analysis.blocks import Section
from analysis.data import OFFICIAL, data_names
from analysis.estimates import Estimate, estimate
from analysis.figures import shift as figures_of_shift
from analysis.names import Model
from analysis.robustness import LEAST, STRENGTHS
from analysis.study import Study
from analysis.words import N_, _
from ssl_pkg.catalogue import OOD, RANDOM
from ssl_pkg.run.manifest import SYNTHETIC_NAME

_COLUMNS = {
    "accuracy": N_("All classes"),
    "accuracy_shared": N_("Shared classes"),
    "accuracy_masked": N_("Shared classes, masked logits"),
}


def section(study: Study, figures: Path) -> Section:
    """The section; no blocks if the accuracies are missing although the data has out-of-distribution images."""
    made = Section(_("Out of distribution"), ("ood",))
    values = {model: {metric: estimate(study, model, "ood", metric) for metric in _COLUMNS} for model in study.models}
    columns = {metric: [found[metric] for found in values.values()] for metric in _COLUMNS}
    shown = [metric for metric in columns if any(columns[metric]) and not _repeated(columns, metric)]
    if not shown:
        if study.planned and all(stage != OOD for stage, *_ in study.planned):
            made.text(
                _(
                    "There are no out-of-distribution numbers, because the data has no out-of-distribution set (a "
                    "folder “ood”, or CIFAR-10)."
                )
            )
        return made
    explained = _(
        "With all classes, a class of the models stands for one that they lack (for CIFAR-10, “monkey” is correct for "
        "a frog). With the shared classes, images of that class are excluded, and a model can still predict the class "
        "that only it has. With masked logits it can't: only the logits of the shared classes compete."
    )
    generated = _(
        "The generated images show the same kinds of objects at 32 by 32 pixels, more coarsely and in other colours."
    )
    subset = _(
        "The images show only some of the models' classes. With masked logits only the logits of these classes compete."
    )
    meanings = [explained] if tables.substituted(study) else [subset] if "accuracy_masked" in shown else []
    texts = [_("The models, unchanged, on images from another data set."), *meanings]
    made.text(" ".join([*texts, *([generated] if SYNTHETIC_NAME in data_names(study, ood=True) else [])]))
    if set(data_names(study)) <= OFFICIAL and "accuracy_masked" in shown:
        made.text(
            _(
                "Papers on domain adaptation between STL-10 and CIFAR-10 report the last kind, on nine classes "
                "(Ghifary et al., 2016; French et al., 2018). Their source-only models are also trained on these nine "
                "classes, so the numbers can be compared roughly, not exactly."
            )
        )
    made.table(
        "ood",
        [_("Model"), *(_(_COLUMNS[metric]) for metric in shown)],
        [
            [study.model_label(model), *(tables.percent(found[metric]) for metric in shown)]
            for model, found in values.items()
            if any(found.values())
        ],
        _("Out-of-distribution accuracy in percent, with its interval."),
    )
    _relation(made, study, figures)
    return made


def _repeated(columns: Mapping[str, Sequence[Estimate | None]], metric: str) -> bool:
    """Whether a column has the numbers of all classes, because the two data sets have the same classes."""
    return metric != "accuracy" and columns[metric] == columns["accuracy"]


def _relation(made: Section, study: Study, figures: Path) -> None:
    """Accuracy in distribution against out of distribution, and effective robustness."""
    points = shift.points(study)
    if not points:
        return
    made.subheading(_("Accuracy in and out of distribution"))
    measured = {model: point for model, point in points.items() if point.robustness is not None}
    tested = any(map(shift.is_baseline, measured))
    made.text(_meaning(measured=bool(measured), tested=tested))
    _scatter(made, study, figures, line=bool(measured))
    if measured:
        made.text(off_the_line(study))
        _robustness(made, study, measured, tested=tested)


def _meaning(*, measured: bool, tested: bool) -> str:
    """What effective robustness is, its interval and what tests its line, or why there is none."""
    meaning = _(
        "Models of different strength that are trained in the same way often lie close to a line on a probit scale "
        "(Taori et al., 2020; Miller et al., 2021). Effective robustness is the vertical distance from the line of the "
        "supervised models, which are trained from scratch with different numbers of labels: OOD accuracy beyond what "
        "the line predicts from the test accuracy. Both accuracies are on images of the shared classes."
    )
    if measured:
        more = _(
            "Its interval contains the sampling of both sets of images, the uncertainty of the line and, with several "
            "seeds, their variation."
        )
    else:
        more = _(
            "No line is drawn and no effective robustness is given: that takes predictions on both sets from "
            "supervised networks that are trained on at least {networks} sets of images with at least {sizes} label "
            "counts and that differ in accuracy.",
            networks=LEAST,
            sizes=STRENGTHS,
        )
    test = _(
        "The row of the supervised baseline tests the line, which is fitted without the baseline there. An interval "
        "that excludes 0 shows that the line does not describe the baseline, nor models with a similar test accuracy."
    )
    return " ".join([meaning, more, *([test] if tested else [])])


def off_the_line(study: Study) -> str:
    """That the line does not describe a supervised baseline, and what to read instead; empty if none is off it."""
    return " ".join(
        _(
            "The line does not describe the model “{model}”, which is {gap} points from it. A reason can be that the "
            "networks with few labels are trained with other settings and another number of steps. Near the test "
            "accuracy of this model, effective robustness therefore says nothing about pretraining. The differences "
            "from the supervised baseline in OOD accuracy need no line.",
            model=study.model_label(model),
            gap=tables.gain_text(gap),
        )
        for model, gap in shift.missed(study).items()
    )


def _scatter(made: Section, study: Study, figures: Path, *, line: bool) -> None:
    made.figure(
        figures,
        "test-against-ood",
        figures_of_shift.scatter(study),
        _(
            "Test accuracy against OOD accuracy on the shared classes, on probit axes, with 95 % intervals. Grey dots: "
            "supervised networks, one for each set of training images (mean over seeds); grey line: fitted to them; "
            "dotted: equal accuracies."
        )
        if line
        else _(
            "Test accuracy against OOD accuracy on the shared classes, on probit axes, with 95 % intervals. Grey dots, "
            "if any: supervised networks, one for each set of training images (mean over seeds); dotted: equal "
            "accuracies."
        ),
        _("a model above the grey line has a higher OOD accuracy than the line predicts from its test accuracy.")
        if line
        else _("the further a model is below the dotted line, the more accuracy it loses under the shift."),
    )


def _robustness(made: Section, study: Study, measured: Mapping[Model, shift.Point], *, tested: bool) -> None:
    caption = _(
        "Accuracies on the shared classes in percent and effective robustness in points, with 95 % intervals. "
        "*: the test accuracy is outside those of the supervised networks of the line, so the line is extrapolated."
    )
    without = _("In the row of the supervised baseline, the line is fitted without it.")
    made.table(
        "effective-robustness",
        [_("Model"), _("Test"), _("OOD"), _("Effective robustness")],
        [
            [
                study.model_label(model) + (" *" if point.extrapolated else ""),
                tables.percent(point.test),
                tables.percent(point.ood),
                tables.gain_text(point.robustness),
            ]
            for model, point in measured.items()
            if point.robustness is not None
        ],
        f"{caption} {without}" if tested else caption,
    )


def drop(study: Study) -> str:
    """The largest and the smallest change from test to OOD accuracy, on the shared classes; empty for one model."""
    found = {model: shift.change(study, model) for model in study.models if model.method != RANDOM}
    changes = {model: gap for model, gap in found.items() if gap is not None}
    if len(changes) < 2:
        return ""
    best, worst = (end(changes, key=lambda model: changes[model].value) for end in (max, min))
    highest, lowest = (
        _(
            "{gap} points [{low}, {high}] ({model})",
            gap=tables.signed(100 * changes[model].value),
            low=tables.signed(100 * changes[model].low),
            high=tables.signed(100 * changes[model].high),
            model=study.model_label(model),
        )
        for model in (best, worst)
    )
    text = (
        N_(
            "OOD accuracy minus test accuracy: from {highest} to {lowest}. The two sets hold different images, so "
            "this difference includes their difficulty as well as the shift."
        )
        if all(shift.same_classes(study, model) for model in changes)
        else N_(
            "OOD accuracy minus test accuracy on the shared classes: from {highest} to {lowest}. The two sets hold "
            "different images, so this difference includes their difficulty as well as the shift."
        )
    )
    return _(
        text,
        highest=highest,
        lowest=lowest,
    )
