"""Interactive figures of other images than those of test: corruptions by severity, and OOD against test accuracy."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go
from scipy.special import ndtr, ndtri

from analysis import corruptions, shift, tables
from analysis.corruptions import label, number
from analysis.estimates import Estimate
from analysis.figures.shift import TICKS, clipped
from analysis.names import Model, separated
from analysis.outcomes import CORRUPTED_IMAGES
from analysis.page.plots import (
    Plot,
    View,
    bars,
    dodged,
    floats,
    hover,
    line,
    marker,
    model_entries,
    runs_of,
    sources,
    text,
    traces,
    wrapped,
)
from analysis.robustness import Networks, fit, probit
from analysis.run import Run
from analysis.sections.ood import off_the_line
from analysis.shift import Point
from analysis.study import Study
from analysis.words import _, localized

_REACH: Final = 0.2  # of the distance of two places, to both sides: where the models are
_GREY: Final = {"color": "#8a8a8a", "width": 1}
_BARE: Final = {"hoverinfo": "skip", "legendgroup": "networks", "mode": "lines"}


def corrupted(study: Study) -> list[Plot]:
    """Accuracy by corruption, and over the severity of each corruption."""
    models, kinds, severities = corruptions.measured(study)
    if not models or not kinds or not severities:
        return []
    caption = _(
        "Accuracy of the unchanged models on corrupted test images with 95 % intervals: for each corruption the mean "
        "over severities, and for one corruption the accuracy over its severity, where 0 is the clean image. The "
        "models with the same position are side by side. Open markers and dashed lines are probes."
    )
    views = [_by_kind(study, models, kinds), *(_by_severity(study, models, kind, severities) for kind in kinds)]
    legend = model_entries(study, models, lines=True)
    title = _("Corrupted images")
    return [Plot("corruptions", title, caption, views, choice=_("Corruption"), height=440, legend=legend)]


def _by_kind(study: Study, models: Sequence[Model], kinds: Sequence[str]) -> View:
    found = {model: [number(study, model, "mean_accuracy", corruption=kind) for kind in kinds] for model in models}
    names = list(map(label, kinds))
    axis = {"tickvals": list(range(len(kinds))), "ticktext": [wrapped(name, 12) for name in names]}
    return _view(study, _("Mean over severities"), found, dict(enumerate(names)), mode="markers", axis=axis)


def _by_severity(study: Study, models: Sequence[Model], kind: str, severities: Sequence[int]) -> View:
    found = {
        model: [
            number(study, model, "clean_accuracy"),
            *(number(study, model, "accuracy", corruption=kind, severity=level) for level in severities),
        ]
        for model in models
    }
    names = {0: _("Clean")}
    names |= {level: _("{corruption}, severity {level}", corruption=label(kind), level=level) for level in severities}
    axis = {"tickvals": list(names), "title": {"text": _("severity")}}
    return _view(study, label(kind), found, names, mode="lines+markers", axis=axis)


def _view(
    study: Study,
    title: str,
    found: Mapping[Model, Sequence[Estimate | None]],
    names: Mapping[int, str],
    *,
    mode: str,
    axis: dict[str, Any],
) -> View:
    """The numbers of each model at the places `names`, which have names for hovering."""
    runs = {model: runs_of(study, model, CORRUPTED_IMAGES, "clean_accuracy") for model in found}
    drawn = [
        _series(
            study, model, values, names, mode=mode, shift=dodged(place, len(found), _REACH), origin=sources(runs[model])
        )
        for place, (model, values) in enumerate(found.items())
    ]
    content = traces(drawn, xaxis=axis, yaxis={"title": {"text": _("accuracy (%)")}})
    return View(title, content, [run for own in runs.values() for run in own])


def _series(
    study: Study,
    model: Model,
    values: Sequence[Estimate | None],
    names: Mapping[int, str],
    *,
    mode: str,
    shift: float,
    origin: str,
) -> Any:
    kept = [(at, name, value) for (at, name), value in zip(names.items(), values, strict=True) if value is not None]
    who, means = study.model_label(model), [value for *_place, value in kept]
    shown = [
        hover(who, _("{name}: {value} %", name=name, value=tables.percent(value)), origin)
        for _place, name, value in kept
    ]
    looks = marker(study, model, 7)
    return go.Scatter(
        x=[at + shift for at, *_name in kept], y=[100 * mean.value for mean in means], mode=mode,
        line=line(study, model) | {"width": 1.5}, marker=looks, hovertext=shown, hoverinfo="text",
        error_y=bars(means, looks["color"], thickness=1, width=2), legendgroup=model.full_name, name=text(who),
    )  # fmt: skip


def against_ood(study: Study) -> list[Plot]:
    """A point with both intervals for each model, the supervised networks, and the line through them."""
    points, networks = shift.points(study), shift.baselines(study)
    if not points:
        return []
    runs = {
        model: [*runs_of(study, model, "test", "accuracy"), *runs_of(study, model, "ood", "accuracy")]
        for model in points
    }
    dots = [_dot(study, model, point, runs[model]) for model, point in points.items()]
    ends = [end for point in points.values() for mean in (point.test, point.ood) for end in (mean.low, mean.high)]
    ends += [
        end
        for groups in networks.values()
        for group in groups
        for hits in (group.test, group.ood)
        for end in hits.mean(axis=1)
    ]
    limits = [float(_probit(min(ends))) - 0.1, float(_probit(max(ends))) + 0.1]
    axis = {
        "tickvals": list(ndtri(TICKS)),
        "ticktext": [localized(f"{100 * tick:g}") for tick in TICKS],
        "range": limits,
    }
    layout = {
        "xaxis": axis | {"title": {"text": _("test accuracy (%)")}},
        "yaxis": axis | {"title": {"text": _("OOD accuracy (%)")}},
    }
    rules = [rule for groups in networks.values() for rule in _rules(groups, limits)]
    drawn = [_equal(limits), *rules, *dots]
    view = View(
        _("Test against OOD"), traces(drawn, **layout), list(dict.fromkeys(r for own in runs.values() for r in own))
    )
    legend = model_entries(study, points, lines=False)
    title = _("Test against out-of-distribution accuracy")
    caption = " ".join(filter(None, (_caption(any(map(fit, networks.values()))), off_the_line(study))))
    return [Plot("test-against-ood", title, caption, [view], height=520, legend=legend)]


def _caption(has_line: bool) -> str:
    grey = (
        _(
            "Grey dots: supervised networks trained on different numbers of labels, one for each set of training "
            "images (mean over seeds); grey line: fitted to them; dotted: equal accuracies. Effective robustness is "
            "the vertical distance from the grey line, in points of accuracy."
        )
        if has_line
        else _(
            "Grey dots, if any: supervised networks trained on different numbers of labels, one for each set of "
            "training images (mean over seeds); dotted: equal accuracies."
        )
    )
    return _(
        "Test accuracy against OOD accuracy on images of the shared classes, on probit axes, with 95 % intervals. "
        "{grey} Open markers are probes.",
        grey=grey,
    )


def _probit(accuracy: Any) -> Any:
    return ndtri(clipped(accuracy))


def _dot(study: Study, model: Model, point: Point, runs: Sequence[Run]) -> Any:
    looks = marker(study, model)
    shown = hover(
        study.model_label(model),
        _("test {value} %", value=tables.percent(point.test)),
        _("OOD {value} %", value=tables.percent(point.ood)),
        _robustness(model, point),
        sources(runs),
    )
    x, y = ([float(_probit(mean.value))] for mean in (point.test, point.ood))
    x_bars, y_bars = (
        bars([mean], looks["color"], scale=_probit, thickness=1.5, width=2) for mean in (point.test, point.ood)
    )
    return go.Scatter(
        x=x, y=y, error_x=x_bars, error_y=y_bars, mode="markers", marker=looks, hovertext=[shown], hoverinfo="text",
        legendgroup=model.full_name, name=text(study.model_label(model)),
    )  # fmt: skip


def _robustness(model: Model, point: Point) -> str:
    if point.robustness is None:
        return ""
    parts = [_("effective robustness {value} points", value=tables.gain_text(point.robustness))]
    parts += [_("from a line that is fitted without this model")] if shift.is_baseline(model) else []
    parts += [_("extrapolated")] if point.extrapolated else []
    return separated(parts)


def _equal(limits: Sequence[float]) -> Any:
    return go.Scatter(x=limits, y=limits, line=_GREY | {"dash": "dot"}, **_BARE)


def _rules(networks: Sequence[Networks], limits: Sequence[float]) -> list[Any]:
    """The line through the supervised networks of a study, and these networks."""
    drawn = []
    found = fit(networks)
    if found is not None:
        heights = ndtri(found.predicted(ndtr(np.array(limits))))
        drawn.append(go.Scatter(x=limits, y=floats(heights), line=_GREY | {"width": 2}, **_BARE))
    for group in networks:
        accuracies = [hits.mean(axis=1) for hits in (group.test, group.ood)]
        places = [probit(own, hits.shape[1]) for own, hits in zip(accuracies, (group.test, group.ood), strict=True)]
        shown = [
            hover(
                _("supervised, one set of training images"),
                _("test {value:.1f} %", value=100 * one),
                _("OOD {value:.1f} %", value=100 * two),
            )
            for one, two in zip(*(values.tolist() for values in accuracies), strict=True)
        ]
        drawn.append(
            go.Scatter(
                x=floats(places[0]), y=floats(places[1]), mode="markers", marker={"color": "#8a8a8a", "size": 5},
                hovertext=shown, hoverinfo="text", legendgroup="networks",
            )
        )  # fmt: skip
    return drawn
