"""Interactive figures of the loss around the optimum and of the measures of its width."""

# ruff: noqa: RUF001 (texts for people have Greek letters)

import math
import textwrap
from typing import Any

import numpy as np
import plotly.graph_objects as go

from analysis import tables
from analysis.figures import style
from analysis.figures.width import WIDE, WIDE_LOSS, levels_of, lines_of, planes_of
from analysis.measures import FIRST_ORDER, WIDTH, Measurement, chosen
from analysis.names import Model
from analysis.page.plots import (
    Plot,
    View,
    bars,
    floats,
    hover,
    line,
    marker,
    model_entries,
    rows_axis,
    rows_height,
    rows_side,
    runs_of,
    sources,
    text,
    traces,
    wrapped,
)
from analysis.study import Study
from analysis.widths import Measured, measured, measures_of, models_of
from analysis.words import _, localized


def landscape(study: Study) -> list[Plot]:
    """The loss on a plane around each optimum in 3-D, with the same height and colours for every model."""
    found = planes_of(study)
    if not found:
        return []
    levels = levels_of([arrays["plane"] for _run, arrays in found.values()])
    low, high = (float(np.log10(level)) for level in (levels[0], levels[-1]))
    heights = [float(f"{level:.2g}") for level in levels[::3]]
    step = (high - low) / 9
    axis = {
        "tickvals": [math.log10(value) for value in heights],
        "ticktext": [localized(f"{value:,g}") for value in heights],
    }
    views = []
    for model, (run, arrays) in found.items():
        plane, grid = arrays["plane"].astype(float).T, floats(arrays["grid"])
        lines = ["α %{x:.2f}, β %{y:.2f}", _("loss %{customdata:.4g}"), text(run.name)]
        shown = f"{'<br>'.join(lines)}<extra></extra>"
        surface = go.Surface(
            x=grid, y=grid, z=floats(np.log10(np.clip(plane, levels[0], levels[-1]))),
            customdata=floats(plane), hovertemplate=shown, colorscale="Cividis", cmin=low, cmax=high, showscale=False,
            contours={"z": {"show": True, "start": low, "end": high - step / 2, "size": step, "color": "#ffffff"}},
        )  # fmt: skip
        scene = {
            "xaxis": {"title": {"text": "α"}}, "yaxis": {"title": {"text": "β"}},
            "zaxis": {"title": {"text": _("loss")}, "range": [low, high + step / 4], **axis},
            "aspectratio": {"x": 1, "y": 1, "z": 0.7}, "camera": {"eye": {"x": 1.65, "y": 1.65, "z": 1.2}},
        }  # fmt: skip
        views.append(View(study.model_label(model), traces([surface], scene=scene), [run]))
    caption = _(
        "Loss on the plane of two filter-normalised random directions, logarithmic, with the same directions, heights "
        "and colours for every model; first seed. Higher losses are cut off. Drag to turn, or use the arrow keys. A "
        "large dark basin is an optimum that is wide in these two directions, out of millions."
    )
    return [Plot("landscape", _("Loss landscape"), caption, views, choice=_("Model"), height=520)]


def slices(study: Study) -> list[Plot]:
    """Loss and accuracy along one direction for all models."""
    found = lines_of(study)
    if not found:
        return []
    wide = style.is_wide((loss for arrays in found.values() for loss in arrays["loss"]), WIDE_LOSS)
    views = []
    for metric, label, axis in (
        ("loss", _("Loss"), {"type": "log", "nticks": 5} if wide else {}),
        ("accuracy", _("Accuracy"), {"tickformat": ".0%"}),
    ):
        value = "%{y:.1%}" if metric == "accuracy" else "%{y:.4g}"
        drawn = [
            go.Scatter(
                x=floats(arrays["alphas"]), y=floats(arrays[metric]), mode="lines", line=line(study, model),
                hovertemplate=f"{text(study.model_label(model))}<br>α %{{x:.2f}}: {value}<extra></extra>",
                legendgroup=model.full_name, name=text(study.model_label(model)),
            )
            for model, arrays in found.items()
        ]  # fmt: skip
        layout = {"xaxis": {"title": {"text": _("α along the direction")}}, "yaxis": {"title": {"text": label}, **axis}}
        runs = [run for run in study.complete("width") if run.model in found]
        views.append(View(label, traces(drawn, **layout), runs))
    caption = _(
        "Loss and accuracy on the subset along one filter-normalised random direction, the same for every model; mean "
        "over seeds. The wider the valley around α = 0, the less sensitive the model is to a change of its weights. "
        "Dashed lines: probes."
    )
    return [
        Plot(
            "landscape-line", _("Loss along a direction"), caption, views,
            legend=model_entries(study, found, lines=True),
        )
    ]  # fmt: skip


def widths(study: Study) -> list[Plot]:
    """Every measure of width for every model; the chosen measure comes first."""
    measures = [measure for measure in measures_of(study) if measure.metric != FIRST_ORDER]
    first = chosen(measures)
    ordered = sorted(measures, key=lambda measure: measure != first)
    views = [view for measure in ordered if (view := _measure(study, measure, measure == first)) is not None]
    if not views:
        return []
    shown = {run.model for view in views for run in view.runs}
    height = 40 + rows_height([study.model_label(model) for model in shown])
    caption = _(
        "The measures of the width of the optimum. Bars: 95 % intervals over seeds, or with one seed the interval of "
        "the row, as the PDF explains for each measure. A triangle is a bound, where the search ended at a limit. Open "
        "markers are probes."
    )
    return [
        Plot(
            "widths",
            _("Width of the optimum"),
            caption,
            views,
            choice=_("Measure"),
            height=height,
        )
    ]


def _measure(study: Study, measure: Measurement, first: bool) -> View | None:
    found = {model: measured(study, model, measure) for model in models_of(study, [measure])}
    shown = {model: entry for model, entry in found.items() if entry is not None and _place(entry) is not None}
    if not shown:
        return None
    drawn, runs = [], []
    for row, (model, entry) in enumerate(shown.items()):
        drawn.append(_dot(study, measure, model, entry, row))
        runs += runs_of(study, model, WIDTH, measure.metric, measure.dimensions)
    places = (place for entry in shown.values() if (place := _place(entry)) is not None)
    kind = {"type": "log"} if style.is_wide(places, WIDE) else {}
    axis = {"title": {"text": wrapped(measure.label, 22), "font": {"size": 13}}, "tickfont": {"size": 11}, **kind}
    axis |= rows_side(len(shown))
    label = _("{measure} (the chosen measure)", measure=measure.label) if first else measure.label
    return View(label, traces(drawn, xaxis=axis, yaxis=rows_axis([study.model_label(model) for model in shown])), runs)


def _place(entry: Measured) -> float | None:
    """Where a measurement is drawn: its value, or its bound."""
    places = (entry.estimate.value if entry.estimate else None, entry.at_least, entry.at_most)
    return next((place for place in places if place is not None and math.isfinite(place)), None)


def _dot(study: Study, measure: Measurement, model: Model, entry: Measured, row: int) -> Any:
    place, looks = _place(entry), marker(study, model)
    bounds = entry.estimate.bounds if entry.estimate else None
    sign = ""
    if entry.estimate is None:
        sign = "≥ " if entry.at_least is not None else "≤ "
        looks["symbol"] = "triangle-right" if entry.at_least is not None else "triangle-left"
    value = f"{sign}{tables.number(place)}"
    if bounds:
        low, high = map(tables.number, bounds)
        value = _("{value} [{low}, {high}]", value=value, low=low, high=high)
    shown = hover(
        study.model_label(model),
        *textwrap.wrap(measure.label, 40),
        value,
        _("no value for {n} of the seeds", n=entry.lost) if entry.lost else "",
        sources(runs_of(study, model, WIDTH, measure.metric, measure.dimensions)),
    )
    return go.Scatter(
        x=[place], y=[row], mode="markers", marker=looks, hovertext=[shown], hoverinfo="text",
        error_x=bars([entry.estimate] if entry.estimate else [], looks["color"], scale=float, thickness=2),
    )  # fmt: skip
