"""The tables of a study as files: CSV with plain numbers, and Markdown for people."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis import commands, differences, tables
from analysis.data import data_note
from analysis.study import Study
from analysis.words import language


def write(study: Study, folder: Path) -> None:
    """Writes every table of the study in `folder`: results.csv, and the others as CSV and Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    tables.results(study).to_csv(folder / "results.csv", index=False)
    tables.summary(study).to_csv(folder / "summary.csv", index=False)
    below = "".join(f"\n{_escaped(note)}\n" for note in [data_note(study), *tables.notes(study)])
    _write_text(folder / "summary.md", f"{markdown(*tables.summary_text(study))}{below}")
    frames = {
        "width": tables.width,
        "per_class": tables.per_class,
        "comparisons": differences.compared,
        "runs": tables.runs,
        "correlations": tables.correlation,
        "few_labels": differences.few_labels,
        "ood_minus_test": differences.changes,
        "commands": commands.table,
    }
    for name, build in frames.items():
        frame = build(study)
        frame.to_csv(folder / f"{name}.csv", index=False)
        with language("en"):  # as the names of the columns, and the values that are texts
            cells = [_cells(row) for row in frame.values.tolist()]
        _write_text(folder / f"{name}.md", markdown(list(frame.columns), cells))


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table. Characters that would end a cell are escaped."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(_escaped(cell) for cell in line) + " |" for line in lines) + "\n"


def _escaped(cell: str) -> str:
    return cell.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _cells(row: Sequence[Any]) -> list[str]:
    return [
        tables.number(cell) if isinstance(cell, float) else tables.ABSENT if cell is None else str(cell) for cell in row
    ]


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
