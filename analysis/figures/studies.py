"""Differences between the same models of several studies."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from analysis.comparisons import Comparison
from analysis.figures import style
from analysis.names import Model
from analysis.selection import ROWS, selected
from analysis.study import Study
from analysis.words import _


def firsts(found: Sequence[Comparison]) -> list[Model]:
    """The models that are compared with the same model of another study."""
    return list(dict.fromkeys(entry.first for entry in found))


def room(found: Sequence[Comparison]) -> int:
    """How many of `firsts` have room: each has a row for each study that it is compared with."""
    pairs = {(entry.first, entry.second) for entry in found}
    counts = Counter(first for first, _second in pairs)
    return ROWS // max(counts.values(), default=1)


def differences(study: Study, found: Sequence[Comparison]) -> Figure | None:
    """A panel for each family and a row for each pair of models, at most ROWS, with intervals; None without pairs."""
    families = list(dict.fromkeys(entry.family for entry in found))
    shown = selected(study, firsts(found), room(found))
    pairs = list(dict.fromkeys((entry.first, entry.second) for entry in found if entry.first in shown))
    if not pairs:
        return None
    figure, panels = style.rows_of(1, len(families), 0.75 + 0.18 * len(pairs), sharey=True)
    for axes, family in zip(panels[0], families, strict=True):
        axes.axvline(0, color="#999999", linewidth=0.7, label=_("equal accuracies"))
        for entry in found:
            if entry.family == family and (entry.first, entry.second) in pairs:
                row, gap = pairs.index((entry.first, entry.second)), entry.difference
                look, name = style.look(entry.first, study.encoders), study.model_label(entry.first)
                if gap.low is not None and gap.high is not None:
                    options: Any = {
                        "linewidth": 1.4,
                        "solid_capstyle": "butt",
                        "label": _("{model}, interval", model=name),
                    }
                    axes.plot([gap.low, gap.high], [row, row], color=look.color, **options)
                shape: Any = {"markerfacecolor": look.face, "markersize": 4, "label": name}
                axes.plot(gap.value, row, look.marker, color=look.color, **shape)
        axes.set_title(_("test") if family.evaluation == "test" else _("OOD, all classes"))
        axes.grid(axis="y", visible=False)
        style.percent_axis(axes.xaxis)
    labels = [f"{study.model_label(first)} − {second.study}" for first, second in pairs]  # noqa: RUF001 (a minus sign)
    panels[0, 0].set_yticks(range(len(pairs)), labels)
    panels[0, 0].set_ylim(len(pairs) - 0.5, -0.5)
    figure.supxlabel(_("difference (points)"), fontsize=7.5)
    return figure
