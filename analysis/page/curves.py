"""Interactive learning curves: pretraining, training of all weights, and the penalties of the linear probes."""

# ruff: noqa: RUF001 (texts for people have minus signs and primes)

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pandas as pd
import plotly.graph_objects as go

from analysis import names
from analysis.figures import style
from analysis.figures.curves import HEALTH, RATES, series
from analysis.page.plots import Entry, Plot, View, floats, line, model_entries, text, traces
from analysis.run import Run
from analysis.study import Study
from analysis.trials import chosen_curve, chosen_l2, penalties
from analysis.words import N_, _

_SHARES: Final = (*RATES, "val_accuracy")
_METRICS: Final = {"loss": N_("loss"), **RATES, "lr": N_("learning rate")}
_DASHES: Final = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")


def pretraining(study: Study) -> list[Plot]:
    """Loss, accuracies and learning rate of every pretraining run, complete or not; a view for each metric."""
    caption = _(
        "Every run, complete or not. Each value is the mean since the previous line of metrics.jsonl. The losses "
        "of different methods are not comparable. kNN on holdout: accuracy on the holdout split of labelled train. "
        "Pretext task: share of views for which the other view of the same image is the most similar."
    )
    return _pretraining(study, "pretraining", _("Pretraining"), caption, _METRICS)


def health(study: Study) -> list[Plot]:
    """Spread, effective rank, alignment and uniformity of the representation during pretraining."""
    caption = _(
        "z is the output of the projection head with unit length. s.d. of z: over the batch, averaged over its D "
        "dimensions; about 1/√D if z is spread evenly over the sphere, 0 after a collapse. Effective rank: of the "
        "embeddings of labelled train, at most 512. Alignment: mean squared distance between the two views of an "
        "image. Uniformity: log of the mean of exp(−2‖z − z′‖²) over different images. Alignment and uniformity are "
        "better the lower they are; s.d. and uniformity depend on D, so compare only methods with the same D."
    )
    return _pretraining(study, "health", _("Health of the representation"), caption, HEALTH)


def _pretraining(study: Study, name: str, title: str, caption: str, metrics: Mapping[str, str]) -> list[Plot]:
    """A figure of metrics of the pretraining runs; metrics: their labels in English."""
    encoders = [encoder for encoder in study.encoders if study.of("pretrain", encoder)]
    dashes = {encoder: _DASHES[place % len(_DASHES)] for place, encoder in enumerate(encoders)}
    looks = {
        encoder: {"color": style.encoder_color(encoder, study.encoders), "dash": dashes[encoder], "width": 2}
        for encoder in encoders
    }
    runs = study.of("pretrain")
    found = [
        _metric(study, _(label).partition(" (")[0], metric, runs=runs, part=_whole, looks=looks)
        for metric, label in metrics.items()
    ]
    views = [view for view in found if view is not None]
    legend = [Entry(encoder.full_name, study.model_label(encoder), *_look(looks[encoder])) for encoder in encoders]
    if not views:
        return []
    return [Plot(name, title, caption, views, choice=_("Metric"), legend=legend)]


def _look(found: dict[str, Any]) -> tuple[str, str, str]:
    return found["color"], "", found["dash"]


def finetuning(study: Study) -> list[Plot]:
    """Training of all weights: of the baseline from random weights, of the others from a pretrained encoder."""
    runs = [run for run in study.of("finetune") if "phase" in run.metrics]
    models = names.in_order((run.model for run in runs), study.methods)
    looks = {model: line(study, model) | {"dash": _DASHES[i % len(_DASHES)]} for i, model in enumerate(models)}
    parts: tuple[tuple[str, str, Callable[[Run], pd.DataFrame]], ...] = (
        (_("Final training: loss"), "loss", _final),
        (_("Final training: accuracy on train"), "accuracy", _final),
        (_("Chosen trial: accuracy on the holdout split"), "val_accuracy", chosen_curve),
        (_("Chosen trial: log loss on the holdout split"), "val_loss", chosen_curve),
    )
    found = [_metric(study, label, metric, runs=runs, part=part, looks=looks) for label, metric, part in parts]
    views = [view for view in found if view is not None]
    if not views:
        return []
    legend = [Entry(model.full_name, study.model_label(model), *_look(looks[model])) for model in models]
    return [
        Plot(
            "finetuning",
            _("Fine-tuning and the supervised baseline"),
            _(
                "Training of all weights on labelled train, from random weights (supervised) or from a pretrained "
                "encoder. The chosen trial was trained without the holdout split; the final training has all images."
            ),
            views,
            choice=_("Curve"),
            legend=legend,
        )
    ]


def _whole(run: Run) -> pd.DataFrame:
    return run.metrics


def _final(run: Run) -> pd.DataFrame:
    return run.metrics[run.metrics["phase"] == "final"]


def _metric(
    study: Study,
    label: str,
    metric: str,
    *,
    runs: Sequence[Run],
    part: Callable[[Run], pd.DataFrame],
    looks: dict[Any, dict[str, Any]],
) -> View | None:
    """The curves of a metric; None if no run has it."""
    share = metric in _SHARES
    drawn, shown = [], []
    for run in runs:
        x, y = series(part(run), metric)
        if not len(x):
            continue
        who = study.run_label(run)
        value = _("epoch %{x:.3g}: %{y:.1%}") if share else _("epoch %{x:.3g}: %{y:.4g}")
        hover_text = f"{text(who)}<br>{value}<br>{text(run.name)}<extra></extra>"
        first = run.seed == min(other.seed for other in runs if other.model == run.model)
        drawn.append(
            go.Scatter(
                x=floats(x), y=floats(y), mode="lines" if len(x) > 2 else "lines+markers",
                line=looks[run.model] | {"width": 2 if first else 1}, hovertemplate=hover_text,
                legendgroup=run.model.full_name, name=text(who),
            )
        )  # fmt: skip
        shown.append(run)
    if not drawn:
        return None
    axis = {"tickformat": ".0%"} if share else {}
    layout = {
        "xaxis": {"title": {"text": _("epoch")}, "rangemode": "tozero"},
        "yaxis": {"title": {"text": text(label)}, **axis},
    }
    return View(label, traces(drawn, **layout), shown)


def probing(study: Study) -> list[Plot]:
    """Accuracy and log loss on the holdout split over the penalty of every linear probe."""
    grids = {run: penalties(run) for run in study.complete("probe")}
    grids = {run: grid for run, grid in grids.items() if not grid.empty}
    if not grids:
        return []
    views = [
        View(label, _grid(study, grids, column), list(grids))
        for column, label in (("log_loss", _("Log loss")), ("accuracy", _("Accuracy")))
    ]
    models = names.in_order((run.model for run in grids), study.methods)
    return [
        Plot(
            "probes",
            _("Linear probes"),
            _(
                "Log loss (nats) and accuracy on the holdout split of train for each l2 penalty. The dot marks the "
                "penalty with the smallest log loss, with which the probe was then fitted on all of train."
            ),
            views,
            legend=model_entries(study, models, lines=True),
        )
    ]


def _grid(study: Study, grids: dict[Run, pd.DataFrame], column: str) -> dict[str, Any]:
    drawn = []
    for run, frame in grids.items():
        best = chosen_l2(study, run)
        sizes = [10 if abs(l2 - best) <= 1e-6 * abs(best) else 0 for l2 in frame["l2"]]
        value = "%{y:.1%}" if column == "accuracy" else "%{y:.4g}"
        who = study.run_label(run)
        hover_text = f"{text(who)}<br>l2 %{{x:.3g}}: {value}<br>{text(run.name)}<extra></extra>"
        looks = line(study, run.model)
        drawn.append(
            go.Scatter(
                x=frame["l2"].tolist(), y=floats(frame[column]), mode="lines+markers", line=looks,
                hovertemplate=hover_text,
                marker={"size": sizes, "color": looks["color"]}, legendgroup=run.model.full_name, name=text(who),
            )
        )  # fmt: skip
    axis = {"tickformat": ".0%"} if column == "accuracy" else {}
    title = _("accuracy on the holdout split") if column == "accuracy" else _("log loss on the holdout split (nats)")
    return traces(
        drawn,
        xaxis={"type": "log", "title": {"text": _("l2 penalty")}},
        yaxis={"title": {"text": title}, **axis},
    )
