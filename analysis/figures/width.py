"""Loss landscapes around each optimum, and the width of the optimum against accuracy."""

# ruff: noqa: RUF001 (texts for people have Greek letters, dashes and minus signs)

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from analysis import names, words
from analysis.artifacts import Arrays
from analysis.correlation import TARGETS, Correlation, points
from analysis.figures import style
from analysis.measures import Measurement
from analysis.names import Model
from analysis.run import Run
from analysis.selection import LINES, selected
from analysis.study import Study
from analysis.tables import signed
from analysis.words import _
from ssl_pkg.catalogue import LANDSCAPE

PLANES: Final = 20  # models on a page
WIDE: Final = 30  # ratio of the largest to the smallest width above which an axis is logarithmic
WIDE_LOSS: Final = 20  # likewise, of the losses of a slice


def slices(study: Study) -> Figure | None:
    """Loss and accuracy along one filter-normalised direction for all models; mean over seeds."""
    every = lines_of(study)
    shown = {model: every[model] for model in selected(study, list(every), LINES)}
    if not shown:
        return None
    figure, panels = style.grid(2, 2, 1.9)
    for axes, name in zip(panels, ("loss", "accuracy"), strict=True):
        for model, arrays in shown.items():
            look = style.look(model, study.encoders)
            label = study.model_label(model)
            axes.plot(arrays["alphas"], arrays[name], look.line, color=look.color, label=label)
        axes.set(xlabel=_("α along the direction"), title=_("loss") if name == "loss" else _("accuracy (%)"))
    if style.is_wide((loss for arrays in shown.values() for loss in arrays["loss"]), WIDE_LOSS):
        style.log_axis(panels[0].yaxis)
        panels[0].set_title(_("loss (logarithmic)"))
    style.percent_axis(panels[1].yaxis)
    handles, labels = panels[0].get_legend_handles_labels()
    style.legend(figure, handles, labels)
    return figure


def planes(study: Study) -> Figure | None:
    """Loss on a filter-normalised plane with the same levels for every model; first seed."""
    every = planes_of(study)
    found = {model: every[model][1] for model in selected(study, list(every), PLANES)}
    if not found:
        return None
    figure, panels = style.grid(len(found), 4, 1.45, sharex=True, sharey=True, layout="compressed")
    levels = levels_of([arrays["plane"] for arrays in found.values()])
    drawn: Any = None
    for axes, (model, arrays) in zip(panels, found.items(), strict=True):
        plane = np.clip(arrays["plane"].astype(float), levels[0], levels[-1]).T
        drawn = axes.contourf(arrays["grid"], arrays["grid"], plane, levels=levels, cmap="cividis")
        axes.contour(arrays["grid"], arrays["grid"], plane, levels=levels, colors="white", linewidths=0.3)
        axes.plot(0, 0, "+", color="white", markersize=5, label=_("trained model"))
        axes.set(aspect="equal")
        style.title(axes, study.model_label(model), 16)
        axes.grid(False)
    for index, axes in enumerate(panels):
        axes.set(xlabel="α" if index >= len(panels) - 4 else "", ylabel="β" if index % 4 == 0 else "")
    shown = FuncFormatter(lambda value, place: words.localized(f"{float(f'{value:.2g}'):,g}"))
    shrink = 0.6 if len(panels) > 4 else 0.95
    bar = figure.colorbar(drawn, ax=panels, shrink=shrink, aspect=30, pad=0.01, format=shown, ticks=levels[::3])
    bar.set_label(_("loss"))
    return figure


def scatter(study: Study, measures: Sequence[Measurement], found: Sequence[Correlation]) -> Figure | None:
    """Each measure against test accuracy, OOD accuracy and generalisation gap, with a point for each model."""
    pairs = [(measure, target) for measure in measures for target in TARGETS if points(study, measure, target)]
    if not pairs:
        return None
    figure, panels = style.grid(len(pairs), len(TARGETS), 2.1)
    by_pair = {(entry.measure, entry.target): entry for entry in found if entry.kind == "all"}
    models: dict[Model, None] = {}
    for axes, (measure, target) in zip(panels, pairs, strict=True):
        shown = points(study, measure, target)
        models.update(dict.fromkeys(shown))
        _points(axes, study, shown)
        entry = by_pair.get((measure, target))
        rank = _("ρ = {rho}, n = {n}", rho=signed(entry.rho, 2), n=entry.n) if entry else f"n = {len(shown)}"
        axes.set(xlabel=_short(measure), ylabel=f"{_(TARGETS[target])} (%)", title=rank, label=_(TARGETS[target]))
    handles, labels = _handles(panels, [study.model_label(model) for model in names.in_order(models, study.methods)])
    style.legend(figure, handles, labels, handletextpad=0.1)
    return figure


def forest(found: Sequence[Correlation]) -> Figure | None:
    """Spearman's rho of every measure with its interval."""
    if not found:
        return None
    measures = list(dict.fromkeys(entry.measure for entry in found))
    targets = [target for target in TARGETS if any(entry.target == target for entry in found)]
    figure, panels = style.rows_of(1, len(targets), 0.6 + 0.17 * len(measures), sharey=True)
    for axes, target in zip(panels[0], targets, strict=True):
        axes.axvline(0, color="#999999", linewidth=0.7, label=_("no relation"))
        for entry in found:
            if entry.target == target:
                row = measures.index(entry.measure)
                if entry.low is not None and entry.high is not None:
                    axes.plot([entry.low, entry.high], [row, row], color="#0072B2", linewidth=1.2, label=_("interval"))
                axes.plot(entry.rho, row, "o", color="#0072B2", markersize=3.5, label="ρ")
        axes.set(xlim=(-1.05, 1.05), xlabel=_("Spearman's ρ"))
        style.title(axes, _(TARGETS[target]), 14)
        axes.grid(axis="y", visible=False)
    panels[0, 0].set_yticks(range(len(measures)), [measure.label for measure in measures])
    panels[0, 0].set_ylim(len(measures) - 0.5, -0.5)
    return figure


def _models(study: Study) -> list[Model]:
    return names.in_order((run.model for run in study.complete("width")), study.methods)


def lines_of(study: Study) -> dict[Model, Arrays]:
    """alphas, loss and accuracy along the direction for each model: means over its seeds."""
    found = {model: _mean(study, model, ("alphas", "loss", "accuracy")) for model in _models(study)}
    return {model: arrays for model, arrays in found.items() if arrays is not None}


def planes_of(study: Study) -> dict[Model, tuple[Run, Arrays]]:
    """grid and plane of each model that has a drawable plane, with their run: the first seed."""
    found = {model: _landscapes(study, model, ("grid", "plane"))[:1] for model in _models(study)}
    return {model: first for model, entries in found.items() for first in entries if _drawable(first[1]["plane"])}


def _landscapes(study: Study, model: Model, needed: tuple[str, ...]) -> list[tuple[Run, Arrays]]:
    found = [(run, run.arrays(LANDSCAPE.file, *needed)) for run in study.complete("width", model)]
    return [(run, arrays) for run, arrays in found if arrays is not None]


def _mean(study: Study, model: Model, columns: tuple[str, ...]) -> Arrays | None:
    found = [arrays for _, arrays in _landscapes(study, model, columns)]
    found = [arrays for arrays in found if arrays["loss"].shape == found[0]["loss"].shape and _finite(arrays["loss"])]
    return {name: np.mean([arrays[name] for arrays in found], axis=0) for name in columns} if found else None


def _finite(values: Any) -> bool:
    return bool(np.isfinite(values).all())


def _drawable(plane: Any) -> bool:
    return len(plane) > 1 and _finite(plane)  # contours need two points on each side


def levels_of(planes: Sequence[Any]) -> Any:
    """Ten levels, evenly spaced in the logarithm, from the lowest loss to the median of the planes' highest losses."""
    low = max(min(float(plane.min()) for plane in planes), 1e-4)
    high = max(float(np.median([plane.max() for plane in planes])), 1.5 * low)
    return np.geomspace(low, high, 10)


def _points(axes: Axes, study: Study, shown: dict[Model, tuple[float, float]]) -> None:
    for model, (width, accuracy) in shown.items():
        look = style.look(model, study.encoders)
        label = study.model_label(model)
        axes.plot(width, accuracy, look.marker, color=look.color, markerfacecolor=look.face, markersize=4, label=label)
    style.percent_axis(axes.yaxis)
    if style.is_wide((width for width, _ in shown.values()), WIDE):
        style.log_axis(axes.xaxis)
    else:
        axes.locator_params(axis="x", nbins=4)
        axes.ticklabel_format(axis="x", scilimits=(-3, 5))


def _short(measure: Measurement) -> str:
    """A measure's label, shortened to at most two lines, or to shorter ones if they are too wide for a panel."""
    label = re.sub(r" \(.*?\)", "", measure.label).replace(" sharpness", "")
    lines = label.split(", ", 1)
    return ",\n".join(lines) if max(map(len, lines)) <= style.letters(33) else style.wrapped(label, 33)


def _handles(panels: Sequence[Axes], wanted: Sequence[str]) -> tuple[list[Any], list[str]]:
    seen: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        seen.update(zip(labels, handles, strict=True))
    return [seen[label] for label in wanted], list(wanted)
