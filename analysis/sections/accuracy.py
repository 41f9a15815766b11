"""Accuracy of every model: the main table and its figure; then accuracy by class, confusion and calibration."""

from pathlib import Path

from analysis import tables
from analysis.blocks import Section
from analysis.data import data_label
from analysis.estimates import Estimate, estimate
from analysis.figures import classes
from analysis.selection import left_out
from analysis.shown import Shown
from analysis.study import Study

_MEANING = {
    "test": "Test accuracy: share of correct predictions on the labelled test split, which was not used for any "
    "choice.",
    "ood10": "OOD: the same models, unchanged, on images from another data set.",
    "ood9": "That data set has a class that the models lack. With all classes, a class of the models counts as this "
    "class (for CIFAR-10: the prediction “monkey” is correct for a frog); with the shared classes, its images are "
    "excluded.",
    "knn": "kNN: weighted nearest neighbours of the test images among the labelled train images, by their embeddings.",
    "knn_validation": "kNN: weighted nearest neighbours on the holdout split of labelled train after the last epoch of "
    "pretraining, shown in the row of the encoder's probe.",
}

_CROPS = (
    "The heads of the supervised and fine-tuned models were trained on random crops and are tested on whole images, "
    "which can reduce their accuracy (Touvron et al., 2019). kNN compares whole images with whole images, so its "
    "accuracy can be higher than theirs."
)


def section(study: Study) -> Section:
    """The main table, whose figure is on the first page."""
    made = Section("Accuracy", ("pretrain", "probe", "finetune", "ood", "embed"))
    if not study.models:
        made.text("No complete run has a test accuracy yet.")
        return made
    headings, rows = tables.summary_text(study)
    widths = [1.4, *([1.3] * (len(headings) - 2)), 1.3 if any("[" in row[-1] for row in rows) else 0.9]
    made.text(_meanings(study))
    caption = f"Accuracies in percent on {data_label(study)}. {_numbers(study)}"
    made.table("accuracy", headings, rows, caption, size=8.5, widths=widths)
    return made


def _meanings(study: Study) -> str:
    """The meaning of each column of the main table."""
    meanings = [_MEANING[column.key] for column in tables.main_columns(study)]
    gains = "Gain: test accuracy minus that of a linear probe on the random initialisation, in percentage points."
    fitted_on_crops = any(model.adaptation != "probe" for model in study.models)
    crops = [_CROPS] if _MEANING["knn"] in meanings and fitted_on_crops else []
    return " ".join([*meanings, *crops, gains])


def _numbers(study: Study) -> str:
    found = [(kind, estimate(study, study.models[-1], kind, "accuracy")) for kind in ("test", "ood")]
    counts = [f"{entry.n:,} {kind if kind == 'test' else 'OOD'}" for kind, entry in found if entry and entry.n]
    images = f" There are {' and '.join(counts)} images." if counts else ""
    seeds = f" {study.seeds_text}" if study.seeds_text else ""
    return f"Means over seeds; brackets: 95 % intervals{_over(study)}.{images}{seeds}"


def _over(study: Study) -> str:
    several = study.seeds_tested > 1
    return " over seeds and test images" if several else " over the test images, of one seed"


def _confidence(made: Section, study: Study) -> None:
    """Mean class accuracy, likelihood and calibration of every model, as far as they were measured."""
    wanted = {  # heading -> evaluation, metric, and whether the value is shown in percent
        "Mean class accuracy (%)": ("test", "mean_class_accuracy", True),
        "Negative log-likelihood": ("test", "nll", False),
        "ECE, test (%)": ("test", "ece", True),
        "OOD mean class accuracy (%)": ("ood", "mean_class_accuracy", True),
        "ECE, OOD (%)": ("ood", "ece", True),
        "Mean confidence, OOD (%)": ("ood", "mean_confidence", True),
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
            ["Model", *found],
            rows,
            "Accuracy averaged over classes, likelihood and calibration; means over seeds, with 95 % intervals. ECE: "
            "expected calibration error, the absolute difference between confidence and accuracy, averaged over bins "
            "of confidence; sampling noise makes it too high, so its interval reaches further down than up.",
            size=8,
            widths=[1.2, *([1.0] * len(found))],
        )


def _cell(found: Estimate | None, *, percent: bool) -> str:
    if percent or found is None:
        return tables.percent(found)
    interval = f" [{found.low:.3f}, {found.high:.3f}]" if found.bounds else ""
    return Shown(f"{found.value:.3f}{interval}", value=found.value, low=found.low, high=found.high)


def by_class(study: Study, figures: Path) -> Section:
    """Calibration, accuracy by class, confusion, reliability."""
    made = Section("Classes and confidence", ("probe", "finetune", "ood"))
    _confidence(made, study)
    rule = ""
    if tables.substituted(study):
        rule = " *: includes the OOD images of a class that the models lack (for CIFAR-10: frogs count as monkeys)."
    made.figure(
        figures,
        "per-class",
        classes.heat_maps(study),
        f"Accuracy of each model on each class, in percent, mean over seeds. {tables.ABSENT}: the class has no images, "
        f"or the model has no accuracy.{rule}{left_out(classes.by_class(study), classes.ROWS)}",
        "a dark column is a class that is hard for every model; a dark row is a weak model.",
    )
    for evaluation, caption in {"test": "Confusion on the test images", "ood": "Confusion on the OOD images"}.items():
        some = left_out(classes.predicting(study, evaluation), classes.PANELS)
        made.figure(
            figures,
            f"confusion-{evaluation}",
            classes.confusion(study, evaluation),
            f"{caption}, all seeds together; each row sums to one.{rule if evaluation == 'ood' else ''}{some}",
            "dark squares off the diagonal are systematic errors; rows are true, columns are predicted classes.",
        )
    reliability = classes.reliability(study)
    if reliability is None and study.models:
        made.text("There is no reliability diagram, because no model has ten images in each of two bins of confidence.")
    made.figure(
        figures,
        "reliability",
        reliability,
        "Reliability diagrams from the logits of all seeds. Top: accuracy of the images in each of 15 bins of "
        "confidence (bins with fewer than ten images are omitted). Bottom: share of the images in each bin."
        + left_out(classes.reliable(study), classes.PANELS),
        "below the diagonal a model is overconfident: its predictions are correct less often than their confidence.",
    )
    return made
