"""Accuracy of every model: the main table and its figure; then accuracy by class, confusion and calibration."""

from pathlib import Path

from analysis import tables
from analysis.blocks import Section
from analysis.data import data_label
from analysis.estimates import Estimate, estimate
from analysis.figures import classes
from analysis.number_text import NumberText
from analysis.selection import left_out
from analysis.study import Study
from analysis.words import N_, _

_MEANING = {
    "test": N_(
        "Test accuracy: share of correct predictions on the labelled test split, which was not used for any choice."
    ),
    "ood10": N_("OOD: the same models, unchanged, on images from another data set."),
    "ood9": N_(
        "The OOD set has a class that the models lack. With all classes, one of the models' classes counts as correct "
        "for it (for CIFAR-10: “monkey” for a frog); with the shared classes, its images are excluded."
    ),
    "knn": N_(
        "kNN on test: weighted nearest neighbours of the test images among the labelled train images, by their "
        "embeddings."
    ),
    "knn_validation": N_(
        "kNN on holdout: weighted nearest neighbours on the holdout split of labelled train after the last epoch of "
        "pretraining, shown in the row of the encoder's probe."
    ),
}

_CROPS = N_(
    "The heads of the supervised and fine-tuned models were trained on random crops and are tested on whole images, "
    "which can reduce their accuracy (Touvron et al., 2019). kNN compares whole images with whole images, so its "
    "accuracy can be higher than theirs."
)


def section(study: Study) -> Section:
    """The main table, whose figure is on the first page."""
    made = Section(_("Accuracy"), ("pretrain", "probe", "finetune", "ood", "embed"))
    if not study.models:
        made.text(_("No complete run has a test accuracy yet."))
        return made
    headings, rows = tables.summary_text(study)
    made.text(_meanings(study))
    caption = _("Accuracies in percent on {data}.", data=data_label(study)) + f" {_numbers(study)}"
    made.table("accuracy", headings, rows, caption)
    return made


def _meanings(study: Study) -> str:
    """The meaning of each column of the main table."""
    shown = [column.key for column in tables.main_columns(study)]
    gains = _("Gain: test accuracy minus that of a linear probe on the random initialisation, in percentage points.")
    fitted_on_crops = any(model.adaptation != "probe" for model in study.models)
    crops = [_(_CROPS)] if "knn" in shown and fitted_on_crops else []
    return " ".join([*(_(_MEANING[key]) for key in shown), *crops, gains])


def _numbers(study: Study) -> str:
    if study.seeds_tested > 1:
        interval = _("Means over seeds; brackets: 95 % intervals over seeds and test images.")
    else:
        interval = _("Brackets: 95 % intervals over the test images, of one seed.")
    return " ".join(text for text in (interval, _images(study), study.seeds_text) if text)


def _images(study: Study) -> str:
    """How many images there are; empty if it is unknown."""
    found = (estimate(study, study.models[-1], kind, "accuracy") for kind in ("test", "ood"))
    test, ood = (entry.n if entry else None for entry in found)
    if test and ood:
        return _("There are {test:,} test and {ood:,} OOD images.", test=test, ood=ood)
    if test:
        return _("There are {test:,} test images.", test=test)
    return _("There are {ood:,} OOD images.", ood=ood) if ood else ""


def _confidence(made: Section, study: Study) -> None:
    """Mean class accuracy, likelihood and calibration of every model, as far as they were measured."""
    wanted = {  # heading -> evaluation, metric, and whether the value is shown in percent
        N_("Mean class accuracy (%)"): ("test", "mean_class_accuracy", True),
        N_("Negative log-likelihood"): ("test", "nll", False),
        N_("ECE, test (%)"): ("test", "ece", True),
        N_("OOD mean class accuracy (%)"): ("ood", "mean_class_accuracy", True),
        N_("ECE, OOD (%)"): ("ood", "ece", True),
        N_("Mean confidence, OOD (%)"): ("ood", "mean_confidence", True),
    }
    found = {
        heading: [_cell(estimate(study, model, evaluation, metric), percent=percent) for model in study.models]
        for heading, (evaluation, metric, percent) in wanted.items()
    }
    found = {heading: cells for heading, cells in found.items() if set(cells) != {tables.ABSENT}}
    rows = [
        [study.model_label(model), *(cells[index] for cells in found.values())]
        for index, model in enumerate(study.models)
    ]
    if found:
        made.table(
            "confidence",
            [_("Model"), *map(_, found)],
            rows,
            _(
                "Accuracy averaged over classes, likelihood and calibration; means over seeds, with 95 % intervals. "
                "ECE: expected calibration error, the absolute difference between confidence and accuracy, averaged "
                "over bins of confidence; sampling noise makes it too high, so its interval reaches further down than "
                "up."
            ),
            size=8,
        )


def _cell(found: Estimate | None, *, percent: bool) -> str:
    if percent or found is None:
        return tables.percent(found)
    low = None if found.low is None else max(0.0, found.low)  # a mean of numbers above 0
    value, lower, upper = (tables.fixed(number, 3) for number in (found.value, low, found.high))
    text = _("{value} [{low}, {high}]", value=value, low=lower, high=upper) if found.bounds else value
    return NumberText(text, value=found.value, low=low, high=found.high)


def by_class(study: Study, figures: Path) -> Section:
    """Calibration, accuracy by class, confusion, reliability."""
    made = Section(_("Classes and confidence"), ("probe", "finetune", "ood"))
    _confidence(made, study)
    _accuracies(made, study, figures)
    _confusion(made, study, figures)
    _reliability(made, study, figures)
    return made


def _accuracies(made: Section, study: Study, figures: Path) -> None:
    made.figure(
        figures,
        "per-class",
        classes.heat_maps(study),
        _(
            "Accuracy of each model on each class, in percent, mean over seeds. {absent}: the class has no images, or "
            "the model has no accuracy.",
            absent=tables.ABSENT,
        )
        + _star(study)
        + left_out(classes.by_class(study), classes.ROWS),
        _("a dark column is a class that is hard for every model; a dark row is a weak model."),
    )


def _star(study: Study) -> str:
    """What a star after a class means, after a space; empty without one."""
    if not tables.substituted(study):
        return ""
    return " " + _("*: includes the OOD images of a class that the models lack (for CIFAR-10: frogs count as monkeys).")


def _confusion(made: Section, study: Study, figures: Path) -> None:
    captions = {
        "test": _("Confusion on the test images, all seeds together; each row sums to one."),
        "ood": _("Confusion on the OOD images, all seeds together; each row sums to one.") + _star(study),
    }
    for evaluation, caption in captions.items():
        some = left_out(classes.predicting(study, evaluation), classes.PANELS)
        made.figure(
            figures,
            f"confusion-{evaluation}",
            classes.confusion(study, evaluation),
            caption + some,
            _("dark squares off the diagonal are systematic errors; rows are true, columns are predicted classes."),
        )


def _reliability(made: Section, study: Study, figures: Path) -> None:
    reliability = classes.reliability(study)
    if reliability is None and study.models:
        made.text(
            _("There is no reliability diagram, because no model has ten images in each of two bins of confidence.")
        )
    made.figure(
        figures,
        "reliability",
        reliability,
        _(
            "Reliability diagrams from the logits of all seeds. Top: accuracy of the images in each of 15 bins of "
            "confidence (bins with fewer than ten images are omitted). Bottom: share of the images in each bin."
        )
        + left_out(classes.reliable(study), classes.PANELS),
        _("below the diagonal a model is overconfident: its predictions are correct less often than their confidence."),
    )
