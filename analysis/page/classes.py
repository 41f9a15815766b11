"""Interactive figures of the classes: accuracy of each, confusion, and reliability of the confidence."""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from analysis import tables
from analysis.estimates import estimate
from analysis.figures import style
from analysis.figures.classes import joined
from analysis.names import Model
from analysis.outcomes import Predicted, predicted
from analysis.page.plots import (
    Plot,
    View,
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
)
from analysis.run import Run
from analysis.study import Study
from ssl_pkg.rows import dimensions_of

_KINDS: Final = {"test": "Test", "ood": "OOD"}
_BAR: Final = {"thickness": 10, "title": {"text": "%"}}
_NUMBERED: Final = 20  # classes of a confusion matrix whose cells have numbers
_BINS: Final = 15  # as for the expected calibration error
_LEAST: Final = 10  # images in a bin: the accuracy of fewer is too uncertain


def per_class(study: Study) -> list[Plot]:
    """Accuracy of each model on each class."""
    views = [view for kind in _KINDS if (view := _heat_map(study, kind)) is not None]
    if not views:
        return []
    labels = [study.model_label(model) for model in study.models]
    caption = (
        "Accuracy of each model on each class, in percent, mean over seeds. A dark column is a class that is hard for "
        f"every model.{_substitution(study)}"
    )
    return [Plot("classes", "Accuracy by class", caption, views, choice="Images", height=60 + rows_height(labels))]


def _substitution(study: Study) -> str:
    replaced = tables.substituted(study)
    return (
        f" *: on OOD, includes the images of a class that the models lack ({', '.join(replaced)})." if replaced else ""
    )


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
                f"{tables.percent(value)} %" if value else "no accuracy",
                f"{value.n:,} images" if value and value.n is not None else "",
                sources(runs[model]),
            )
            for name, value in zip(classes, row, strict=True)
        ]
        for model, row in found.items()
    ]
    values = np.array([[np.nan if value is None else 100 * value.value for value in row] for row in found.values()])
    few = len(classes) <= style.NAMED
    drawn = go.Heatmap(
        z=floats(values), hovertext=shown, hoverinfo="text", colorscale="Cividis", xgap=_gap(len(classes)), ygap=1,
        texttemplate="%{z:.0f}" if few else "", colorbar=_BAR,
    )  # fmt: skip
    layout = {
        "xaxis": _class_ticks(_marked(study, classes, kind), range(len(classes))) | rows_side(len(found)),
        "yaxis": rows_axis([study.model_label(model) for model in found]),
    }
    return View(_KINDS[kind], traces([drawn], **layout), [run for own in runs.values() for run in own])


def _marked(study: Study, classes: list[str], kind: str) -> list[str]:
    """The names of the classes, with a star at each that replaces an OOD class that the models lack."""
    replaced = tables.substituted(study) if kind == "ood" else []
    return [f"{name}*" if name in replaced else name for name in classes]


def _class_ticks(names: Sequence[str], places: Sequence[Any]) -> dict[str, Any]:
    """The ticks of an axis with a place for each class, of which some are named if there are many."""
    named = style.named(len(names))
    return {
        "tickvals": [places[place] for place in named],
        "ticktext": [text(style.shortened(names[place])) for place in named],
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
    caption = (
        "The share of the images of each true class (rows) that were predicted as each class (columns), in percent, "
        "all seeds together; the shares of a row sum to 100. A strong colour off the diagonal is a systematic error."
        f"{_substitution(study)}"
    )
    return [Plot("confusion", "Confusion", caption, views, choice="Model", height=560)]


def _confusion(study: Study, model: Model, kind: str) -> View | None:
    found = joined(study, model, kind)
    if found is None:
        return None
    logits, labels = found
    count = logits.shape[1]
    matrix = np.zeros((count, count))
    np.add.at(matrix, (labels, logits.argmax(axis=1)), 1)
    totals = matrix.sum(axis=1)
    runs = runs_of(study, model, kind, "accuracy")
    classes = next((run.classes for run in runs if len(run.classes) == count), [f"class {i}" for i in range(count)])
    true = _marked(study, classes, kind)
    shares = np.round(100 * matrix / np.maximum(totals, 1)[:, None], 2)
    who = text(study.model_label(model))
    columns = [text(name) for name in classes]
    rows = [text(f"{name} ({total:,.0f} predictions)") for name, total in zip(true, totals, strict=True)]
    shown = f"{who}<br>true %{{y}}<br>predicted as %{{x}}: %{{z:.1f}} %<br>{text(sources(runs))}<extra></extra>"
    drawn = go.Heatmap(
        z=floats(shares), zmin=0, zmax=100, colorscale="Blues", xgap=_gap(count), ygap=_gap(count),
        x=columns, y=rows, hovertemplate=shown,
        texttemplate="%{z:.0f}" if count <= _NUMBERED else "", colorbar=_BAR,
    )  # fmt: skip
    layout = {
        "xaxis": {"type": "category", **_class_ticks(classes, columns), "title": {"text": "predicted class"}},
        "yaxis": {
            "type": "category", **_class_ticks(true, rows), "range": [count - 0.5, -0.5], "tickangle": 0,
            "title": {"text": "true class", "standoff": 12},
        },
    }  # fmt: skip
    return View(f"{study.model_label(model)}, {'OOD' if kind == 'ood' else kind}", traces([drawn], **layout), runs)


def reliability(study: Study) -> list[Plot]:
    """Accuracy over confidence, a curve for each model, and the share of the images at each confidence."""
    found = {kind: {model: predicted(study, model, kind) for model in study.models} for kind in _KINDS}
    views, models = [], []
    for kind, label in _KINDS.items():
        own = {model: images for model, images in found[kind].items() if images is not None}
        runs = {model: runs_of(study, model, kind, "accuracy") for model in own}
        drawn = [trace for model, images in own.items() for trace in _reliability(study, model, images, runs[model])]
        models += [model for model in own if model not in models]
        if drawn:
            shown = traces([_diagonal(), *drawn], **_reliability_layout())
            views.append(View(label, shown, [run for of_model in runs.values() for run in of_model]))
    if not views:
        return []
    caption = (
        f"Top: accuracy of the images in each of {_BINS} bins of confidence, the largest softmax probability, all "
        f"seeds together (bins with fewer than {_LEAST} predictions are left out). Bottom: share of the predictions in "
        "each bin. Below the diagonal a model is overconfident: its predictions are correct less often than their "
        "confidence says."
    )
    legend = model_entries(study, models, lines=True)
    return [Plot("reliability", "Reliability", caption, views, choice="Images", height=520, legend=legend)]


def _diagonal() -> Any:
    looks = {"color": "#999999", "width": 1}
    return go.Scatter(x=[0, 1], y=[0, 1], mode="lines", line=looks, hoverinfo="skip", legendgroup="diagonal")


def _reliability_layout() -> dict[str, Any]:
    share = {"tickformat": ".0%"}
    return {
        "xaxis": {"title": {"text": "confidence"}, "range": [0, 1.02], "anchor": "y2", **share},
        "yaxis": {"title": {"text": "accuracy"}, "range": [0, 1.02], "domain": [0.34, 1], **share},
        "yaxis2": {"title": {"text": "share"}, "domain": [0, 0.24], "rangemode": "tozero", **share},
    }


def _reliability(study: Study, model: Model, images: Predicted, runs: list[Run]) -> list[Any]:
    confidence, hits = images.confidence.ravel(), images.hits.ravel()
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    means, shares = (np.bincount(bins, values, _BINS) / np.maximum(counts, 1) for values in (confidence, hits))
    kept = counts >= _LEAST
    who, looks = study.model_label(model), line(study, model)
    shown = [
        hover(who, f"confidence {mean:.1%}: accuracy {share:.1%}", f"{count:,} predictions", sources(runs))
        for mean, share, count in zip(means[kept], shares[kept], counts[kept], strict=True)
    ]
    centres = (np.arange(_BINS) + 0.5) / _BINS
    below = [
        hover(who, f"confidence {place / _BINS:.0%} to {(place + 1) / _BINS:.0%}: {count / counts.sum():.1%}")
        for place, count in enumerate(counts)
    ]
    common = {"hoverinfo": "text", "legendgroup": model.full_name, "name": text(who)}
    return [
        go.Scatter(
            x=floats(means[kept]), y=floats(shares[kept]), mode="lines+markers", line=looks,
            marker=marker(study, model, 6), hovertext=shown, **common,
        ),
        go.Scatter(
            x=floats(centres), y=floats(counts / counts.sum()), yaxis="y2", mode="lines",
            line=looks | {"shape": "hvh", "width": 1.5}, hovertext=below, **common,
        ),
    ]  # fmt: skip
