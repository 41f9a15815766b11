"""Accuracy over the values of a swept parameter."""

import math
from collections.abc import Sequence
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.estimates import estimate
from analysis.figures import style
from analysis.study import Study
from analysis.sweeps import Curve, curves, means, unchanged
from analysis.words import N_, _

PANELS: Final = {"test": N_("test"), "ood": N_("OOD, all classes")}
_DECADE: Final = 10.0  # a wider range of values has a logarithmic axis
_GAP: Final = 0.1  # between labels of such an axis, as a share of its length


def over_values(study: Study) -> Figure | None:
    """A row for each parameter, with panels of test and OOD accuracy; None if no parameter has two numbers.

    Models that the sweep does not change are dotted lines.
    """
    found = curves(study)
    parameters = list(dict.fromkeys(curve.parameter for curve in found))
    shown = evaluations(study)
    if not parameters or not shown:
        return None
    figure, panels = style.rows_of(len(parameters), len(shown), 2.3, sharex="row", sharey="col")
    for row, parameter in zip(panels, parameters, strict=True):
        own = [curve for curve in found if curve.parameter == parameter]
        for axes, evaluation in zip(row, shown, strict=True):
            _references(axes, study, evaluation)
            for curve in own:
                _curve(axes, study, curve, evaluation, color_of(study, curve, own))
            axes.set(xlabel=parameter, title=_(PANELS[evaluation]))
            style.percent_axis(axes.yaxis)
        if logarithmic(own):
            style.log_axis(row[0].xaxis, _apart(sorted({value for curve in own for value in curve.models})))
        row[0].set_ylabel(_("accuracy (%)"))
    pairs = [axes.get_legend_handles_labels() for axes in panels.flat]
    labels = {label: handle for handles, names in pairs for handle, label in zip(handles, names, strict=True)}
    style.legend(figure, list(labels.values()), list(labels))
    return figure


def _apart(values: Sequence[float]) -> list[float]:
    """Those of the positive, increasing values whose labels do not overlap on a logarithmic axis."""
    shown = [values[0]]
    for value in values[1:]:
        if math.log(value / shown[-1]) > _GAP * math.log(values[-1] / values[0]):
            shown.append(value)
    return shown


def evaluations(study: Study) -> list[str]:
    """Those of PANELS that a model has an accuracy of."""
    return [kind for kind in PANELS if any(estimate(study, model, kind, "accuracy") for model in study.models)]


def logarithmic(found: Sequence[Curve]) -> bool:
    """Whether the values of a parameter are so far apart that their axis is logarithmic."""
    return style.is_wide([value for curve in found for value in curve.models], _DECADE)


def color_of(study: Study, curve: Curve, others: Sequence[Curve]) -> str:
    """The colour of the method; one for each combination of the other parameters, if the sweep has others.

    others: all curves of the parameter.
    """
    settings = list(dict.fromkeys(other.model.variant for other in others))
    if len(settings) > 1:
        return style.CLASSES[settings.index(curve.model.variant) % len(style.CLASSES)]
    return style.encoder_color(curve.model.encoder, study.encoders)


def _curve(axes: Axes, study: Study, curve: Curve, evaluation: str, color: str) -> None:
    found = means(study, curve, evaluation)
    ends = [mean.bounds or (mean.value, mean.value) for mean in found.values()]
    heights = [mean.value for mean in found.values()]
    look = style.look(curve.model, study.encoders)
    lengths = (
        [height - low for height, (low, _) in zip(heights, ends, strict=True)],
        [high - height for height, (_, high) in zip(heights, ends, strict=True)],
    )
    axes.errorbar(
        list(found), heights, yerr=lengths, color=color, linestyle=look.line, linewidth=0.9, elinewidth=0.9,
        marker=look.marker, markersize=4, markerfacecolor="white" if look.face == "white" else color, capsize=1.5,
        label=study.model_label(curve.model),
    )  # fmt: skip


def _references(axes: Axes, study: Study, evaluation: str) -> None:
    """Draws the models that the sweep does not change."""
    for model, mean in unchanged(study, evaluation).items():
        color = style.look(model, study.encoders).color
        axes.axhline(mean.value, color=color, linewidth=0.8, linestyle=":", label=study.model_label(model))
