"""Accuracy of every model as dots with intervals."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.names import Model
from analysis.selection import ROWS, selected
from analysis.study import Study
from analysis.tables import Column, main_columns, main_value
from analysis.words import _


def dots(study: Study) -> Figure | None:
    """A panel for each accuracy of the main table and a row for each model, at most ROWS; None without models."""
    columns, models = main_columns(study), selected(study, study.models, ROWS)
    if not models:
        return None
    figure, panels = style.rows_of(1, len(columns), 0.75 + 0.18 * len(models), sharey=True)
    for axes, column in zip(panels[0], columns, strict=True):
        _panel(axes, study, column, models)
    panels[0, 0].set_yticks(range(len(models)), [study.model_label(model) for model in models])
    panels[0, 0].set_ylim(len(models) - 0.5, -0.5)
    figure.supxlabel(_("accuracy (%)"), fontsize=7.5)
    return figure


def _panel(axes: Axes, study: Study, column: Column, models: list[Model]) -> None:
    for row, model in enumerate(models):
        found = main_value(study, model, column)
        if found is None:
            continue
        look, label = style.look(model, study.encoders), study.model_label(model)
        if found.bounds:
            options: Any = {"linewidth": 1.4, "solid_capstyle": "butt", "label": _("{model}, interval", model=label)}
            axes.plot(found.bounds, [row, row], color=look.color, **options)
        if len(found.by_seed) > 1:
            seeds, options = list(found.by_seed.values()), {"markersize": 5, "label": _("{model}, seeds", model=label)}
            axes.plot(seeds, [row] * len(seeds), "|", color=look.color, **options)
        options = {"markerfacecolor": look.face, "markersize": 4, "label": label}
        axes.plot(found.value, row, look.marker, color=look.color, **options)
        if model.is_random_probe:
            options = {"linewidth": 0.7, "linestyle": ":", "label": _("{model}, dotted line", model=label)}
            axes.axvline(found.value, color=look.color, **options)
    axes.set_title(column.heading)
    axes.grid(axis="y", visible=False)
    style.percent_axis(axes.xaxis)
