"""t-SNE maps of train and test images for every model, and aligned frames of fine-tuning."""

import textwrap
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.artifacts import Arrays
from analysis.figures import style
from analysis.names import Model
from analysis.run import Run
from analysis.selection import selected
from analysis.study import Study
from analysis.words import _
from ssl_pkg.catalogue import TSNE

Points = npt.NDArray[Any]
JOINT: Final = ("train", "train_labels", "test", "test_labels")  # the arrays of a map of train and test
FRAMES: Final = ("frames", "frame_steps", "frame_labels")  # the arrays of the maps during fine-tuning
MAPS: Final = 15  # models on a page
ROWS: Final = 6  # models on a page with their frames
_PANELS = 7  # most panels of a row: the first and the last frame, and some between, at equal distances if possible
_DOTS = 1000  # points in a panel; more would overlap


def maps(study: Study) -> Figure | None:
    """Train and test maps side by side, three models in a row; a class's number is at the median of its points."""
    found = _arrays(study, MAPS, *JOINT)
    if not found:
        return None
    figure, panels = style.grid(2 * len(found), 6, 1.4)
    for index, (model, arrays) in enumerate(found.items()):
        reach = _reach(np.concatenate([arrays["train"], arrays["test"]]))
        label = study.model_label(model)
        titles = {"train": _("{model}: train", model=label), "test": _("{model}: test", model=label)}
        for axes, (split, title) in zip(panels[2 * index : 2 * index + 2], titles.items(), strict=True):
            _scatter(axes, arrays[split], arrays[f"{split}_labels"])
            axes.set(xlim=reach[0], ylim=reach[1])
            style.title(axes, title, 17)
    _legend(figure, study, found)
    return figure


def frames(study: Study) -> Figure | None:
    """The embedding of the same test images at several steps of fine-tuning; a row for each model."""
    found = _arrays(study, ROWS, *FRAMES)
    if not found:
        return None
    most = max(len(arrays["frames"]) for arrays in found.values())
    largest = min(_PANELS, most)
    columns = max(4, next((count for count in range(largest, 3, -1) if (most - 1) % (count - 1) == 0), largest))
    figure, panels = style.rows_of(len(found), columns, 1.28)
    for row, (model, arrays) in zip(panels, found.items(), strict=True):
        chosen = np.unique(np.linspace(0, len(arrays["frames"]) - 1, columns).round().astype(int))
        reach = _reach(arrays["frames"])
        for axes in row[len(chosen) :]:
            axes.set_axis_off()
        for axes, index in zip(row, chosen, strict=False):
            _scatter(axes, arrays["frames"][index], arrays["frame_labels"], size=1.6)
            axes.set(xlim=reach[0], ylim=reach[1])
            step = int(arrays["frame_steps"][index])
            axes.set_title(_("step {step:,}", step=step))
            axes.set_label(_("{model}, step {step}", model=study.model_label(model), step=step))
        row[0].set_ylabel(textwrap.fill(study.model_label(model.encoder), 20))
    _legend(figure, study, found)
    return figure


def maps_of(study: Study, *needed: str) -> dict[Model, tuple[Run, Arrays]]:
    """The maps of each model with their run: the first seed with the arrays `needed`."""
    found: dict[Model, tuple[Run, Arrays]] = {}
    for run in study.complete("embed"):
        arrays = run.arrays(TSNE.file, *needed)
        if arrays is not None:
            found.setdefault(run.model, (run, arrays))
    return found


def _arrays(study: Study, most: int, *needed: str) -> dict[Model, Arrays]:
    found = maps_of(study, *needed)
    return {model: found[model][1] for model in selected(study, list(found), most)}


def _scatter(axes: Axes, points: Points, labels: Points, size: float = 2.2) -> None:
    """Draws the points with a colour and a marker for each class, and at their median its number, unless there are too
    many classes."""
    style.bare(axes)
    kept = np.random.default_rng(0).permutation(len(points))[:_DOTS]
    size *= min(2.5, (_DOTS / max(len(kept), 1)) ** 0.5)
    halo: list[patheffects.AbstractPathEffect] = [patheffects.withStroke(linewidth=1.6, foreground="white")]
    present = np.unique(labels)
    for label in present:
        part = points[kept][labels[kept] == label]
        color, marker = style.class_look(int(label))
        name = _("class {label}", label=int(label))
        options: Any = {"linewidths": 0, "alpha": 0.75, "rasterized": True, "label": name}
        axes.scatter(part[:, 0], part[:, 1], s=size, c=color, marker=marker, **options)
    for label in present if len(present) <= style.NUMBERED else ():
        x, y = np.median(points[labels == label], axis=0)
        color = style.class_look(int(label))[0]
        text = axes.text(x, y, str(int(label)), color=color, fontsize=7.5, fontweight="bold", ha="center", va="center")
        text.set_path_effects(halo)


def _legend(figure: Figure, study: Study, found: dict[Model, Arrays]) -> None:
    keys = ("test_labels", "frame_labels")
    labels = sorted({int(label) for arrays in found.values() for key in keys for label in arrays.get(key, ())})
    classes = next((run.classes for run in study.complete("embed") if run.classes), [])
    handles = []
    for label in labels[: style.NAMED]:
        color, marker = style.class_look(label)
        name = style.shortened(classes)[label] if label < len(classes) else _("class")
        handles.append(Line2D([], [], color=color, marker=marker, linestyle="", markersize=4, label=f"{label} {name}"))
    if len(labels) > style.NAMED:
        handles.append(Line2D([], [], linestyle="", label=_("and {n} more", n=len(labels) - style.NAMED)))
    figure.legend(handles=handles, loc="outside lower center", ncols=5, handletextpad=0.1, columnspacing=1.4)


def _reach(points: Points) -> tuple[tuple[float, float], tuple[float, float]]:
    """Axis limits that contain all points, for panels that share a map."""
    low, high = points.reshape(-1, 2).min(0), points.reshape(-1, 2).max(0)
    margin = 0.05 * (high - low) + 1e-6
    (x0, y0), (x1, y1) = low - margin, high + margin
    return (float(x0), float(x1)), (float(y0), float(y1))
