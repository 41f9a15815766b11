"""Learning curves of every run with a metrics log, complete or not; thin lines are further seeds."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import names
from analysis.figures import style
from analysis.names import Model
from analysis.records import mapping
from analysis.run import Run
from analysis.study import Study
from analysis.trials import chosen_curve, chosen_l2, penalties
from analysis.variance import Floats
from analysis.words import N_, _
from ssl_pkg.config.batch_sizes import queue_share

_FILLINGS, _LINES = 5, 15  # the queue is shown while it is filled so often, or for so many lines of the log
_POINTS = 300  # of a line: longer series are averaged in bins
RATES = {
    "accuracy": N_("training accuracy"),
    "knn": N_("kNN on holdout"),
    "contrast_accuracy": N_("pretext task (dotted)"),
}
HEALTH = {
    "z_std": N_("s.d. of z per dimension"),
    "effective_rank": N_("effective rank of the embeddings"),
    "alignment": N_("alignment of two views"),
    "uniformity": N_("uniformity"),
}


def pretraining(study: Study) -> Figure | None:
    """A row for each method: loss; accuracies; learning rate.

    The variants of a sweep share the row of their method; each has its own colour.
    """
    every = _with(study.of("pretrain"), "loss")
    methods = list(dict.fromkeys(run.model.method for run in every))
    if not methods:
        return None
    figure, panels = style.rows_of(len(methods), 3, max(1.05, 1.7 / len(methods)), sharex="row")
    for row, method in zip(panels, methods, strict=True):
        runs = [run for run in every if run.model.method == method]
        for run, order in _counted(runs):
            color = style.encoder_color(run.model, study.encoders)
            options: dict[str, Any] = {"color": color, "linewidth": _thin(order), "label": study.run_label(run)}
            _line(row[0], run.metrics, "loss", **options)
            for column in RATES:
                line = ":" if column == "contrast_accuracy" else "-"
                _line(row[1], run.metrics, column, linestyle=line, **options)
            _line(row[2], run.metrics, "lr", **options)
        style.title(row[0], _("{method}: loss", method=study.method_label(method)), 32)
        shown = ", ".join(_(label) for column, label in RATES.items() if _with(runs, column))
        style.title(row[1], f"{shown}, %", 32)
        row[1].set(ylim=(0, 1))  # the same for all methods, so that small fluctuations look small
        row[2].set(title=_("learning rate"), ylim=(0, None))
        style.percent_axis(row[1].yaxis)
        if not shown:
            row[1].set_axis_off()
            row[1].set_title("")
    for axes in panels.flat:
        style.epoch_axis(axes)
    _variants(figure, every, study)
    return figure


def health(study: Study) -> Figure | None:
    """Spread, effective rank, alignment and uniformity during pretraining, a panel each, with all methods."""
    runs = [run for run in study.of("pretrain") if any(column in run.metrics for column in HEALTH)]
    if not runs:
        return None
    figure, panels = style.grid(len(HEALTH), 2, 1.35)
    drawn: set[Model] = set()
    for axes, (column, heading) in zip(panels, HEALTH.items(), strict=True):
        seeds: Counter[Model] = Counter()
        for run in runs:
            options: dict[str, Any] = {"linewidth": _thin(seeds[run.model]), "label": study.run_label(run)}
            color = style.encoder_color(run.model, study.encoders)
            seeds[run.model] += _line(axes, run.metrics, column, color=color, **options)
        drawn |= (+seeds).keys()
        axes.set(title=_(heading))
        style.epoch_axis(axes)
        if column != "uniformity":
            axes.set_ylim(0, None)
    _legend(figure, study, [encoder for encoder in study.encoders if encoder in drawn])
    return figure


def details(study: Study) -> Figure | None:
    """Loss and s.d. of z of the methods without negatives, then the loss of those with a queue while it fills."""
    runs = _with(study.of("pretrain"), "loss")
    groups = ((_collapse, without_negatives(study)), (_filling, with_queue(study)))
    shown = [(draw, method) for draw, group in groups for method in dict.fromkeys(run.model.method for run in group)]
    if not shown:
        return None
    figure, panels = style.grid(len(shown), min(2, len(shown)), 1.8)
    for axes, (draw, method) in zip(panels, shown, strict=True):
        draw(axes, study, [run for run in runs if run.model.method == method])
    _variants(figure, [run for _draw, group in groups for run in group], study)
    return figure


def without_negatives(study: Study) -> list[Run]:
    """The pretraining runs of methods that can collapse."""
    return [run for run in _with(study.of("pretrain"), "loss", "z_std") if "contrast_accuracy" not in run.metrics]


def with_queue(study: Study) -> list[Run]:
    """The pretraining runs of methods with a queue of keys."""
    return [run for run in _with(study.of("pretrain"), "loss") if queue_of(run)]


def _collapse(axes: Axes, study: Study, runs: Sequence[Run]) -> None:
    for run, order in _counted(runs):
        color, label = style.encoder_color(run.model, study.encoders), study.run_label(run)
        _line(axes, run.metrics, "loss", color=color, linewidth=_thin(order), label=label)
    _spread(axes, runs, study)
    axes.set_xlabel(_("epoch"))
    method = study.method_label(runs[0].model.method)
    style.title(axes, _("{method}: loss (left), s.d. of z (dashed)", method=method), 48)


def _filling(axes: Axes, study: Study, runs: Sequence[Run]) -> None:
    """Draws the loss of the first seeds from the first step on, that of a guess, and the share of the queue."""
    twin = axes.twinx()
    for run in (run for run, order in _counted(runs) if order == 0):
        size, batch, symmetric = queue_of(run) or (1, 1, False)
        frame = run.metrics.dropna(subset=["loss"])
        frame = frame[frame["step"] <= max(_FILLINGS * size / batch, frame["step"].iloc[:_LINES].max())]
        color = style.encoder_color(run.model, study.encoders)
        label = study.run_label(run)
        axes.plot(frame["step"], frame["loss"], color=color, marker=".", markersize=3, label=f"{label}, loss")
        guess = (1 + symmetric) * math.log(1 + size)
        axes.axhline(guess, color=color, linewidth=0.7, linestyle=":", label=_("{run}, loss of a guess", run=label))
        steps = range(int(frame["step"].max()) + 1)
        shares = [queue_share(step, batch, size, symmetric) for step in steps]
        (share,) = twin.plot(steps, shares, "--", linewidth=0.8, label=_("{run}, queue filled", run=label))
        share.set_color(color if run.model.variant else "#555555")
    _right(twin)
    twin.set_ylim(0, 1.05)
    style.percent_axis(twin.yaxis)
    axes.set_xlabel(_("step"))
    method = study.method_label(runs[0].model.method)
    style.title(axes, _("{method}: loss (left), queue filled (dashed, %)", method=method), 48)


def _counted(runs: Sequence[Run]) -> Iterator[tuple[Run, int]]:
    """The runs, each with the number of the model's runs before it."""
    seen: Counter[Model] = Counter()
    for run in runs:
        yield run, seen[run.model]
        seen[run.model] += 1


def queue_of(run: Run) -> tuple[int, int, bool] | None:
    """Size of the queue, batch size, and whether both views give keys; None if the method has no queue."""
    method = mapping(run.config.get("method"))
    model = mapping(method.get("model"))
    size, batch = model.get("queue_size"), method.get("batch_size")
    return (size, batch, bool(model.get("symmetric"))) if isinstance(size, int) and isinstance(batch, int) else None


def _variants(figure: Figure, runs: Sequence[Run], study: Study) -> None:
    """Adds a legend of the variants of a sweep, and of the studies if there are several; otherwise nothing."""
    drawn = {run.model for run in runs if run.model.setting}
    variants = [encoder for encoder in study.encoders if encoder in drawn]
    if variants:
        _legend(figure, study, variants)


def _legend(figure: Figure, study: Study, models: Sequence[Model]) -> None:
    """Adds a legend with the colour of each model."""
    handles = [Line2D([], [], color=style.look(model, study.encoders).color) for model in models]
    style.legend(figure, handles, [study.model_label(model) for model in models])


def finetuning(study: Study) -> Figure | None:
    """Training of all weights: loss and accuracy of the final trainings, then the validation of the chosen trials."""
    models = names.in_order((run.model for run in _with(study.of("finetune"), "phase")), study.methods)
    if not models:
        return None
    figure, panels = style.grid(4, 2, 1.35)
    for model in models:
        color = style.look(model, study.encoders).color
        for order, run in enumerate(_with(study.of("finetune", model), "phase")):
            final = run.metrics[run.metrics["phase"] == "final"]
            options: dict[str, Any] = {"color": color, "linewidth": _thin(order), "label": study.run_label(run)}
            _line(panels[0], final, "loss", **options)
            _line(panels[1], final, "accuracy", **options)
            _line(panels[2], chosen_curve(run), "val_loss", **options)
            _line(panels[3], chosen_curve(run), "val_accuracy", **options)
    titles = (
        *(_("final training: loss"), _("final training: accuracy (%)")),
        *(_("chosen trial: log loss on the holdout split"), _("chosen trial: accuracy on the holdout split (%)")),
    )
    for axes, title in zip(panels, titles, strict=True):
        style.title(axes, title, 48)
    for axes in panels[::2]:
        axes.set_ylim(0, None)
    _legend(figure, study, models)
    for axes in panels[1::2]:
        style.percent_axis(axes.yaxis)
    for axes in panels:
        style.epoch_axis(axes)
    return figure


def probing(study: Study) -> Figure | None:
    """Log loss and accuracy on the holdout split of every linear probe over its penalty, with the chosen one marked."""
    grids = {run.model: (run, penalties(run)) for run in reversed(study.complete("probe"))}
    grids = {model: (run, grid) for model, (run, grid) in grids.items() if not grid.empty}
    if not grids:
        return None
    figure, panels = style.grid(2, 2, 1.6)
    for model in names.in_order(grids, study.methods):
        run, frame = grids[model]
        color, label = style.look(model, study.encoders).color, study.run_label(run)
        best = frame[np.isclose(frame["l2"], chosen_l2(study, run), rtol=1e-6)]
        for axes, column in zip(panels, ("log_loss", "accuracy"), strict=True):
            axes.plot(frame["l2"], frame[column], color=color, label=f"{label}, {column}")
            chosen = _("{run}, {metric}, chosen", run=label, metric=column)
            axes.plot(best["l2"], best[column], "o", color=color, markersize=5, label=chosen)
    for axes, label in zip(panels, (_("log loss (nats)"), _("accuracy (%)")), strict=True):
        axes.set(xlabel=_("l2 penalty"), title=label)
        style.log_axis(axes.xaxis)
    style.percent_axis(panels[1].yaxis)
    _legend(figure, study, names.in_order(grids, study.methods))
    return figure


def _with(runs: Sequence[Run], *columns: str) -> list[Run]:
    return [run for run in runs if all(column in run.metrics for column in columns)]


def _thin(order: int) -> float:
    return 1.1 if order == 0 else 0.5


def _line(axes: Axes, frame: pd.DataFrame, column: str, *, label: str, **options: Any) -> bool:
    """Draws a metric over epochs, labelled with the series and the metric; returns whether there was any point."""
    x, y = series(frame, column)
    if len(x):
        axes.plot(x, y, marker="." if len(x) < 3 else "", label=f"{label}, {column}", **options)
    return len(x) > 0


def series(frame: pd.DataFrame, column: str) -> tuple[Floats, Floats]:
    """Epochs (or steps, in a log without epochs) and values of a metric, averaged in bins if there are many points."""
    if column not in frame:
        return np.empty(0), np.empty(0)
    frame = frame.dropna(subset=[column])
    x = frame["epoch"].to_numpy(float) if "epoch" in frame else frame["step"].to_numpy(float)
    y = frame[column].to_numpy(float)
    if len(x) > _POINTS:
        bins = np.array_split(np.arange(len(x)), _POINTS)
        x, y = (np.array([values[part].mean() for part in bins]) for values in (x, y))
    return x, y


def _spread(axes: Axes, runs: Sequence[Run], study: Study) -> None:
    """Draws the standard deviation of z on a second axis of the loss panel, on which 0 is a collapse."""
    if not runs:
        return
    twin = axes.twinx()
    several = len({run.model for run in runs}) > 1
    for order, run in enumerate(runs):
        color = style.encoder_color(run.model, study.encoders) if several else "#555555"
        options = {"color": color, "linestyle": "--", "linewidth": 0.8 if several else _thin(order)}
        _line(twin, run.metrics, "z_std", label=study.run_label(run), **options)
    _right(twin)
    twin.set_ylim(0, None)
    if axes.dataLim.y0 >= 0:  # some losses, such as a negative cosine similarity, are below 0
        axes.set_ylim(0, None)


def _right(twin: Any) -> None:
    """Shows the axis of a second panel, which has the place of the first, on its right side."""
    twin.grid(False)
    twin.spines["right"].set_visible(True)
    twin.tick_params(axis="y", colors="#555555")
