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
_BOUND = re.compile(r"p\*? (?:> \.99|< \.001)")  # of a p-value whose digits say nothing
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
    """A text of the report; of a cell of a table also the table's CSV file and the number of the row there."""

    text: str
    file: str = ""
    row: int = 0


def unexplained(content: dict[str, Any], out: Path) -> list[str]:
    """The numbers of the texts and tables of a report that are in none of its CSV files, each with its text.

    A number of a table must be in the same row of the table's CSV, and one beside the name of a model in a row of this
    model.
    """
    pool = _Pool(out, _labels(content, out))
    texts = [printed for section in content["sections"] if section["title"] != "Sources" for printed in _texts(section)]
    results = [printed for printed in texts if not printed.text.startswith("Source: ")]  # a method's papers
    return [f"{number} in: {printed.text}" for printed in results for number in _lacking(printed, pool)]


def _labels(content: dict[str, Any], out: Path) -> dict[str, set[str]]:
    """The cells that name a model in the CSV files, by its label: model, variant and study, as far as it has them."""
    tables = (block for section in content["sections"] for block in section["blocks"] if block["kind"] == "table")
    main = next((block for block in tables if block["name"] == "accuracy"), None)
    if main is None:
        return {}
    with (out / "tables" / "summary.csv").open(encoding="utf-8", newline="") as lines:
        named = [{*filter(None, (row["model"], row["variant"], row["study"]))} for row in csv.DictReader(lines)]
    return dict(zip((row[0] for row in main["rows"]), named, strict=True))


def _texts(section: dict[str, Any]) -> Iterator[Printed]:
    for block in section["blocks"]:
        for key in ("text", "caption", "reading"):
            yield Printed(block.get(key, ""))
        yield from map(Printed, block.get("items", []))
        if block["kind"] == "table" and block["name"] not in FACTS:
            for number, row in enumerate(block["rows"], start=1):
                yield from (Printed(cell, block["csv"], number) for cell in row if isinstance(cell, str))


def _lacking(printed: Printed, pool: "_Pool") -> list[str]:
    """The numbers of a text that are neither results in a CSV nor a part of the program's own texts."""
    text = _BOUND.sub(" ", _without_own_words(printed.text))
    own = pool.rows_of(printed)
    lacking = []
    for match in _INTERVAL.finditer(text):
        if not pool.has_row(match.groups(), pool.rows_beside(text, match) if own is None else own):
            lacking.append(match.group())
    rest = _INTERVAL.sub(" ", text)
    durations = _DURATION.findall(rest)
    lacking += [f"{number} {unit}" for number, unit in durations if not pool.has(number, own, _SECONDS[unit])]
    rest = _DURATION.sub(" ", rest)
    for match in _NUMBER.finditer(rest):
        rows = (pool.rows_beside(rest, match, near=1) or pool.quoted) if own is None else own
        if not pool.has(match.group(), rows):
            lacking.append(match.group())
    return lacking


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
    """The numbers of all CSV files of a report, and in which rows they are. labels: as `_labels` has them."""

    def __init__(self, out: Path, labels: dict[str, set[str]]) -> None:
        values: list[float] = []
        rows: list[int] = []
        self.places: dict[tuple[str, int], int] = {}  # the row's number in the pool, by file and number in the file
        self.texts: list[set[str]] = []
        # rows that a text may quote without a model; other figures have so many numbers that nearly any one is found
        self.quoted: set[int] = set()
        for number, (place, cells) in enumerate(_rows(out)):
            found = [float(cell) for cell in cells if _is_number(cell)]
            if Path(place[0]).stem in FACTS:
                found += [float(own) for cell in cells for own in re.findall(r"\d+(?:\.\d+)?", cell)]
            values += found
            rows += [number] * len(found)
            self.places[place] = number
            if not place[0].startswith("figures/") or place[0].startswith("figures/curves-"):
                self.quoted.add(number)
            self.texts.append({cell for cell in cells if not _is_number(cell)})
        order = np.argsort(np.abs(values))
        self.values, self.rows = np.abs(values)[order], np.array(rows)[order]
        self.models = {
            label: {number for number in self.quoted if label in self.texts[number] or names <= self.texts[number]}
            for label, names in labels.items()
        }
        self.label = re.compile("|".join(sorted(map(re.escape, labels), key=len, reverse=True)) or "(?!)")

    def rows_of(self, printed: Printed) -> set[int] | None:
        """The row of a table's cell; None for another text, or for a cell that has no plain numbers in the CSV."""
        number = self.places.get((printed.file, printed.row))
        return None if number is None or printed.text in self.texts[number] else {number}

    def rows_beside(self, text: str, match: re.Match[str], near: int = 30) -> set[int] | None:
        """The rows of the model that stands behind a number in parentheses or at most `near` characters before it.

        None without such a model.
        """
        behind = re.compile(rf" \(({self.label.pattern})\)").match(text, match.end())
        if behind:
            return self.models[behind.group(1)]
        before = [found for found in self.label.finditer(text, 0, match.start()) if match.start() - found.end() <= near]
        return self.models[before[-1].group()] if before else None

    def has(self, number: str, rows: set[int] | None, *scales: float) -> bool:
        """Whether one of the rows has the number, which is printed in units of `scales`, or as a share or in percent.

        rows: all for None.
        """
        found = set(self._rows_with(number, scales or (1.0, 0.01)))
        return bool(found if rows is None else found & rows)

    def has_row(self, numbers: Iterable[str], rows: set[int] | None) -> bool:
        """Whether one of the rows, or for None one of all rows, has all of the numbers."""
        found = set.intersection(*(set(self._rows_with(number, (1.0, 0.01))) for number in numbers))
        return bool(found if rows is None else found & rows)

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


def _rows(out: Path) -> Iterator[tuple[tuple[str, int], list[str]]]:
    """The rows of all tables, each with its file and its number there; -1 for rows that no file has."""
    yield ("", -1), [str(constant) for constant in _CONSTANTS]
    for file in sorted(out.rglob("*.csv")):
        name = str(file.relative_to(out))
        with file.open(encoding="utf-8", newline="") as lines:
            head, *rows = list(csv.reader(lines))
        yield from (((name, number), row) for number, row in enumerate([head, *rows]))
        yield (name, -1), [str(len(rows))]
        if file.stem in ("runs", "cost"):  # a text has the total
            totals = [sum(float(cell) for cell in column if _is_number(cell)) for column in zip(*rows, strict=True)]
            yield (name, -1), list(map(str, totals))
        for column in range(len(head)):  # how many runs have a state, how many models a verdict
            yield (name, -1), [str(count) for count in _counts(row[column] for row in rows)]


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
