"""Test accuracy against out-of-distribution accuracy of all models, on probit axes."""

from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter
from scipy.special import ndtr, ndtri

from analysis import shift, words
from analysis.figures import style
from analysis.robustness import fit, probit
from analysis.study import Study
from analysis.words import _

TICKS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
_LEAST: Final = 1e-3  # the smallest accuracy that is drawn; the largest is 1 - _LEAST


def scatter(study: Study) -> Figure | None:
    """A point with both intervals for each model, the line of the baselines and its networks; None without a model.

    Each study has a line of its own. The axes are scaled by the probit function, so the data are accuracies.
    """
    points, baselines = shift.points(study), shift.baselines(study)
    if not points:
        return None
    figure, panels = style.rows_of(1, 1, 3.0)
    axes = panels[0, 0]
    ends = []
    for name, group in ((name, group) for name, groups in baselines.items() for group in groups):
        places, heights = (ndtr(probit(hits.mean(axis=1), hits.shape[1])) for hits in (group.test, group.ood))
        label = _of(name, _("networks from scratch"))
        axes.plot(places, heights, ".", color="#999999", markersize=3, zorder=1, label=label)
        ends += [*places, *heights]
    lines = {}
    for model, point in points.items():
        look, label = style.look(model, study.encoders), study.model_label(model)
        x, y = (float(clipped(mean.value)) for mean in (point.test, point.ood))
        bounds = [clipped([mean.low, mean.high]) for mean in (point.test, point.ood)]
        options: Any = {"color": look.color, "linewidth": 0.7}
        axes.plot(bounds[0], [y, y], label=_("{model}, interval on test", model=label), **options)
        axes.plot([x, x], bounds[1], label=_("{model}, interval on OOD", model=label), **options)
        options = {"markerfacecolor": look.face, "markersize": 4.5, "linestyle": "none", "label": label}
        (lines[model],) = axes.plot(x, y, look.marker, color=look.color, **options)
        ends += [*bounds[0], *bounds[1]]
    limits = ndtr(np.array([ndtri(min(ends)) - 0.1, ndtri(max(ends)) + 0.1]))
    axes.plot(limits, limits, color="#bbbbbb", linewidth=0.6, linestyle=":", zorder=0, label=_("equal accuracies"))
    for name, line in ((name, fit(groups)) for name, groups in baselines.items()):
        if line:
            label = _of(name, _("line of the networks from scratch"))
            axes.plot(limits, line.predicted(limits), color="#666666", linewidth=0.9, zorder=0, label=label)
    axes.set(xlim=limits, ylim=limits, xlabel=_("test accuracy (%)"), ylabel=_("OOD accuracy (%)"))
    axes.set_xscale("function", functions=(ndtri, ndtr))
    axes.set_yscale("function", functions=(ndtri, ndtr))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(FixedLocator(TICKS))
        axis.set_major_formatter(FuncFormatter(lambda value, place: words.localized(f"{100 * value:.3g}")))
    style.legend(figure, list(lines.values()), [study.model_label(model) for model in lines])
    return figure


def clipped(accuracy: Any) -> Any:
    """Accuracies that can be drawn on a probit axis, on which 0 and 1 are infinitely far away."""
    return np.clip(accuracy, _LEAST, 1 - _LEAST)


def _of(name: str, label: str) -> str:
    """The label after the study's name, which is empty in a report of one study."""
    return f"{name}, {label}" if name else label
