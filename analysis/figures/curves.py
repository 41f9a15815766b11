"""Learning curves of every run with a metrics log, complete or not; thin lines are further seeds."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis import names
from analysis.artifacts import numbers
from analysis.estimates import estimate
from analysis.figures import style
from analysis.names import Model
from analysis.run import Run
from analysis.study import Study
from analysis.trials import chosen_curve

Floats = npt.NDArray[np.float64]
_POINTS = 300  # of a line: longer series are averaged in bins
RATES = {"accuracy": "training accuracy", "knn": "kNN", "contrast_accuracy": "pretext task (dotted)"}

HEALTH = {
    "z_std": "s.d. of z per dimension",
    "effective_rank": "effective rank of the embeddings",
    "alignment": "alignment of two views",
    "uniformity": "uniformity",
}


def pretraining(study: Study) -> Figure | None:
    """A row for each method: loss, without negatives also the standard deviation of z; accuracies; learning rate.

    The variants of a sweep share the row of their method; each has its own colour.
    """
    every = _with(study.of("pretrain"), "loss")
    methods = list(dict.fromkeys(run.model.method for run in every))
    if not methods:
        return None
    figure, panels = style.rows_of(len(methods), 3, 1.05, sharex="row")
    for row, method in zip(panels, methods, strict=True):
        runs = [run for run in every if run.model.method == method]
        seeds: Counter[Model] = Counter()
        for run in runs:
            color, order = style.encoder_color(run.model, study.encoders), seeds[run.model]
            seeds[run.model] += 1
            _losses(row[0], run, color, order)
            _rates(row[1], run, color, order)
            _line(row[2], run.metrics, "lr", color=color, linewidth=_thin(order))
        collapsible = [run for run in _with(runs, "z_std") if "contrast_accuracy" not in run.metrics]  # no negatives
        _spread(row[0], collapsible, study.encoders)
        twin = " (left), s.d. of z (dashed)" if collapsible else ""
        style.title(row[0], f"{study.method_label(method)}: loss{twin}", 32)
        shown = ", ".join(label for column, label in RATES.items() if _with(runs, column))
        style.title(row[1], f"{shown}, %", 32)
        row[1].set(ylim=(0, 1))  # the same for all methods, so that small fluctuations look small
        row[2].set(title="learning rate", ylim=(0, None))
        style.percent_axis(row[1].yaxis)
        if not shown:
            row[1].set_axis_off()
            row[1].set_title("")
    for axes in panels[-1]:
        axes.set_xlabel("epoch")
    _variants(figure, every, study)
    return figure


def health(study: Study) -> Figure | None:
    """Spread, effective rank, alignment and uniformity during pretraining, a panel each, with all methods."""
    runs = [run for run in study.of("pretrain") if any(column in run.metrics for column in HEALTH)]
    if not runs:
        return None
    figure, panels = style.grid(len(HEALTH), 2, 1.35)
    for axes, (column, heading) in zip(panels, HEALTH.items(), strict=True):
        seeds: Counter[Model] = Counter()
        for run in runs:
            label = study.model_label(run.model) if seeds[run.model] == 0 else "_"
            color, order = style.encoder_color(run.model, study.encoders), seeds[run.model]
            seeds[run.model] += _line(axes, run.metrics, column, color=color, linewidth=_thin(order), label=label)
        axes.set(title=heading, xlabel="epoch")
        if column != "uniformity":
            axes.set_ylim(0, None)
    labels = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    style.legend(figure, list(labels.values()), list(labels))
    return figure


def _variants(figure: Figure, runs: Sequence[Run], study: Study) -> None:
    """Adds a legend of the variants of a sweep, and of the studies if there are several; otherwise nothing."""
    drawn = {run.model for run in runs if run.model.setting}
    variants = [encoder for encoder in study.encoders if encoder in drawn]
    if variants:
        handles = [Line2D([], [], color=style.encoder_color(encoder, study.encoders)) for encoder in variants]
        style.legend(figure, handles, [study.model_label(encoder) for encoder in variants])


def finetuning(study: Study) -> Figure | None:
    """Training of all weights: loss and accuracy of the final trainings, then the validation of the chosen trials."""
    models = names.in_order((run.model for run in _with(study.of("finetune"), "phase")), study.methods)
    if not models:
        return None
    figure, panels = style.grid(3, 3, 1.6)
    for model in models:
        color, label = style.look(model, study.encoders).color, study.model_label(model)
        for order, run in enumerate(_with(study.of("finetune", model), "phase")):
            final = run.metrics[run.metrics["phase"] == "final"]
            options = {"color": color, "linewidth": _thin(order), "label": label if order == 0 else "_"}
            _line(panels[0], final, "loss", **options)
            _line(panels[1], final, "accuracy", **options)
            _line(panels[2], chosen_curve(run), "val_accuracy", **options)
    panels[0].set(title="final training: loss", ylim=(0, None))
    panels[1].set(title="final training: accuracy (%)")
    panels[2].set(title="chosen trial: validation (%)")
    labels = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    style.legend(figure, list(labels.values()), list(labels))
    for axes in panels[1:]:
        style.percent_axis(axes.yaxis)
    for axes in panels:
        axes.set(xlabel="epoch")
    panels[2].locator_params(axis="x", integer=True)
    return figure


def probing(study: Study) -> Figure | None:
    """Log loss and accuracy on the holdout split of every linear probe over its penalty, with the chosen one marked."""
    grids = {run.model: (run, tried(run)) for run in reversed(study.complete("probe"))}
    grids = {model: (run, grid) for model, (run, grid) in grids.items() if not grid.empty}
    if not grids:
        return None
    figure, panels = style.grid(2, 2, 1.6)
    for model in names.in_order(grids, study.methods):
        run, frame = grids[model]
        color = style.look(model, study.encoders).color
        best = frame[np.isclose(frame["l2"], chosen_l2(study, run), rtol=1e-6)]
        for axes, column in zip(panels, ("log_loss", "accuracy"), strict=True):
            axes.plot(frame["l2"], frame[column], color=color, label=study.model_label(model))
            axes.plot(best["l2"], best[column], "o", color=color, markersize=5)
    for axes, label in zip(panels, ("log loss (nats)", "accuracy (%)"), strict=True):
        axes.set(xlabel="l2 penalty", ylabel=label)
        style.log_axis(axes.xaxis)
    style.percent_axis(panels[1].yaxis)
    style.legend(figure, *panels[0].get_legend_handles_labels())
    return figure


def tried(run: Run) -> pd.DataFrame:
    """The l2 penalties in the result of a probe, with log loss and accuracy of each on the holdout split."""
    rows = [numbers(row) for row in run.tried if isinstance(row, dict)]
    return pd.DataFrame(rows, columns=["l2", "log_loss", "accuracy"]).astype(float).dropna().sort_values("l2")


def _with(runs: Sequence[Run], column: str) -> list[Run]:
    return [run for run in runs if column in run.metrics]


def _thin(order: int) -> float:
    return 1.1 if order == 0 else 0.5


def _line(axes: Axes, frame: pd.DataFrame, column: str, **options: Any) -> bool:
    """Draws a metric over epochs; returns whether there was any point."""
    x, y = series(frame, column)
    if len(x):
        axes.plot(x, y, marker="." if len(x) < 3 else "", **options)
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


def _losses(axes: Axes, run: Run, color: str, order: int) -> None:
    _line(axes, run.metrics, "loss", color=color, linewidth=_thin(order))


def _rates(axes: Axes, run: Run, color: str, order: int) -> None:
    for column in RATES:
        line = ":" if column == "contrast_accuracy" else "-"
        _line(axes, run.metrics, column, color=color, linestyle=line, linewidth=_thin(order))


def _spread(axes: Axes, runs: Sequence[Run], encoders: Sequence[Model]) -> None:
    """Draws the standard deviation of z on a second axis of the loss panel, on which 0 is a collapse."""
    if not runs:
        return
    twin = axes.twinx()
    several = len({run.model for run in runs}) > 1
    for order, run in enumerate(runs):
        color = style.encoder_color(run.model, encoders) if several else "#555555"
        _line(twin, run.metrics, "z_std", color=color, linestyle="--", linewidth=0.8 if several else _thin(order))
    twin.grid(False)
    twin.spines["right"].set_visible(True)
    twin.tick_params(axis="y", colors="#555555")
    twin.set_ylim(0, None)
    if axes.dataLim.y0 >= 0:  # some losses, such as a negative cosine similarity, are below 0
        axes.set_ylim(0, None)


def chosen_l2(study: Study, run: Run) -> float:
    """The l2 penalty that a probe chose; nan if it is not recorded."""
    found = estimate(study, run.model, "validation", "l2")
    return found.by_seed.get(run.seed, np.nan) if found else np.nan
