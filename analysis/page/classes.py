"""Interactive figures of the classes: accuracy of each, confusion, and reliability of the confidence."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from analysis import tables
from analysis.calibration import BINS, LEAST, Curve
from analysis.estimates import estimate
from analysis.figures import style
from analysis.figures.classes import counted, joined, marked, reliability_curve
from analysis.names import Model
from analysis.page.plots import (
    Plot,
    View,
    floats,
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
    text,
    traces,
)
from analysis.run import Run
from analysis.study import Study
from analysis.words import N_, _, localized, ngettext
from ssl_pkg.rows import dimensions_of

_KINDS: Final = {"test": N_("Test"), "ood": N_("OOD")}
_BAR: Final = {"thickness": 10, "title": {"text": "%"}}
_NUMBERED: Final = 20  # classes of a confusion matrix whose cells have numbers


def per_class(study: Study) -> list[Plot]:
    """Accuracy of each model on each class."""
    views = [view for kind in _KINDS if (view := _heat_map(study, kind)) is not None]
    if not views:
        return []
    labels = [study.model_label(model) for model in study.models]
    caption = _(
        "Accuracy of each model on each class, in percent, mean over seeds. A dark column is a class that is hard for "
        "every model."
    )
    height = 60 + rows_height(labels)
    caption += _substitution(study)
    return [Plot("classes", _("Accuracy by class"), caption, views, choice=_("Images"), height=height)]


def _substitution(study: Study) -> str:
    """What a star marks, after a space; empty without one."""
    replaced = ", ".join(tables.substituted(study))
    note = _("*: on OOD, includes the images of a class that the models lack ({classes}).", classes=replaced)
    return f" {note}" if replaced else ""


def _heat_map(study: Study, kind: str) -> View | None:
    classes = tables.class_names(study, kind)
    keys = [dimensions_of({"class": name}) for name in classes]
    found = {model: [estimate(study, model, kind, "accuracy", key) for key in keys] for model in study.models}
    found = {model: row for model, row in found.items() if any(row)}
    if not found:
        return None
    runs = {model: runs_of(study, model, kind, "accuracy") for model in found}
    shown = [
        [
            hover(
                f"{study.model_label(model)}: {name}",
                _("{value} %", value=tables.percent(value)) if value else _("no accuracy"),
                images(value.n) if value else "",
                sources(runs[model]),
            )
            for name, value in zip(classes, row, strict=True)
        ]
        for model, row in found.items()
    ]
    values = [[None if value is None else value.value for value in row] for row in found.values()]
    drawn = go.Heatmap(
        z=floats(100 * np.array(values, float)), hovertext=shown, hoverinfo="text", colorscale="Cividis",
        xgap=_gap(len(classes)), ygap=1, colorbar=_BAR, **_numbers(values, len(classes) <= style.NAMED),
    )  # fmt: skip
    layout = {
        "xaxis": _class_ticks(marked(study, classes) if kind == "ood" else classes, range(len(classes)))
        | rows_side(len(found)),
        "yaxis": rows_axis([study.model_label(model) for model in found]),
    }
    return View(_(_KINDS[kind]), traces([drawn], **layout), [run for own in runs.values() for run in own])


def _numbers(shares: Sequence[Sequence[float | None]], shown: bool) -> dict[str, Any]:
    """The numbers in the cells of a heat map, as texts: plotly rounds halves up, and the tables round them to even."""
    if not shown:
        return {}
    return {"text": [list(map(tables.whole_percent, row)) for row in shares], "texttemplate": "%{text}"}


def _class_ticks(names: Sequence[str], places: Sequence[Any]) -> dict[str, Any]:
    """The ticks of an axis with a place for each class, of which some are named if there are many."""
    named, shown = style.named(len(names)), style.shortened(names)
    return {
        "tickvals": [places[place] for place in named],
        "ticktext": [text(shown[place]) for place in named],
        "tickangle": -45, "automargin": True, "showgrid": False,
    }  # fmt: skip


def _gap(classes: int) -> int:
    """The pixels between two cells: none if the cells are small."""
    return 1 if classes <= style.NAMED else 0


def confusion(study: Study) -> list[Plot]:
    """A matrix for each model, of test and of OOD."""
    views = [view for kind in _KINDS for model in study.models if (view := _confusion(study, model, kind)) is not None]
    if not views:
        return []
    caption = _(
        "The share of the images of each true class (rows) that were predicted as each class (columns), in percent, "
        "all seeds together; the shares of a row sum to 100. A strong colour off the diagonal is a systematic error."
    )
    caption += _substitution(study)
    rows = max(len(view.content["data"][0]["y"]) for view in views)
    height = max(560, 180 + 17 * min(rows, style.NAMED))  # so that the names of the rows don't overlap
    return [Plot("confusion", _("Confusion"), caption, views, choice=_("Model"), height=height)]


def _confusion(study: Study, model: Model, kind: str) -> View | None:
    found = joined(study, model, kind)
    if found is None:
        return None
    matrix = counted(*found)
    count, totals = len(matrix), matrix.sum(axis=1)
    runs = runs_of(study, model, kind, "accuracy")
    classes = next((run.classes for run in runs if len(run.classes) == count), _numbered(count))
    true = marked(study, classes) if kind == "ood" else classes
    shares = matrix / np.maximum(totals, 1)[:, None]
    who = text(study.model_label(model))
    columns = [text(name) for name in classes]
    rows = [
        text(_("{name} ({n} predictions)", name=name, n=localized(f"{total:,.0f}")))
        for name, total in zip(true, totals, strict=True)
    ]
    lines = [who, _("true %{y}"), _("predicted as %{x}: %{z:.1f} %"), text(sources(runs))]
    shown = f"{'<br>'.join(lines)}<extra></extra>"
    drawn = go.Heatmap(
        z=floats(np.round(100 * shares, 1)), zmin=0, zmax=100, colorscale="Blues", xgap=_gap(count), ygap=_gap(count),
        x=columns, y=rows, hovertemplate=shown,
        colorbar=_BAR, **_numbers(shares.tolist(), count <= _NUMBERED),
    )  # fmt: skip
    layout = {
        "xaxis": {"type": "category", **_class_ticks(classes, columns), "title": {"text": _("predicted class")}},
        "yaxis": {
            "type": "category", **_class_ticks(true, rows), "range": [count - 0.5, -0.5], "tickangle": 0,
            "title": {"text": _("true class"), "standoff": 12},
        },
    }  # fmt: skip
    name = study.model_label(model)
    label = _("{model}, OOD", model=name) if kind == "ood" else _("{model}, test", model=name)
    return View(label, traces([drawn], **layout), runs)


def _numbered(count: int) -> list[str]:
    """Names of classes without names."""
    return [_("class {label}", label=label) for label in range(count)]


def reliability(study: Study) -> list[Plot]:
    """Accuracy over confidence, a curve for each model, and the share of the images at each confidence."""
    views, models = [], []
    for kind, label in _KINDS.items():
        found = {model: reliability_curve(study, model, kind) for model in study.models}
        own = {model: curve for model, curve in found.items() if curve is not None}
        runs = {model: runs_of(study, model, kind, "accuracy") for model in own}
        drawn = [trace for model, curve in own.items() for trace in _reliability(study, model, curve, runs[model])]
        models += [model for model in own if model not in models]
        if drawn:
            shown = traces([_diagonal(), *drawn], **_reliability_layout())
            views.append(View(_(label), shown, [run for of_model in runs.values() for run in of_model]))
    if not views:
        return []
    caption = _(
        "Top: accuracy of the images in each of {bins} bins of confidence, the largest softmax probability, all "
        "seeds together (bins with fewer than {least} predictions are left out). Bottom: share of the predictions in "
        "each bin. Below the diagonal a model is overconfident: its predictions are correct less often than their "
        "confidence says.",
        bins=BINS,
        least=LEAST,
    )
    legend = model_entries(study, models, lines=True)
    return [Plot("reliability", _("Reliability"), caption, views, choice=_("Images"), height=520, legend=legend)]


def _diagonal() -> Any:
    looks = {"color": "#999999", "width": 1}
    return go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=looks, hoverinfo="skip", legendgroup="diagonal")


def _reliability_layout() -> dict[str, Any]:
    share = {"tickformat": ".0%"}
    return {
        "xaxis": {"title": {"text": _("confidence")}, "range": [0, 1.02], "anchor": "y2", **share},
        "yaxis": {"title": {"text": _("accuracy")}, "range": [0, 1.02], "domain": [0.34, 1], **share},
        "yaxis2": {"title": {"text": _("share")}, "domain": [0, 0.24], "rangemode": "tozero", **share},
    }


def _reliability(study: Study, model: Model, curve: Curve, runs: list[Run]) -> list[Any]:
    who, looks = study.model_label(model), line(study, model)
    shown = [
        hover(
            who,
            _("confidence {mean:.1f}%: accuracy {share:.1f}%", mean=100 * mean, share=100 * share),
            ngettext("{n:,} prediction", "{n:,} predictions", count),
            sources(runs),
        )
        for mean, share, count in zip(
            *(values.tolist() for values in (curve.confidence, curve.accuracy, curve.counts)), strict=True
        )
    ]
    centres = (np.arange(BINS) + 0.5) / BINS
    below = [
        hover(
            who,
            _(
                "confidence {low:.0f}% to {high:.0f}%: {share:.1f}%",
                low=100 * (place / BINS),
                high=100 * ((place + 1) / BINS),
                share=100 * share,
            ),
        )
        for place, share in enumerate(curve.shares.tolist())
    ]
    common = {"hoverinfo": "text", "legendgroup": model.full_name, "name": text(who)}
    return [
        go.Scatter(
            x=floats(curve.confidence), y=floats(curve.accuracy), mode="lines+markers", line=looks,
            marker=marker(study, model, 6), hovertext=shown, **common,
        ),
        go.Scatter(
            x=floats(centres), y=floats(curve.shares), yaxis="y2", mode="lines",
            line=looks | {"shape": "hvh", "width": 1.5}, hovertext=below, **common,
        ),
    ]  # fmt: skip
