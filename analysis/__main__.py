"""`python -m analysis RUNS/STUDY --out reports/STUDY`: report.pdf, figures/ and tables/ of a study."""

import argparse
import datetime
import os
import sys
from pathlib import Path

from rich.console import Console
from rich.table import Table

from analysis import report, tables
from analysis.gather import NoStudy, Study, gather


def main(arguments: list[str] | None = None) -> int:
    """Builds the report and prints the main table; 2 where there is nothing to report on."""
    options = _parser().parse_args(arguments)
    try:
        study = gather(options.study)
        out = options.out or Path("reports") / study.name
        path = report.build(study, out, options.date)
    except NoStudy as error:
        print(f"analysis: {error}.", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"analysis: can't write the report: {error}.", file=sys.stderr)
        return 1
    _print(study, path)
    return 0


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
    headings, rows = tables.summary_text(study)
    table = Table(*headings, title=f"{study.name}: accuracies in %, gain in points")
    for column in table.columns[1:]:
        column.justify = "right"
    for row in rows:
        table.add_row(row[0], *(cell.replace(" [", "\n[") for cell in row[1:]))
    console = Console(markup=False, highlight=False)
    console.print(table)
    if study.missing:
        console.print(f"{len(study.missing)} of {len(study.planned)} runs are missing; the report names them.")
    console.print(f"{path}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
