"""What a figure shows, as rows: read from matplotlib's artists, so that the rows are exactly what is drawn."""

from collections.abc import Callable, Iterator
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PathCollection, PolyCollection
from matplotlib.container import ErrorbarContainer
from matplotlib.contour import ContourSet
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle, StepPatch
from matplotlib.ticker import FixedLocator

from analysis import words
from analysis.number_text import plain, table_csv
from analysis.words import _

COLUMNS: Final = ("panel", "series", "kind", "x", "y", "value")
_Points = Iterator[tuple[float, float] | tuple[float, float, float]]


def figure_csv(figure: Figure) -> str:
    """Every point of the lines, markers, bars, images and contours of a figure as CSV; the columns are COLUMNS.

    panel: the label of the axes, or else their title, or the label of their y axis. series: the label of the artist.
    x, y: data coordinates, or the label of the tick there. value: of a cell of an image, or of a contour. A line across
    a whole panel, such as axvline's, has the coordinate along it as share of the panel.
    """
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    return table_csv(COLUMNS, [row for number, axes in enumerate(panels, start=1) for row in _rows(axes, number)])


def _rows(axes: Axes, number: int) -> Iterator[list[str]]:
    titles = [axes.get_label(), axes.get_title("left"), axes.get_title(), axes.get_ylabel()]
    titles.append(_("panel {number}", number=number))
    panel = next(" ".join(str(title).split()) for title in titles if title)
    ticks = [_tick_labels(axis) for axis in (axes.xaxis, axes.yaxis)]
    names = _errorbar_labels(axes)
    for artist in axes.get_children():
        found = next((entry for known, entry in _ARTISTS.items() if isinstance(artist, known)), None)
        if found is None or artist is axes.patch or not artist.get_visible():
            continue
        kind, points = found
        label = names.get(artist, str(artist.get_label()))
        series = "" if label.startswith(("_child", "_nolegend")) else label
        for x, y, *value in points(artist):
            places = [known.get(place, plain(place)) for known, place in zip(ticks, (x, y), strict=True)]
            if np.isfinite([x, y]).all():
                yield [panel, series, kind, *places, *(map(plain, value) if value else [""])]


def _tick_labels(axis: Any) -> dict[float, str]:
    """The labels of an axis whose ticks have names, such as models, by their places; not those that are numbers."""
    if not isinstance(axis.get_major_locator(), FixedLocator):
        return {}
    places = axis.get_majorticklocs()
    with words.language("en"):  # in which a number has a decimal point; names are translated already
        labels = axis.get_major_formatter().format_ticks(places)
    return {float(place): label for place, label in zip(places, labels, strict=True) if label and not _is_number(label)}


def _is_number(text: str) -> bool:
    try:
        float(text.replace("\u2212", "-"))  # matplotlib writes the typographic minus
    except ValueError:
        return False
    return True


def _errorbar_labels(axes: Axes) -> dict[Any, str]:
    """The label of each part of an error bar, which only the container has."""
    bars = [container for container in axes.containers if isinstance(container, ErrorbarContainer)]
    return {part: str(bar.get_label()) for bar in bars for part in bar.get_children()}


def _line(line: Line2D) -> _Points:
    return zip(*(np.asarray(values, float) for values in line.get_data(orig=False)), strict=True)


def _vertices(lines: LineCollection | PolyCollection) -> _Points:
    return ((x, y) for path in lines.get_paths() for x, y in np.asarray(path.vertices))


def _markers(markers: PathCollection) -> _Points:
    return ((x, y) for x, y in np.asarray(markers.get_offsets(), float))


def _corners(bar: Rectangle) -> _Points:
    (x, y), width, height = bar.get_xy(), bar.get_width(), bar.get_height()
    return iter([(x, y), (x + width, y + height)])


def _steps(steps: StepPatch) -> _Points:
    values, edges, _ = steps.get_data()
    return zip(edges[:-1], values, strict=True)


def _image(image: AxesImage) -> _Points:
    values: Any = np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan)
    left, right, bottom, top = image.get_extent()
    rows, columns = values.shape[:2]
    top, bottom = (bottom, top) if image.origin == "lower" else (top, bottom)
    xs, ys = (
        low + (high - low) * (np.arange(count) + 0.5) / count
        for low, high, count in ((left, right, columns), (top, bottom, rows))
    )
    return ((x, y, float(values[row, column])) for row, y in enumerate(ys) for column, x in enumerate(xs))


def _contours(contours: ContourSet) -> _Points:
    """The vertices of contour lines; filled contours have the same, and none of their own."""
    pairs = [] if contours.filled else zip(contours.levels, contours.get_paths(), strict=True)
    return ((x, y, float(level)) for level, path in pairs for x, y in np.asarray(path.vertices))


_ARTISTS: Final[dict[type, tuple[str, Callable[[Any], _Points]]]] = {
    Line2D: ("line", _line),
    PathCollection: ("marker", _markers),
    LineCollection: ("bar", _vertices),
    PolyCollection: ("area", _vertices),
    Rectangle: ("bar", _corners),
    StepPatch: ("steps", _steps),
    AxesImage: ("image", _image),
    ContourSet: ("contour", _contours),
}
