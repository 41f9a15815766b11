"""Finds the numbers of a report in its CSV files, at the precision in which they are printed."""

# ruff: noqa: RUF001 (the report has minus signs)

import ast
import csv
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

import analysis
from analysis import correlation, statistics
from analysis.sections import width

_NUMBER = re.compile(r"(?<![\w.])[+−-]?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:e[+−-]?\d+)?(?![\w])")
_BETWEEN = r"(?: points)?(?: behind| ahead over the seeds that both have)?"
_INTERVAL = re.compile(rf"({_NUMBER.pattern}){_BETWEEN} \[([^\]]+), ([^\]]+)\]")
_DURATION = re.compile(rf"({_NUMBER.pattern}) (s|min|h)\b")
_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0}
# Tables of facts instead of results: their cells are texts, which are the same in the CSV.
FACTS = {"settings-pretraining", "settings-stages", "data", "provenance", "repeating", "incomplete"}
# Constants of the analysis, which its texts quote. Everything else that is not in a CSV is a number without a source.
_CONSTANTS = (
    statistics.ALPHA,
    100 * statistics.MARGIN,
    correlation.EXACT,
    correlation.LEAST,
    correlation.LEAST_INTERVAL,
    width.LOCAL,
)


@dataclass
class Printed:
    """A text of the report, and the name of its table if it is a cell."""

    text: str
    table: str = ""


def unexplained(content: dict[str, Any], out: Path) -> list[str]:
    """The numbers of the texts and tables of a report that are in none of its CSV files, each with its text."""
    pool = _Pool(out)
    texts = [printed for section in content["sections"] if section["title"] != "Sources" for printed in _texts(section)]
    results = [printed for printed in texts if not printed.text.startswith("Source: ")]  # a method's papers
    return [f"{number} in: {printed.text}" for printed in results for number in _lacking(printed, pool)]


def _texts(section: dict[str, Any]) -> Iterator[Printed]:
    for block in section["blocks"]:
        for key in ("text", "caption", "reading"):
            yield Printed(block.get(key, ""))
        yield from map(Printed, block.get("items", []))
        if block["kind"] == "table":
            yield from (Printed(cell, block["name"]) for row in block["rows"] for cell in row if isinstance(cell, str))


def _lacking(printed: Printed, pool: "_Pool") -> list[str]:
    """The numbers of a text that are neither results in a CSV nor a part of the program's own texts."""
    if printed.table in FACTS:
        return []
    text = _without_own_words(printed.text)
    lacking = []
    for match in _INTERVAL.finditer(text):
        if not pool.has_row(match.groups()):
            lacking.append(match.group())
    rest = _INTERVAL.sub(" ", text)
    lacking += [f"{number} {unit}" for number, unit in _DURATION.findall(rest) if not pool.has(number, _SECONDS[unit])]
    rest = _DURATION.sub(" ", rest)
    return lacking + [number for number in _NUMBER.findall(rest) if not pool.has(number)]


@cache
def _own_words() -> list[str]:
    """Every piece of text with a digit in the code of `analysis`, longest first. Fields end a piece."""
    files = Path(analysis.__file__).parent.rglob("*.py")
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    texts = {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    found = {piece for text in texts for piece in re.split(r"\{[^{}]*\}", text)}
    return sorted((text for text in found if re.search(r"\d", text) and len(text) > 3), key=len, reverse=True)


def _without_own_words(text: str) -> str:
    for words in _own_words():
        text = text.replace(words, " ")
    return text


class _Pool:
    """The numbers of all CSV files of a report, and in which rows they are."""

    def __init__(self, out: Path) -> None:
        values, rows = [], []
        for number, row in enumerate(_rows(out)):
            values += row
            rows += [number] * len(row)
        order = np.argsort(np.abs(values))
        self.values, self.rows = np.abs(values)[order], np.array(rows)[order]

    def has(self, number: str, *scales: float) -> bool:
        """Whether a CSV has the number, which is printed in units of `scales`, or as a share or in percent."""
        return len(self._rows_with(number, scales or (1.0, 0.01))) > 0

    def has_row(self, numbers: Iterable[str]) -> bool:
        """Whether one row has all of the numbers."""
        return bool(set.intersection(*(set(self._rows_with(number, (1.0, 0.01))) for number in numbers)))

    def _rows_with(self, number: str, scales: Iterable[float]) -> Any:
        plain = number.replace(",", "").replace("−", "-").strip()
        mantissa, _, exponent = plain.partition("e")
        half = 0.5 * 10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2]))
        value = abs(float(plain))
        found = []
        for scale in scales:
            low, high = (np.searchsorted(self.values, (value + side * half * 1.0001) * scale) for side in (-1, 1))
            found.append(self.rows[low:high])
        return np.concatenate(found)


def _rows(out: Path) -> Iterator[list[float]]:
    yield [float(constant) for constant in _CONSTANTS]
    for file in sorted(out.rglob("*.csv")):
        with file.open(encoding="utf-8", newline="") as lines:
            head, *rows = list(csv.reader(lines))
        yield from ([float(cell) for cell in row if _is_number(cell)] for row in [head, *rows])
        yield [float(len(rows))]
        if file.stem in ("runs", "cost"):  # a text has the total
            yield [sum(float(cell) for cell in column if _is_number(cell)) for column in zip(*rows, strict=True)]
        for column in range(len(head)):  # how many runs have a state, how many models a verdict
            yield [float(count) for count in _counts(row[column] for row in rows)]


def _counts(cells: Iterable[str]) -> list[int]:
    counts: dict[str, int] = defaultdict(int)
    for cell in cells:
        counts[cell] += 1
    return list(counts.values()) if len(counts) <= 5 else []


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False
