"""The parts of an interactive figure, as plain data for the script."""

import base64
import html
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import plotly.graph_objects as go

from analysis.estimates import NONE, Dimensions, Estimate
from analysis.figures import style
from analysis.names import Model
from analysis.run import Run
from analysis.statistics import Mean
from analysis.study import Study
from analysis.words import _, ngettext

SYMBOLS: Final = {  # of matplotlib's markers
    "o": "circle", "s": "square", "^": "triangle-up", "D": "diamond", "v": "triangle-down", "P": "cross", "X": "x",
    "<": "triangle-left", ">": "triangle-right", "*": "star",
}  # fmt: skip
_DASHES: Final = {"-": "solid", "--": "dash"}
_FEW_ROWS: Final = 12
_WRAPPED: Final = 26  # characters in a line of a model's name on an axis
_LINE: Final = 17  # pixels, the height of a line on an axis


@dataclass(frozen=True)
class Entry:
    """An entry of a legend, which shows and hides the traces of its group. Without a dash it shows the symbol."""

    group: str
    label: str
    color: str
    symbol: str = ""
    dash: str = ""


@dataclass(frozen=True)
class View:
    """What a figure shows when `label` is chosen.

    content: traces and layout, or the points of a map. note: what the caption says of this view only.
    """

    label: str
    content: dict[str, Any]
    runs: Sequence[Run] = ()
    note: str = ""


@dataclass(frozen=True)
class Plot:
    """A figure with a choice of views.

    kind: `traces` for plotly's traces, `points` for t-SNE maps. choice: the label of the choice, empty for “Show”.
    height: in pixels.
    """

    name: str
    title: str
    caption: str
    views: Sequence[View]
    choice: str = ""
    kind: str = "traces"
    height: int = 420
    legend: Sequence[Entry] = ()
    more: dict[str, Any] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """The plot as JSON that the script reads."""
        views = [
            {"label": view.label, "note": view.note, "runs": [run.name for run in view.runs], **view.content}
            for view in self.views
        ]
        looks = {"kind": self.kind, "choice": self.choice or _("Show"), "height": self.height}
        return looks | {"legend": [vars(entry) for entry in self.legend], "views": views, **self.more}


def traces(drawn: Sequence[Any], **layout: Any) -> dict[str, Any]:
    """The content of a view: plotly's traces and layout, whose arrays are encoded in base64."""
    content: dict[str, Any] = go.Figure(list(drawn), go.Layout(template={}, **layout)).to_dict()
    return content


def text(value: str) -> str:
    """Text that plotly shows as it is. plotly interprets some HTML, and `%{` in texts for hovering."""
    return html.escape(value, quote=False).replace("{", "&#123;")


def hover(*lines: str) -> str:
    """The lines of a text for hovering, of which empty ones are left out."""
    return "<br>".join(text(line) for line in lines if line)


def images(count: int | None) -> str:
    """The number of images for hovering; empty if it is unknown."""
    return "" if count is None else ngettext("{n:,} image", "{n:,} images", count)


def wrapped(label: str, width: int = _WRAPPED) -> str:
    """A text for an axis, in lines of at most `width` characters."""
    return "<br>".join(text(line) for line in textwrap.wrap(label, width, break_on_hyphens=False))


def rows_axis(labels: Sequence[str]) -> dict[str, Any]:
    """A vertical axis with a row for each label, the first one at the top."""
    return {
        "tickvals": list(range(len(labels))), "ticktext": list(map(wrapped, labels)),
        "range": [len(labels) - 0.5, -0.5], "automargin": True,
    }  # fmt: skip


def rows_side(count: int) -> dict[str, str]:
    """The side of the horizontal axis of a figure with so many rows: above many, so that it is seen with the first."""
    return {"side": "top"} if count > _FEW_ROWS else {}


def dodged(place: int, count: int, reach: float) -> float:
    """How far the mark of one of `count` models is moved, at most `reach`, so that all are side by side."""
    return reach * ((2 * place + 1) / count - 1)


def rows_height(labels: Sequence[str]) -> int:
    """The height of a figure with a row for each label, in pixels; the rows of many are narrower.

    All rows have the same height, so the two neighbours with the most lines decide: their labels must not overlap.
    """
    more = [wrapped(label).count("<br>") for label in labels]
    most = max((sum(pair) / 2 for pair in pairwise(more)), default=sum(more))
    pitch = (34 if len(labels) <= _FEW_ROWS else 22) + _LINE * most
    return 110 + round(pitch * len(labels))


def floats(values: Any) -> Any:
    """Values as float32, which halves their size in the file."""
    return np.asarray(values, np.float32)


def packed(values: npt.NDArray[Any]) -> dict[str, str]:
    """Integers in the form of plotly's typed arrays: little-endian bytes in base64."""
    kind = {"i": "i", "u": "u"}[values.dtype.kind] + str(values.dtype.itemsize)
    order = values.dtype.newbyteorder("<")
    return {"dtype": kind, "bdata": base64.b64encode(values.astype(order).tobytes()).decode("ascii")}


def marker(study: Study, model: Model, size: int = 9) -> dict[str, Any]:
    """A model's marker: open for a probe, as in the PDF."""
    look = style.look(model, study.encoders)
    return {
        "color": look.color,
        "symbol": symbol_of(study, model),
        "size": size,
        "line": {"width": 1.5, "color": look.color},
    }


def symbol_of(study: Study, model: Model) -> str:
    """The symbol of a model."""
    look = style.look(model, study.encoders)
    return SYMBOLS[look.marker] + ("-open" if look.face != look.color else "")


def line(study: Study, model: Model) -> dict[str, Any]:
    """A model's line: dashed for a probe, as in the PDF."""
    look = style.look(model, study.encoders)
    return {"color": look.color, "dash": _DASHES[look.line], "width": 2}


def model_entries(study: Study, models: Iterable[Model], *, lines: bool) -> list[Entry]:
    """A legend of models, with their symbol or their line."""
    return [
        Entry(
            model.full_name,
            study.model_label(model),
            style.look(model, study.encoders).color,
            "" if lines else symbol_of(study, model),
            line(study, model)["dash"] if lines else "",
        )
        for model in models
    ]


def bars(
    values: Sequence[Estimate | Mean],
    color: str,
    scale: Callable[[float], Any] = lambda share: 100 * share,
    **looks: float,
) -> dict[str, Any]:
    """The error bars of intervals on an axis with a scale, by default in percent; of no length without an interval."""

    def length(low: float | None, high: float | None) -> float:
        return 0.0 if low is None or high is None else max(0.0, float(scale(high) - scale(low)))

    return {
        "type": "data", "symmetric": False, "color": color, "visible": any(value.low is not None for value in values),
        "array": [length(value.value, value.high) for value in values],
        "arrayminus": [length(value.low, value.value) for value in values], **looks,
    }  # fmt: skip


def runs_of(study: Study, model: Model, evaluation: str, metric: str, dimensions: Dimensions = NONE) -> list[Run]:
    """The runs that a number of a model comes from."""
    frame = study.numbers.get((model, evaluation, metric, dimensions))
    if frame is None:
        return []
    found = set(zip(frame["stage"], frame["seed"], strict=True))
    return [run for run in study.complete() if (run.stage, run.seed) in found and _contains(run, model)]


def _contains(run: Run, model: Model) -> bool:
    """Whether the run can have rows of the model: it is the run's model, or one that an adaptation makes of it."""
    return run.model == model or (run.model.adaptation is None and run.model == model.encoder)


def sources(runs: Sequence[Run]) -> str:
    """The seeds and names of runs for hovering; of many runs, only some names."""
    seeds = sorted({run.seed for run in runs})
    if not seeds:
        return ""
    names = [run.name for run in runs]
    shown = ", ".join(names[:3])
    if len(names) > 3:
        shown = _("{names} and {n} more", names=shown, n=len(names) - 3)
    if len(seeds) == 1:
        return _("seed {seed}; {runs}", seed=seeds[0], runs=shown)
    return _("seeds {seeds}; {runs}", seeds=", ".join(map(str, seeds)), runs=shown)
