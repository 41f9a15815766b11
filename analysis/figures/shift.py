"""Test accuracy against out-of-distribution accuracy of all models, on probit axes."""

from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter
from scipy.special import ndtr, ndtri

from analysis import shift
from analysis.figures import style
from analysis.robustness import fit, probit
from analysis.study import Study

TICKS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)


def scatter(study: Study) -> Figure | None:
    """A point with both intervals for each model, the line of the baselines and its networks; None without a model.

    Each study has a line of its own.
    """
    points, baselines = shift.points(study), shift.baselines(study)
    if not points:
        return None
    figure, panels = style.rows_of(1, 1, 3.0)
    axes = panels[0, 0]
    ends = []
    for group in (group for groups in baselines.values() for group in groups):
        places, heights = (probit(hits.mean(axis=1), hits.shape[1]) for hits in (group.test, group.ood))
        axes.plot(places, heights, ".", color="#999999", markersize=3, zorder=1)
        ends += [*places, *heights]
    lines = {}
    for model, point in points.items():
        look = style.look(model, study.encoders)
        x, y = (float(ndtri(np.clip(mean.value, 1e-3, 1 - 1e-3))) for mean in (point.test, point.ood))
        bounds = [ndtri(np.clip([mean.low, mean.high], 1e-3, 1 - 1e-3)) for mean in (point.test, point.ood)]
        axes.plot(bounds[0], [y, y], color=look.color, linewidth=0.7)
        axes.plot([x, x], bounds[1], color=look.color, linewidth=0.7)
        (lines[model],) = axes.plot(
            x, y, look.marker, color=look.color, markerfacecolor=look.face, markersize=4.5, linestyle="none"
        )
        ends += [*bounds[0], *bounds[1]]
    limits = min(ends) - 0.1, max(ends) + 0.1
    axes.plot(limits, limits, color="#bbbbbb", linewidth=0.6, linestyle=":", zorder=0)
    for line in filter(None, map(fit, baselines.values())):
        axes.plot(limits, ndtri(line.predicted(ndtr(np.array(limits)))), color="#666666", linewidth=0.9, zorder=0)
    for axis in (axes.xaxis, axes.yaxis):
        _probit_axis(axis)
    axes.set(xlim=limits, ylim=limits, xlabel="test accuracy (%)", ylabel="OOD accuracy (%)")
    style.legend(figure, list(lines.values()), [study.model_label(model) for model in lines])
    return figure


def _probit_axis(axis: Any) -> None:
    axis.set_major_locator(FixedLocator(list(ndtri(TICKS))))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * ndtr(value):.3g}"))
