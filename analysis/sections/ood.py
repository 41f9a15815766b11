"""Out-of-distribution accuracy: three ways to count it, and its relation to the accuracy in distribution."""

from pathlib import Path

from analysis import shift, tables
from analysis.blocks import Section
from analysis.data import data_names, data_warning
from analysis.estimates import estimate
from analysis.figures import shift as figures_of_shift
from analysis.robustness import LEAST, STRENGTHS
from analysis.study import Study
from analysis.words import N_, _
from ssl_pkg.catalogue import OOD

_COLUMNS = {
    "accuracy": N_("All classes"),
    "accuracy_shared": N_("Shared classes"),
    "accuracy_masked": N_("Shared classes, masked logits"),
}


def section(study: Study, figures: Path) -> Section:
    """The section; no blocks if the accuracies are missing although the data has out-of-distribution images."""
    made = Section(_("Out of distribution"), ("ood",))
    values = {model: {metric: estimate(study, model, "ood", metric) for metric in _COLUMNS} for model in study.models}
    shown = [metric for metric in _COLUMNS if any(found[metric] for found in values.values())]
    if not shown:
        if study.planned and all(stage != OOD for stage, *_ in study.planned):
            made.text(
                _(
                    "There are no out-of-distribution numbers, because the data has no out-of-distribution set (a "
                    "folder “ood”, or CIFAR-10)."
                )
            )
        return made
    made.text(
        _(
            "The models, unchanged, on images from another data set. With all classes, a class of the models stands "
            "for one that they lack (for CIFAR-10, “monkey” is correct for a frog). With the shared classes, images of "
            "that class are excluded, and a model can still predict the class that only it has. With masked logits it "
            "can't: only the logits of the shared classes compete."
        )
    )
    if not data_warning(data_names(study, ood=False), data_names(study, ood=True)):
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
        widths=[1.3, *([1.2] * len(shown))],
    )
    _relation(made, study, figures)
    return made


def _relation(made: Section, study: Study, figures: Path) -> None:
    """Accuracy in distribution against out of distribution, and effective robustness."""
    points = shift.points(study)
    if not points:
        return
    made.subheading(_("Accuracy in and out of distribution"))
    measured = {model: point for model, point in points.items() if point.robustness is not None}
    meaning = _(
        "Models of different strength that are trained in the same way lie close to a line on a probit scale (Taori et "
        "al., 2020; Miller et al., 2021). Effective robustness is the vertical distance from the line of the "
        "supervised models, which are trained from scratch with different numbers of labels: OOD accuracy beyond what "
        "the test accuracy predicts. Both accuracies are on images of the shared classes."
    )
    if measured:
        interval = _(
            "Its interval contains the sampling of both sets of images, the uncertainty of the line and, with several "
            "seeds, their variation."
        )
        made.text(f"{meaning} {interval}")
    else:
        why = _(
            "No line is drawn and no effective robustness is given, because this study lacks {networks} supervised "
            "networks of {sizes} numbers of labels with predictions on both sets, or all are equally good.",
            networks=LEAST,
            sizes=STRENGTHS,
        )
        made.text(f"{meaning} {why}")
    made.figure(
        figures,
        "test-against-ood",
        figures_of_shift.scatter(study),
        _(
            "Test accuracy against OOD accuracy on the shared classes, on probit axes, with 95 % intervals. Grey dots: "
            "supervised networks; grey line: fitted to them; dotted: equal accuracies."
        )
        if measured
        else _(
            "Test accuracy against OOD accuracy on the shared classes, on probit axes, with 95 % intervals. Grey dots: "
            "supervised networks; dotted: equal accuracies."
        ),
        _("a model above the grey line loses less under the shift than a supervised model of the same test accuracy.")
        if measured
        else _("the further a model is below the dotted line, the more accuracy it loses under the shift."),
    )
    if measured:
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
            _(
                "Accuracies on the shared classes in percent and effective robustness in points, with 95 % intervals. "
                "*: the test accuracy is outside those of the supervised networks, so the line is extrapolated."
            ),
        )
