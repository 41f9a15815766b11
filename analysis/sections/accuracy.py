"""Accuracy of every model: the main table, its figure, and what is behind it by class."""

from pathlib import Path

from analysis import tables
from analysis.blocks import Section
from analysis.estimates import estimate
from analysis.figures import accuracy, classes
from analysis.study import Study

_MEANING = {
    "test": "Test accuracy: share of right predictions on the labelled test split, which no choice was made on.",
    "ood10": "OOD: the same models, unchanged, on images of another source.",
    "ood9": "Where that source has a class that the models lack, one of theirs counts as it among all classes (in "
    "CIFAR-10: a prediction “monkey” is right on a frog); among the shared classes its images are left out.",
    "knn": "kNN: weighted nearest neighbours of the test images' embeddings among those of labelled train.",
    "knn_validation": "kNN: weighted nearest neighbours on held-out labelled train after the last epoch of "
    "pretraining; it stands in the row of the frozen encoder's probe.",
}

_CROPS = (
    "The heads of the supervised and the fine-tuned models were fitted on random crops and are tested on whole images, "
    "which can cost them accuracy (Touvron et al., 2019); kNN compares whole images with whole images, so it can lie "
    "above them."
)


def section(study: Study, figures: Path) -> Section:
    """The main table and its figure."""
    made = Section("Accuracy")
    if not study.models:
        made.text("No complete run has a test accuracy yet.")
        return made
    headings, rows = tables.summary_text(study)
    widths = [1.4, *([1.3] * (len(headings) - 2)), 1.3 if any("[" in row[-1] for row in rows) else 0.9]
    made.text(_meanings(study))
    made.table(headings, rows, f"Accuracies in percent. {_numbers(study)}", size=8.5, widths=widths)
    made.figure(
        figures,
        "accuracy",
        accuracy.dots(study),
        f"The accuracies of the table above. {_bars(study)} The dotted line is the random initialisation's probe.",
        "further right is better; two models whose bars overlap by much can't be told apart.",
    )
    return made


def _meanings(study: Study) -> str:
    """What each column of the main table is."""
    meanings = [_MEANING[column.key] for column in tables.main_columns(study)]
    gains = (
        "Gain: test accuracy minus that of a linear probe on the random initialisation, in points, with its 95 % "
        "interval (over seeds where there are several, else over the same test images)."
    )
    fitted_on_crops = any(model.adaptation != "probe" for model in study.models)
    crops = [_CROPS] if _MEANING["knn"] in meanings and fitted_on_crops else []
    return " ".join([*meanings, *crops, gains])


def _numbers(study: Study) -> str:
    found = [(kind, estimate(study, study.models[-1], kind, "accuracy")) for kind in ("test", "ood")]
    counts = [f"{entry.n:,} {kind if kind == 'test' else 'OOD'}" for kind, entry in found if entry and entry.n]
    images = f" There are {' and '.join(counts)} images." if counts else ""
    if study.seeds_tested > 1:
        return f"Cells: mean ± standard deviation over seeds; brackets: 95 % Wilson interval of one seed.{images}"
    return f"Brackets: 95 % Wilson interval over the images.{images}"


def _bars(study: Study) -> str:
    if study.seeds_tested > 1:
        return (
            "Bars: one standard deviation over seeds to both sides (ticks: single seeds), or the Wilson interval of "
            "one seed."
        )
    return "Bars: 95 % Wilson intervals over the images, of one seed."


def _confidence(made: Section, study: Study) -> None:
    """Likelihood and calibration of every model, where they were measured."""
    wanted = {
        "Mean class accuracy (%)": ("test", "mean_class_accuracy"),
        "Negative log-likelihood": ("test", "nll"),
        "ECE, test (%)": ("test", "ece"),
        "OOD mean class accuracy (%)": ("ood", "mean_class_accuracy"),
        "ECE, OOD (%)": ("ood", "ece"),
        "Mean confidence, OOD (%)": ("ood", "mean_confidence"),
    }
    found = {key: [estimate(study, model, *place) for model in study.models] for key, place in wanted.items()}
    found = {key: column for key, column in found.items() if any(column)}
    rows = []
    for index, model in enumerate(study.models):
        cells = []
        for key, column in found.items():
            value = column[index]
            scale = 100 if key.endswith("(%)") else 1
            cells.append(tables.ABSENT if value is None else f"{scale * value.value:.{1 if scale == 100 else 3}f}")
        rows.append([study.model_label(model), *cells])
    if found:
        made.table(
            ["Model", *found],
            rows,
            "Mean over classes (classes may differ in size), likelihood and calibration, means over seeds. ECE: "
            "expected calibration error, the gap between confidence and accuracy averaged over bins of confidence.",
            widths=[1.7, *([1.0] * len(found))],
        )


def by_class(study: Study, figures: Path) -> Section:
    """Calibration, accuracy by class, confusion, reliability."""
    made = Section("Classes and confidence")
    _confidence(made, study)
    rule = ""
    if tables.substituted(study):
        rule = " *: OOD images of a class that the models lack, counted as this one (CIFAR-10's frogs as monkeys)."
    made.figure(
        figures,
        "per-class",
        classes.heat_maps(study),
        f"Accuracy of each model on each class, in percent, mean over seeds; {tables.ABSENT}: the class has no images, "
        f"or the model no accuracy.{rule}",
        "a dark column is a class that every model finds hard, a dark row a weak model.",
    )
    made.figure(
        figures,
        "confusion-ood",
        classes.confusion(study),
        f"Confusion on the OOD images, all seeds together; each row sums to one.{rule}",
        "dark squares off the diagonal are systematic mistakes: the true class on the left, what was said below.",
    )
    made.figure(
        figures,
        "reliability",
        classes.reliability(study),
        "Reliability of the confidence, from the logits of all seeds: accuracy of the images in each of 15 bins of "
        "confidence (bins with fewer than ten images left out), and below how many images fall into each bin.",
        "a curve under the diagonal is overconfident: right less often than its softmax says.",
    )
    return made
