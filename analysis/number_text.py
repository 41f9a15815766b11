"""Texts of numbers that know the plain numbers, so that a table of the report is also written as CSV."""

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

from analysis.words import _

VALUE = "value"  # the key of a text's main number


class NumberText(str):
    """The text of one or more numbers, like `74.1 [73.1, 75.0]`.

    numbers: by what they are, in the unit of the text, like {"value": 74.1234, "low": 73.1, "high": 75.0}. A text that
    is made of this one with `+` or an f-string is a plain string, without numbers.
    """

    __slots__ = ("numbers",)

    numbers: Mapping[str, float]

    def __new__(cls, text: str, **numbers: float | None) -> "NumberText":
        """Numbers that are None are left out."""
        made = super().__new__(cls, text)
        made.numbers = {name: number for name, number in numbers.items() if number is not None}
        return made


def table_csv(headings: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table of the report as CSV: a column of a table has one column for each of its kinds of numbers, or its text.

    A cell without numbers in a column of numbers, like a dash or a verdict, keeps its text in the first column.
    """
    kinds = [
        list(dict.fromkeys(name for row in rows for name in getattr(row[place], "numbers", {})))
        for place in range(len(headings))
    ]
    first = [heading or _("column {n}", n=place) for place, heading in enumerate(headings, start=1)]
    named = [
        name if kind == VALUE else f"{name}: {kind}"
        for name, own in zip(first, kinds, strict=True)
        for kind in own or [VALUE]
    ]
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(named)
    writer.writerows(
        [cell for own, content in zip(kinds, row, strict=True) for cell in _cells(content, own)] for row in rows
    )
    return file.getvalue()


def plain(number: float) -> str:
    """A number for a CSV, with nine significant digits."""
    return f"{number:.9g}"


def _cells(content: Any, kinds: Sequence[str]) -> list[str]:
    """The columns of one cell."""
    numbers: Mapping[str, float] = getattr(content, "numbers", {})
    if not numbers:
        text = next(iter(content.values())) if isinstance(content, dict) else str(content)
        return [text, *([""] * (len(kinds) - 1))]
    return [plain(numbers[kind]) if kind in numbers else "" for kind in kinds]
