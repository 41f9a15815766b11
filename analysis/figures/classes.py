"""Accuracy by class, confusion matrices and reliability diagrams."""

from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import calibration
from analysis.calibration import Curve
from analysis.estimates import estimate
from analysis.figures import style
from analysis.names import Model
from analysis.selection import selected
from analysis.study import Study
from analysis.tables import class_names, substituted, whole_percent
from analysis.variance import Floats
from analysis.words import N_, _
from ssl_pkg.rows import dimensions_of

ROWS: Final = 20  # models in the heat maps of a page
PANELS: Final = 16  # models in a page of panels
_CONFUSED = 13  # classes whose names fit beside a confusion matrix
_KINDS: Final[dict[str, dict[str, Any]]] = {
    "test": {"color": "#0072B2", "linestyle": "-", "label": N_("test")},
    "ood": {"color": "#D55E00", "linestyle": "--", "label": N_("OOD")},
}


def heat_maps(study: Study) -> Figure | None:
    """Accuracy of each model on each class; test in the upper panel, OOD in the lower one."""
    shown = [kind for kind in ("test", "ood") if class_names(study, kind)]
    if not shown or not study.models:
        return None
    tables = {kind: _table(study, kind) for kind in shown}
    shown = [kind for kind in shown if tables[kind][0]]
    if not shown:
        return None
    values = np.concatenate([values.ravel() for _, _, values in tables.values()])
    limits = np.floor(10 * np.nanmin(values)) / 10, np.ceil(10 * np.nanmax(values)) / 10
    figure, panels = style.grid(len(shown), 1, 0.9 + 0.185 * min(ROWS, len(by_class(study))))
    image: Any = None
    for axes, evaluation in zip(panels, shown, strict=True):
        image = _heat_map(axes, *tables[evaluation], limits)
        axes.set_title(_("Test") if evaluation == "test" else _("OOD"), loc="left")
    bar = figure.colorbar(image, ax=panels, shrink=0.6, aspect=30, pad=0.01)
    bar.set_label(_("accuracy (%)"))
    bar.outline.set_visible(False)
    style.percent_axis(bar.ax.yaxis)
    return figure


def by_class(study: Study) -> list[Model]:
    """The models that have an accuracy of a class."""
    rows = study.results
    own = rows["evaluation"].isin(["test", "ood"]) & rows["class"].notna() & rows["value"].notna()
    found = set(rows.loc[own, "model"])
    return [model for model in study.models if model in found]


def _table(study: Study, evaluation: str) -> tuple[list[str], list[str], Floats]:
    """The labels of the models that have accuracies by class, the classes, and the accuracies."""
    labels = class_names(study, evaluation)
    keys = [dimensions_of({"class": label}) for label in labels]
    models = selected(study, by_class(study), ROWS)
    found = {model: [estimate(study, model, evaluation, "accuracy", key) for key in keys] for model in models}
    found = {model: row for model, row in found.items() if any(row)}
    values = [[np.nan if entry is None else entry.value for entry in row] for row in found.values()]
    if evaluation == "ood":
        labels = marked(study, labels)
    return (
        [study.model_label(model) for model in found],
        labels,
        np.array(values, float).reshape(len(found), len(labels)),
    )


def _heat_map(axes: Axes, models: list[str], labels: list[str], values: Floats, limits: tuple[float, float]) -> Any:
    image = axes.imshow(values, vmin=limits[0], vmax=limits[1], cmap="cividis", aspect="auto")
    for (row, column), value in np.ndenumerate(values if len(labels) <= style.NUMBERED else np.empty((0, 0))):
        shade = "white" if value < 0.45 * limits[0] + 0.55 * limits[1] else "black"
        text = whole_percent(value if np.isfinite(value) else None)
        axes.text(column, row, text, ha="center", va="center", color=shade, fontsize=7)
    axes.grid(False)
    axes.tick_params(length=0)
    axes.set_yticks(range(len(models)), models)
    shown = style.shortened(labels)
    places = style.named(len(labels))
    slant = 30 if len(places) <= style.NUMBERED else 90
    axes.set_xticks(places, [shown[place] for place in places], rotation=slant, ha="right", rotation_mode="anchor")
    for spine in axes.spines.values():
        spine.set_visible(False)
    return image


def confusion(study: Study, evaluation: str) -> Figure | None:
    """Confusion matrix of each model over all its seeds; each row (true class) sums to one.

    evaluation: `test` or `ood`.
    """
    found = {
        model: joined(study, model, evaluation) for model in selected(study, predicting(study, evaluation), PANELS)
    }
    shown = {model: arrays for model, arrays in found.items() if arrays is not None}
    if not shown:
        return None
    count = next(iter(shown.values()))[0].shape[1]
    predicted, true = _confusion_names(study, evaluation, count)
    figure, panels = style.grid(len(shown), 4, 2.1, sharex=True, sharey=True, layout="compressed")
    places = style.named(count, _CONFUSED)
    image: Any = None
    for axes, (model, (logits, labels)) in zip(panels, shown.items(), strict=True):
        matrix = counted(logits, labels)
        image = axes.imshow(matrix / np.maximum(matrix.sum(1, keepdims=True), 1), vmin=0, vmax=1, cmap="Blues")
        style.title(axes, study.model_label(model), 17)
        axes.set_xticks(places, [predicted[place] for place in places], rotation=90)
        axes.set_yticks(places, [true[place] for place in places])
        axes.tick_params(length=0)
        axes.grid(False)
    for axes in panels[-4:]:
        axes.tick_params(labelbottom=True)
    bar = figure.colorbar(image, ax=panels, shrink=0.5 if len(panels) > 4 else 0.95, aspect=30, pad=0.01)
    bar.set_label(_("share"))
    figure.supxlabel(_("predicted class"), fontsize=7.5)
    figure.supylabel(_("true class"), fontsize=7.5)
    return figure


@lru_cache(maxsize=4)
def predicting(study: Study, evaluation: str) -> tuple[Model, ...]:
    """The models that have predictions of as many classes as the first of them."""
    counts = {model: found[0].shape[1] for model in study.models if (found := joined(study, model, evaluation))}
    return tuple(model for model, count in counts.items() if count == next(iter(counts.values())))


def marked(study: Study, labels: list[str]) -> list[str]:
    """Class names, with a star at each class that replaces an OOD class that the models lack."""
    return [f"{name}*" if name in substituted(study) else name for name in labels]


def _confusion_names(study: Study, evaluation: str, count: int) -> tuple[list[str], list[str]]:
    classes = next((run.classes for run in study.complete() if len(run.classes) == count), None)
    predicted = classes or [str(index) for index in range(count)]
    true = marked(study, predicted) if evaluation == "ood" else predicted
    return style.shortened(predicted), style.shortened(true)


def joined(study: Study, model: Model, evaluation: str) -> tuple[Floats, npt.NDArray[np.int64]] | None:
    """Logits (n, C) and labels (n,) of a model, concatenated over its seeds."""
    parts = list(study.predictions(model, evaluation).values())
    parts = [part for part in parts if _width(part) == _width(parts[0])]
    if not parts:
        return None
    logits = np.concatenate([part["logits"] for part in parts]).astype(float)
    return logits, np.concatenate([part["labels"] for part in parts]).astype(np.int64)


def counted(logits: Floats, labels: npt.NDArray[np.int64]) -> Floats:
    """The confusion matrix (C, C) from logits (n, C) and labels (n,): the images of a class, by predicted class."""
    matrix = np.zeros((logits.shape[1], logits.shape[1]))
    np.add.at(matrix, (labels, logits.argmax(axis=1)), 1)
    return matrix


def _width(part: dict[str, npt.NDArray[Any]]) -> int:
    return int(part["logits"].shape[1])


def reliability(study: Study) -> Figure | None:
    """Accuracy over confidence on test and OOD, with a histogram of the confidence below.

    A curve needs two bins with enough images. A model without one is left out.
    """
    shown = {model: _curves(study, model) for model in selected(study, reliable(study), PANELS)}
    if not shown:
        return None
    rows = -(-len(shown) // 4)
    figure, panels = style.rows_of(2 * rows, 4, 0.95, sharex=True, sharey="row", height_ratios=[3, 1] * rows)
    pairs = [
        (panels[2 * (index // 4), index % 4], panels[2 * (index // 4) + 1, index % 4]) for index in range(4 * rows)
    ]
    for upper, lower in pairs[len(shown) :]:
        upper.set_axis_off()
        lower.set_axis_off()
    for (upper, lower), (model, parts) in zip(pairs, shown.items(), strict=False):
        upper.plot([0, 1], [0, 1], color="#999999", linewidth=0.6, label=_("diagonal"))
        for kind, part in parts.items():
            _calibration(upper, lower, part, **_kind(kind))
        style.title(upper, study.model_label(model), 24)
        lower.set_label(_("{model}: share of the images", model=study.model_label(model)))
        upper.set(xlim=(0, 1), ylim=(0, 1), xticks=[0, 0.5, 1])
        lower.set(ylim=(0, 1), yticks=[])
    for upper, lower in pairs[::4]:
        upper.set_ylabel(_("accuracy"))
        lower.set_ylabel(_("share"))
    handles = [Line2D([], [], **_kind(kind)) for kind in _KINDS if any(kind in parts for parts in shown.values())]
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    figure.supxlabel(_("confidence (largest softmax probability)"), fontsize=7.5)
    return figure


def _kind(kind: str) -> dict[str, Any]:
    """The look of an evaluation, with its label."""
    return _KINDS[kind] | {"label": _(_KINDS[kind]["label"])}


@lru_cache(maxsize=1)
def reliable(study: Study) -> tuple[Model, ...]:
    """The models that have a curve in the reliability diagram."""
    return tuple(model for model in study.models if _curves(study, model))


def _curves(study: Study, model: Model) -> dict[str, Curve]:
    """The model's curves on test and OOD."""
    found = {kind: reliability_curve(study, model, kind) for kind in _KINDS}
    return {kind: curve for kind, curve in found.items() if curve is not None}


def reliability_curve(study: Study, model: Model, evaluation: str) -> Curve | None:
    """The reliability curve of a model on `test` or `ood`, from the logits of all its seeds."""
    found = joined(study, model, evaluation)
    return None if found is None else calibration.curve(*found)


def _calibration(upper: Axes, lower: Axes, curve: Curve, **look: Any) -> None:
    upper.plot(curve.confidence, curve.accuracy, marker="o", markersize=2.2, **look)
    lower.stairs(curve.shares, np.linspace(0, 1, calibration.BINS + 1), **look)
