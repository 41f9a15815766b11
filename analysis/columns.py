"""The widths of a table's columns, from the lengths of its texts."""

import re
from collections.abc import Sequence
from typing import Final

_PAGE: Final = 470.0  # points between the margins of report.typ
_INSET: Final = 6.0  # points of padding of a cell
_LETTER: Final = 0.48  # of the font size, the width of a Latin letter on average
_CYRILLIC: Final = 1.2  # of that, the width of a Cyrillic letter
_BOLD: Final = 1.1  # headings are bold
_LINES: Final = 2  # of a heading, if there is room
_NAME, _NUMBERS = 16, 20  # letters of a name and of a number with its interval that stay in one line, if there is room
_BREAKS: Final = re.compile(r"(?<=[\w]=)|(?<=-)|[ \n]")  # where report.typ can break a line


def shares(headings: Sequence[str], rows: Sequence[Sequence[str]], size: float, left: int) -> list[float]:
    """The width of each column in points. They fill the page, and no word is wider than its column if that is possible.

    size: of the font, in points. left: number of left-aligned columns, which are names and can have several lines.
    """
    columns = []
    for place, heading in enumerate(headings):
        cells = [row[place] for row in rows]
        word = max(_word(heading) * _BOLD, *(_word(cell) for cell in cells))
        line = max(map(_length, cells))
        short = max(word, min(line, _NAME if place < left else _NUMBERS))
        columns.append([word, short, max(short, line, _BOLD * _length(heading) / _LINES)])
    least, *more = ([_LETTER * size * length + _INSET for length in lengths] for lengths in zip(*columns, strict=True))
    widths = least
    for wanted in more:
        missing, spare = sum(wanted) - sum(widths), _PAGE - sum(widths)
        share = min(1.0, max(0.0, spare) / missing) if missing else 0.0
        widths = [width + share * (want - width) for width, want in zip(widths, wanted, strict=True)]
    return [width * _PAGE / sum(widths) for width in widths]


def fitting(headings: Sequence[str], cells: Sequence[str], size: float, first: float, most: int) -> int:
    """How many columns with such headings and cells, at most `most`, fit beside a first column of `first` points."""
    letters = max(*(_BOLD * _word(heading) for heading in headings), *map(_word, cells))
    return max(1, min(most, int((_PAGE - first) // (_LETTER * size * letters + _INSET))))


def _word(text: str) -> float:
    """The length of the longest part of a text that is not broken."""
    return max(map(_length, _BREAKS.split(text)))


def _length(text: str) -> float:
    """The width of a text, in Latin letters."""
    return sum(_CYRILLIC if "\u0400" <= letter < "\u0500" else 1 for letter in text)
