"""Whether the texts of a figure fit."""

import itertools

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_POINT = 1 / 72  # inches


def overfull(figure: Figure | None) -> list[str]:
    """The titles and the labels of axes that overlap, and the sides of the figure that something is drawn beyond."""
    assert figure is not None
    figure.draw_without_rendering()
    panels = [axes for axes in figure.axes if isinstance(axes, Axes)]
    texts = [text for axes in panels for text in (axes.title, axes.xaxis.label, axes.yaxis.label) if text.get_text()]
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts]
    pairs = [f"{one}/{two}" for (one, a), (two, b) in itertools.combinations(boxes, 2) if a.overlaps(b)]
    drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    beyond = {"left": -drawn.x0, "right": drawn.x1 - width, "bottom": -drawn.y0, "top": drawn.y1 - height}
    return pairs + [f"{side}: {inches:.2f} inches" for side, inches in beyond.items() if inches > _POINT]
