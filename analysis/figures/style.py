"""The style of all figures: widths for A4, fonts of at least 7 points, colours for colour-blind readers.

Figures are matplotlib objects without pyplot, so that no global state remains. Call everything inside `styled()`.
"""

import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator, ScalarFormatter

from analysis import words
from analysis.figures.plotted_data import figure_csv
from analysis.names import Model
from analysis.words import _
from ssl_pkg.catalogue import RANDOM, SUPERVISED

WIDTH: Final = 6.5  # inches: the text width of the report
_RC: Final[dict[str, Any]] = {
    "font.family": "DejaVu Sans",
    "font.size": 7.5,
    "axes.titlesize": 7.5,
    "axes.titlepad": 4,
    "axes.labelsize": 7.5,
    "axes.labelpad": 2.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.1,
    "text.parse_math": False,  # a `$` in the name of a class or method is not math
    "pdf.fonttype": 42,
    "svg.fonttype": "none",  # text stays text, which the PDF of the report embeds with its font
    "svg.hashsalt": "ssl-study",  # the names of clips are hashes
    "savefig.dpi": 200,
    "figure.constrained_layout.h_pad": 0.05,
    "figure.constrained_layout.w_pad": 0.05,
}
# Okabe and Ito's colours for self-supervised methods; black and grey for the baselines.
_METHODS: Final = {
    RANDOM: "#8a8a8a",
    SUPERVISED: "#000000",
    "simclr": "#0072B2",
    "byol": "#D55E00",
    "moco": "#009E73",
}
_OTHERS: Final = ("#CC79A7", "#E69F00", "#56B4E9", "#7A5195", "#8C6D31")
# Tol's `muted` scheme and a dark grey, for ten classes.
CLASSES: Final = (
    "#332288", "#CC6677", "#DDAA33", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499", "#444444",
)  # fmt: skip
MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
_MODEL_MARKERS: Final = ("osD", "v^P", "<>X")  # of a probe, a fine-tuned model and a baseline, in each study
_LIGHTEST: Final = 0.5  # white in the colours of the last of several studies
NAMED: Final = 40  # classes in a figure; of more, only some are named
LONGEST_NAME: Final = 14  # letters of a class's name in a figure
NUMBERED: Final = 20  # classes that have room for a number each
_LETTERS: Final = {"en": 1.0, "ru": 0.87}  # that are as wide as an English letter, on average


@dataclass(frozen=True)
class Look:
    """Colour, marker, line style and marker face of a model: open and dashed for a probe, else filled and solid."""

    color: str
    marker: str
    line: str
    face: str


@contextmanager
def styled() -> Iterator[None]:
    """Context manager for the report's style; restores matplotlib's settings afterwards."""
    with mpl.rc_context(cast(Any, _RC)):
        yield


def encoder_color(encoder: Model, encoders: Sequence[Model]) -> str:
    """The colour of an encoder, also of a method that this file does not list.

    encoders: all that the study has. In a sweep each variant has its own colour. Of several studies, each is lighter
    than the one before.
    """
    variants = [other for other in encoders if other.variant]
    if encoder in variants:
        place, count = variants.index(encoder), len(variants)
        many = count > len(CLASSES)
        return mpl.colors.to_hex(mpl.colormaps["turbo"](place / (count - 1))) if many else CLASSES[place]
    unlisted = list(dict.fromkeys(other.method for other in [*encoders, encoder] if other.method not in _METHODS))
    colors = _METHODS | {method: _OTHERS[place % len(_OTHERS)] for place, method in enumerate(unlisted)}
    place, count = _place(encoder, encoders)
    white = _LIGHTEST * place / max(1, count - 1)
    red, green, blue = (part + white * (1 - part) for part in mpl.colors.to_rgb(colors[encoder.method]))
    return mpl.colors.to_hex((red, green, blue))


def _place(model: Model, encoders: Sequence[Model]) -> tuple[int, int]:
    """The place of the model's study among the studies, and their number."""
    studies = sorted({other.study for other in [*encoders, model]})
    return studies.index(model.study), len(studies)


def class_look(label: int) -> tuple[str, str]:
    """The colour and the marker of a class, different for up to a hundred classes."""
    return CLASSES[label % len(CLASSES)], MARKERS[(label + label // len(CLASSES)) % len(MARKERS)]


def named(count: int, most: int = NAMED) -> range:
    """The places of the classes, of `count` on an axis, that are named: at most `most`, evenly spaced."""
    return range(0, count, -(-count // most))


def look(model: Model, encoders: Sequence[Model]) -> Look:
    """The look of a model, the same in every figure."""
    color = encoder_color(model.encoder, encoders)
    place = _place(model, encoders)[0]
    probe, finetuned, whole = _MODEL_MARKERS[place % len(_MODEL_MARKERS)]
    if model.adaptation == "probe":
        return Look(color, probe, "--", "white")
    return Look(color, finetuned if model.adaptation == "finetune" else whole, "-", color)


def grid(count: int, columns: int, height: float, **options: Any) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels in rows of `columns`, and its panels. height: of a row, in inches.

    layout="compressed" suits panels with a fixed aspect ratio.
    """
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(WIDTH, height * rows), layout=options.pop("layout", "constrained"))
    axes = list(np.asarray(figure.subplots(rows, columns, squeeze=False, **options)).flat)
    for spare in axes[count:]:
        spare.set_axis_off()
    return figure, axes[:count]


def rows_of(rows: int, columns: int, height: float, **options: Any) -> tuple[Figure, npt.NDArray[Any]]:
    """A figure and its panels as an array (rows, columns). height: of a row, in inches."""
    figure = Figure(figsize=(WIDTH, height * rows), layout="constrained")
    return figure, np.asarray(figure.subplots(rows, columns, squeeze=False, **options))


def save(figure: Figure, folder: Path, name: str) -> None:
    """Writes NAME.svg, NAME.pdf, NAME.png (200 dpi), and what is drawn as NAME.csv.

    The same figure gives the same bytes.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _localize(figure)
    path = folder / f"{name}.svg"
    figure.draw_without_rendering()  # computes the layout once for all files
    figure.set_layout_engine(None)
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None, "Creator": None, "Producer": None})
    figure.savefig(path.with_suffix(".png"), metadata={"Software": None})
    path.with_suffix(".csv").write_text(figure_csv(figure), encoding="utf-8")


class _Numbers(ScalarFormatter):
    """Writes what a ScalarFormatter writes, with the marks of the current language."""

    def __init__(self, known: ScalarFormatter) -> None:
        vars(self).update(vars(known))

    def __call__(self, x: float, pos: int | None = None) -> str:
        return words.localized(super().__call__(x, pos))

    def get_offset(self) -> str:
        return words.localized(super().get_offset())


def _localize(figure: Figure) -> None:
    """Gives the numbers on the axes without a formatter of their own the marks of the current language."""
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        formatter = axis.get_major_formatter()
        if type(formatter) is ScalarFormatter:
            axis.set_major_formatter(_Numbers(formatter))


def letters(count: int) -> int:
    """How many letters of the current language are as wide as `count` English ones."""
    return int(count * _LETTERS[words.current()])


class _Wrapper(textwrap.TextWrapper):
    wordsep_simple_re = re.compile(r"(\s+|(?<=\w=)(?=\S))")


def wrapped(text: str, width: int) -> str:
    """The text in lines that are as wide as at most `width` English letters; a long name breaks behind its `=`."""
    return _Wrapper(letters(width), break_on_hyphens=False).fill(text)


def title(axes: Axes, text: str, width: int) -> None:
    """Sets a title in lines that are as wide as at most `width` English letters.

    32 letters fit above a panel in a row of three, 24 in a row of four, 16 in a row of four with a colour bar, and
    17 in a row of six.
    """
    axes.set_title(wrapped(text, width))


def legend(figure: Figure, handles: Sequence[Any], labels: Sequence[str], **options: Any) -> None:
    """Adds a legend below the panels, in up to four columns as far as the labels fit the width.

    The figure's height grows with the legend, so that the panels keep their height.
    """
    columns = max(1, min(4, letters(112) // (max(map(len, labels), default=0) + 7)))
    rows = math.ceil(len(labels) / columns)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + 0.15 * max(0, rows - 1))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, **options)


def shortened(names: Sequence[str]) -> list[str]:
    """The names, each cut to LONGEST_NAME characters: at the end, or in the middle if their starts are the same."""
    cut = [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1]}…" for name in names]
    if len(set(cut)) == len(set(names)):
        return cut
    end = LONGEST_NAME // 2
    return [name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 1 - end]}…{name[-end:]}" for name in names]


def is_wide(values: Iterable[float], ratio: float) -> bool:
    """Whether values need a logarithmic axis: all are positive, the largest more than `ratio` times the smallest."""
    values = list(values)
    return min(values) > 0 and max(values) > ratio * min(values)


def log_axis(axis: Any, ticks: Sequence[float] = ()) -> None:
    """Makes an axis logarithmic, with labels in plain notation (0.001). ticks: by default at most five decades."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(FixedLocator(ticks) if ticks else LogLocator(numticks=5))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, place: words.localized(f"{value:g}")))


def epoch_axis(axes: Axes) -> None:
    """Lets the x axis begin at epoch 0 and include the end of the first one, with ticks at whole epochs."""
    axes.set_xlim(0, max(1.0, axes.dataLim.x1) * 1.03)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel(_("epoch"))


def percent_axis(axis: Any) -> None:
    """Labels fractions as percentages."""
    axis.set_major_formatter(FuncFormatter(lambda value, place: words.localized(f"{100 * value:g}")))


def bare(axes: Axes) -> None:
    """Removes ticks and grid and draws a thin frame, for maps without units."""
    axes.grid(False)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(visible=True, linewidth=0.4, color="#999999")
