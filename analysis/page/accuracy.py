"""Interactive figures of accuracy: all models with their intervals, and accuracy over the number of labels."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import plotly.graph_objects as go

from analysis import tables
from analysis.data import data_label
from analysis.estimates import Estimate
from analysis.few_labels import Point, points
from analysis.names import Model
from analysis.page.plots import (
    Plot,
    View,
    bars,
    hover,
    images,
    line,
    marker,
    model_entries,
    rows_axis,
    rows_height,
    rows_side,
    runs_of,
    sources,
    symbol_of,
    text,
    traces,
)
from analysis.run import Run
from analysis.sections.few_labels import shifts
from analysis.study import Study
from analysis.tables import Column, main_columns, main_value
from analysis.words import _
from ssl_pkg.catalogue import ADAPTATIONS, adapted

_SHIFT: Final = 0.17  # of the second of two points in the row of a model
_OOD: Final = "star"  # of no model


def dots(study: Study) -> list[Plot]:
    """Accuracy of every model, in each column of the main table; test and OOD together come first."""
    columns, models = main_columns(study), study.models
    if not models:
        return []
    pair = [column for column in columns if column.key in ("test", "ood10")]
    views = [_both(study, *pair)] if len(pair) == 2 else []
    views += [_single(study, column) for column in columns]
    caption = [_("Accuracy in percent on {data}, with 95 % intervals.", data=data_label(study))]
    if any(model.adaptation == "probe" for model in models):
        caption.append(_("Open markers are probes."))
    return [
        Plot(
            "accuracy",
            _("Accuracy of all models"),
            " ".join(caption),
            views,
            height=rows_height([study.model_label(model) for model in models]),
        )
    ]


def _single(study: Study, column: Column) -> View:
    found = {model: main_value(study, model, column) for model in study.models}
    drawn, runs = [], []
    for row, (model, value) in enumerate(found.items()):
        if value is not None:
            drawn += [
                *_seeds(study, model, value, row),
                _dot(study, model, column, value, place=row, looks=marker(study, model)),
            ]
            runs += _runs(study, model, column)
    bases = [value for model, value in found.items() if value and model.is_random_probe]
    strokes = any(value and len(value.by_seed) > 1 for value in found.values())
    notes = [_("Vertical strokes: single seeds.") if strokes else "", _dotted(len(bases))]
    return View(column.heading, traces(drawn, **_layout(study, bases)), runs, " ".join(filter(None, notes)))


def _both(study: Study, test: Column, ood: Column) -> View:
    drawn, runs = [], []
    for row, model in enumerate(study.models):
        for column, shift in ((test, -_SHIFT), (ood, _SHIFT)):
            value = main_value(study, model, column)
            if value is None:
                continue
            looks = marker(study, model)
            if column is ood:
                looks["symbol"] = _OOD + ("-open" if symbol_of(study, model).endswith("-open") else "")
            drawn.append(_dot(study, model, column, value, place=row + shift, looks=looks))
            runs += _runs(study, model, column)
    return View(_("Test and OOD"), traces(drawn, **_layout(study, [])), runs, _("The stars are OOD."))


def _dot(study: Study, model: Model, column: Column, value: Estimate, *, place: float, looks: dict[str, Any]) -> Any:
    shown = hover(
        study.model_label(model),
        _("{name}: {value} %", name=column.heading, value=tables.percent(value)),
        images(value.n),
        sources(_runs(study, model, column)),
    )
    return go.Scatter(
        x=[100 * value.value], y=[place], mode="markers", marker=looks, hovertext=[shown], hoverinfo="text",
        error_x=bars([value], looks["color"], thickness=2),
    )  # fmt: skip


def _seeds(study: Study, model: Model, value: Estimate, row: int) -> list[Any]:
    if len(value.by_seed) < 2:
        return []
    looks = marker(study, model) | {"symbol": "line-ns-open", "size": 12}
    shown = [
        hover(study.model_label(model), _("seed {seed}: {value:.1f} %", seed=seed, value=100 * one))
        for seed, one in value.by_seed.items()
    ]
    places = [100 * one for one in value.by_seed.values()]
    return [
        go.Scatter(
            x=places,
            y=[row] * len(shown),
            mode="markers",
            marker=looks,
            hovertext=shown,
            hoverinfo="text",
        )
    ]


def _runs(study: Study, model: Model, column: Column) -> list[Run]:
    """The runs of `main_value`."""
    found = runs_of(study, model, column.evaluation, column.metric)
    return found or runs_of(study, model.encoder, column.evaluation, column.metric)


def _dotted(count: int) -> str:
    """What the dotted lines are; empty without one."""
    if count > 1:
        return _("Dotted lines: the probes on the random initialisation.")
    return _("Dotted line: the probe on the random initialisation.") if count else ""


def _layout(study: Study, bases: Sequence[Estimate]) -> dict[str, Any]:
    """Axes, with a dotted line for each of the bases."""
    looks = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "line": {"color": "#8a8a8a", "width": 1, "dash": "dot"}}
    return {
        "xaxis": {"title": {"text": _("accuracy (%)")}, **rows_side(len(study.models))},
        "yaxis": rows_axis([study.model_label(model) for model in study.models]),
        "shapes": [looks | {"x0": 100 * base.value, "x1": 100 * base.value} for base in bases],
    }


def few_labels(study: Study) -> list[Plot]:
    """Accuracy over the number of labels per class."""
    found = points(study)
    ticks = sorted({size for sizes in found.values() for size in sizes})
    if len(ticks) < 2:
        return []
    drawn, runs = [], []
    for (model, sizes), shift in zip(found.items(), shifts(len(found), ticks), strict=True):
        own = _few_runs(study, model)
        drawn.append(_curve(study, model, sizes, shift, own))
        runs += own
    layout = {
        "xaxis": {
            "type": "log", "tickvals": ticks, "ticktext": list(map(str, ticks)),
            "title": {"text": _("labelled images per class")},
        },
        "yaxis": {"title": {"text": _("accuracy on test (%)")}},
    }  # fmt: skip
    return [
        Plot(
            "few-labels",
            _("Few labels"),
            _(
                "Accuracy on test over the number of labelled images of each class, with 95 % intervals over seeds, "
                "subsets and test images. At each number of labels the models are side by side. Dashed and open: "
                "probes."
            ),
            [View(_("Test accuracy"), traces(drawn, **layout), list(dict.fromkeys(runs)))],
            legend=model_entries(study, found, lines=True),
        )
    ]


def _curve(study: Study, model: Model, sizes: Mapping[int, Point], shift: float, runs: Sequence[Run]) -> Any:
    means = [point.mean for point in sizes.values()]
    shown = [
        hover(
            study.model_label(model),
            _("{size} labels per class: {value} %", size=size, value=tables.percent(mean)),
            _("subsets per seed: {n}", n=len(point.draws)),
            sources([run for run in runs if run.seed in point.seeds]),
        )
        for (size, point), mean in zip(sizes.items(), means, strict=True)
    ]
    looks = marker(study, model, 8)
    return go.Scatter(
        x=[size * shift for size in sizes], y=[100 * mean.value for mean in means], mode="lines+markers",
        line=line(study, model) | {"width": 1.5}, marker=looks, hovertext=shown, hoverinfo="text",
        error_y=bars(means, looks["color"], thickness=1.5),
        legendgroup=model.full_name, name=text(study.model_label(model)),
    )  # fmt: skip


def _few_runs(study: Study, model: Model) -> list[Run]:
    """The runs of the stage `few_labels` that trained the model."""
    return [
        run
        for run in study.complete("few_labels")
        if run.model.setting == model.setting
        and (model.method, model.adaptation) in [adapted(run.model.method, stage) for stage in ADAPTATIONS]
    ]
