"""Interactive figure of accuracy over the values of the parameters that a sweep has varied."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import plotly.graph_objects as go

from analysis import tables
from analysis.estimates import Estimate
from analysis.figures.sweep import PANELS, color_of, evaluations, logarithmic
from analysis.names import Model
from analysis.page.plots import Entry, Plot, View, bars, hover, line, marker, runs_of, sources, text, traces
from analysis.study import Study
from analysis.sweeps import Curve, curves, means, unchanged
from analysis.words import _, localized

_BESIDE: Final = 30  # characters of values that fit side by side in a narrow window


def over_values(study: Study) -> list[Plot]:
    """A view for each parameter and each of test and OOD. Models that the sweep does not change are dotted lines."""
    found, dotted = curves(study), {kind: unchanged(study, kind) for kind in evaluations(study)}
    views, legend = [], []
    for parameter in dict.fromkeys(curve.parameter for curve in found):
        own = [curve for curve in found if curve.parameter == parameter]
        views += [_view(study, kind, own, references) for kind, references in dotted.items()]
        legend += [
            _entry(study, curve.model, color_of(study, curve, own), line(study, curve.model)["dash"]) for curve in own
        ]
    if not views:
        return []
    for model in dict.fromkeys(model for references in dotted.values() for model in references):
        legend.append(_entry(study, model, line(study, model)["color"], "dot"))
    caption = [
        _("Accuracy over the values of a swept parameter, with 95 % intervals."),
        _("Dashed and open: probes.") if any(curve.model.adaptation == "probe" for curve in found) else "",
        _("Dotted: models that the sweep does not change.") if any(dotted.values()) else "",
        _("The highest of several points is an overestimate."),
    ]
    title = _("Swept parameters")
    return [Plot("sweep", title, " ".join(filter(None, caption)), views, legend=list(dict.fromkeys(legend)))]


def _entry(study: Study, model: Model, color: str, dash: str) -> Entry:
    return Entry(model.full_name, study.model_label(model), color, dash=dash)


def _view(study: Study, evaluation: str, own: Sequence[Curve], references: Mapping[Model, Estimate]) -> View:
    """own: the curves of one parameter."""
    values = sorted({value for curve in own for value in curve.models})
    models = [*references, *(model for curve in own for model in curve.models.values())]
    shown = list(map(_number, values))
    axis = {"tickvals": values, "ticktext": shown, **({"type": "log"} if logarithmic(own) else {})}
    if len(" ".join(shown)) > _BESIDE:
        axis["tickangle"] = -45
    content = traces(
        [
            *(_reference(study, evaluation, model, mean, values) for model, mean in references.items()),
            *(_curve(study, evaluation, curve, color_of(study, curve, own)) for curve in own),
        ],
        xaxis=axis | {"title": {"text": text(own[0].parameter)}},
        yaxis={"title": {"text": _("accuracy (%)")}},
    )
    runs = [run for model in models for run in runs_of(study, model, evaluation, "accuracy")]
    return View(f"{own[0].parameter}: {_(PANELS[evaluation])}", content, runs)


def _number(value: float) -> str:
    return localized(f"{value:g}")


def _curve(study: Study, evaluation: str, curve: Curve, color: str) -> Any:
    """The accuracy at each value of the parameter that has one."""
    found = means(study, curve, evaluation)
    shown = [
        hover(
            study.model_label(curve.model),
            f"{curve.parameter} = {_number(value)}: {_percent(mean)}",
            sources(runs_of(study, curve.models[value], evaluation, "accuracy")),
        )
        for value, mean in found.items()
    ]
    looks = marker(study, curve.model, 8) | {"color": color, "line": {"width": 1.5, "color": color}}
    return go.Scatter(
        x=list(found), y=[100 * mean.value for mean in found.values()], mode="lines+markers",
        line=line(study, curve.model) | {"width": 1.5, "color": color}, marker=looks, hovertext=shown,
        hoverinfo="text", error_y=bars(list(found.values()), color, thickness=1, width=2),
        legendgroup=curve.model.full_name, name=text(study.model_label(curve.model)),
    )  # fmt: skip


def _reference(study: Study, evaluation: str, model: Model, mean: Estimate, values: Sequence[float]) -> Any:
    """A horizontal line across the values, for a model that the sweep does not change."""
    origin = sources(runs_of(study, model, evaluation, "accuracy"))
    shown = hover(study.model_label(model), _percent(mean), origin)
    return go.Scatter(
        x=values, y=[100 * mean.value] * len(values), mode="lines", hovertext=[shown] * len(values), hoverinfo="text",
        line=line(study, model) | {"width": 1.5, "dash": "dot"},
        legendgroup=model.full_name, name=text(study.model_label(model)),
    )  # fmt: skip


def _percent(mean: Estimate) -> str:
    return _("{value} %", value=tables.percent(mean))
