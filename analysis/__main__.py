"""`python -m analysis RUNS/STUDY --out reports/STUDY`: report.pdf, figures/ and tables/ of a study."""

import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path and __file__ != f"{sys.path[0]}/analysis/__main__.py":
    sys.path = [entry for entry in sys.path if entry != sys.path[0]]  # without the working folder

from ssl_pkg import safe_path

if __name__ == "__main__":
    safe_path.protect()

import argparse
import datetime
import errno
from pathlib import Path
from typing import Final

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from analysis import report, tables
from analysis.data import data_note
from analysis.gather import NoStudy, Study, gather

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)


def main(arguments: list[str] | None = None) -> int:
    """Builds the report and prints the main table; 2 where there is nothing to report on or no place for it."""
    options = _parser().parse_args(arguments)
    try:
        study = gather(options.study)
    except (NoStudy, OSError) as error:
        return _refused(f"{error}", 2)
    out = options.out or Path("reports") / study.name
    try:
        (out / "tables").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return _refused(f"the report can't go to {out}: {error.strerror}", 1 if error.errno in _FULL else 2)
    try:
        path = report.build(study, out, options.date)
    except OSError as error:
        return _refused(f"can't write the report: {error}", 1)
    _print(study, path)
    return 0


def _refused(why: str, status: int) -> int:
    print(f"analysis: {why}.", file=sys.stderr)
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m analysis", description=__doc__)
    parser.add_argument("study", type=Path, metavar="RUNS/STUDY", help="folder with the study's run directories")
    parser.add_argument("--out", type=Path, help="where the report goes (default: reports/STUDY)")
    parser.add_argument(
        "--date", type=datetime.date.fromisoformat, default=_today(), help="date on the report, YYYY-MM-DD (today)"
    )
    return parser


def _today() -> datetime.date:
    """Today in UTC, or the day of SOURCE_DATE_EPOCH for a report that can be made again byte for byte."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.now(datetime.UTC)
    return (datetime.datetime.fromtimestamp(int(epoch), datetime.UTC) if epoch else now).date()


def _print(study: Study, path: Path) -> None:
    """The main table in 80 columns, without its intervals, and what must be known beside it."""
    headings, rows = tables.summary_text(study)
    title = f"{study.name}: accuracies in %, gain in points"
    table = Table(*headings, title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(row[0], *(cell.partition(" [")[0].replace(" ± ", "±") for cell in row[1:]))
    console = Console(markup=False, highlight=False)
    console.print(table if rows else f"{study.name}: no model has a test accuracy yet, so there is no table to show.")
    if study.missing:
        console.print(f"{len(study.missing)} of {len(study.planned)} runs are missing; the report names them.")
    console.print(data_note(study))
    console.print(f"95 % intervals and all else: {path}", soft_wrap=True)


def entry() -> None:
    """The console command."""
    safe_path.protect()
    sys.exit(main())


if __name__ == "__main__":
    entry()
