"""`python -m analysis RUNS/STUDY... --out reports/STUDY`: report.pdf, report.html, figures/ and tables/ of studies.

Studies of the same images are in one report, side by side. Those of different images have one each, in folders of OUT.
"""

import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path and __file__ != f"{sys.path[0]}/analysis/__main__.py":
    sys.path = [entry for entry in sys.path if entry != sys.path[0]]  # without the working folder

from ssl_pkg import safe_path

if __name__ == "__main__":
    safe_path.protect()

from ssl_pkg.extras import require_or_exit

if __name__ == "__main__":
    require_or_exit("report")

import argparse
import datetime
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from analysis import report, tables, words
from analysis.data import data_note
from analysis.joining import by_data
from analysis.reading import NoStudy, read_study
from analysis.study import Study
from analysis.words import _
from ssl_pkg.config.overrides import expand_path
from ssl_pkg.console import Parser
from ssl_pkg.errors import BAD_INPUT, COMPLETE, FAULT, INTERRUPTED, NO_ROOM, BadInput
from ssl_pkg.messages.streams import prepare_streams


def main(arguments: list[str] | None = None) -> int:
    """Runs `python -m analysis`; returns the exit status.

    2: there is no complete run, or the output folder can't be created. 1: writing fails, for example on a full disk.
    75: interrupted by Ctrl-C. Of reports of different images, the status is that of the first that failed.
    """
    return _main(_parser(), sys.argv[1:] if arguments is None else arguments)


def command(arguments: list[str]) -> int:
    """Runs `ssl-study report`, which takes the names of studies; returns the exit status, as `main` does."""
    return _main(_command_parser(), arguments)


def _main(parser: Parser, arguments: list[str]) -> int:
    """Builds the report and prints the main table, for each set of images.

    A report that fails does not prevent those of other images.
    """
    try:
        options = parser.read(arguments)
        options.date = options.date or _today()
    except BadInput as error:
        return _refused(parser.prog, f"{error}", BAD_INPUT)
    options.program = parser.prog
    if "runs" in options:  # of `ssl-study report`
        options.out = f"{Path(options.reports, '+'.join(options.study))}"
        options.study = [f"{Path(options.runs, study)}" for study in options.study]
    with words.language(options.language):
        return _reports(options)


def _reports(options: argparse.Namespace) -> int:
    try:
        found = [read_study(Path(expand_path("RUNS/STUDY", study))) for study in options.study]
        studies = by_data(found)
        name = "+".join(study.name for study in found)
        out = Path("reports") / name if options.out is None else Path(expand_path("--out", options.out))
        out = out if options.language == words.LANGUAGES[0] else out / options.language
    except (NoStudy, OSError, BadInput) as error:
        return _refused(options.program, f"{error}", BAD_INPUT)
    statuses = []
    for study in studies:
        statuses.append(_report(study, out / study.name if len(studies) > 1 else out, options))
        if statuses[-1] == INTERRUPTED:
            return INTERRUPTED
    return next(filter(None, statuses), COMPLETE)


def _report(study: Study, out: Path, options: argparse.Namespace) -> int:
    try:
        (out / "tables").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        status = FAULT if error.errno in NO_ROOM else BAD_INPUT
        return _refused(options.program, f"can't write the report to {out}: {error.strerror}", status)
    try:
        pdf = report.build(study, out, options.date, thumbnails=options.thumbnails)
    except BadInput as error:
        return _refused(options.program, f"{error}", BAD_INPUT)
    except OSError as error:
        return _refused(options.program, f"can't write the report: {error}", FAULT)
    except KeyboardInterrupt:
        why = "interrupted: run the same command again to make the whole report"
        return _refused(options.program, why, INTERRUPTED)
    _print(study, pdf)
    return COMPLETE


def _refused(program: str, why: str, status: int) -> int:
    print(f"{program.removeprefix('python -m ').partition(' ')[0]}: {why}.", file=sys.stderr)
    return status


def _parser() -> Parser:
    parser = Parser(prog="python -m analysis", description=__doc__)
    parser.add_argument("study", nargs="+", metavar="RUNS/STUDY", help="folder with the run directories of a study")
    parser.add_argument("--out", help="output folder (default: reports/STUDY, or reports/A+B for several studies)")
    return _with_shared_options(parser)


def _command_parser() -> Parser:
    parser = Parser(
        prog="ssl-study report",
        description="Makes report.pdf, report.html, figures/ and tables/ from the runs of a study that exist. Several "
        "studies are compared in one report, REPORTS/A+B; if their images differ, each has its own in REPORTS/A+B/A.",
        epilog="example: ssl-study report stl10 --runs runs --reports reports",
    )
    parser.add_argument("study", nargs="+", metavar="STUDY", help="the name of the folder in the runs, like demo")
    parser.add_argument("--runs", metavar="DIR", default="runs", help="folder of the runs (default: runs)")
    parser.add_argument("--reports", metavar="DIR", default="reports", help="folder of the reports (default: reports)")
    return _with_shared_options(parser)


def _with_shared_options(parser: Parser) -> Parser:
    parser.add_argument("--date", metavar="YYYY-MM-DD", type=_date, help="date on the report (default: today)")
    parser.add_argument(
        "--thumbnails",
        action="store_true",
        help="put small copies of the mapped images into report.html, from the study's data folder",
    )
    parser.add_argument(
        "--language",
        choices=words.LANGUAGES,
        default=words.LANGUAGES[0],
        help="language of the report; a Russian report is written in the subfolder ru (default: en)",
    )
    return parser


def _date(text: str) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date like 2026-01-31") from None


def _today() -> datetime.date:
    """Today in UTC, or the day of SOURCE_DATE_EPOCH, which makes a report reproducible byte for byte.

    Raises BadInput if SOURCE_DATE_EPOCH is after the year 9999.
    """
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    if not epoch or not epoch.isdecimal():
        return datetime.datetime.now(datetime.UTC).date()
    try:
        return datetime.datetime.fromtimestamp(int(epoch), datetime.UTC).date()
    except (OverflowError, OSError, ValueError):
        raise BadInput(
            f"SOURCE_DATE_EPOCH={epoch[:30]} is not a date: give the seconds since 1970, or unset the variable"
        ) from None


def _print(study: Study, path: Path) -> None:
    """Prints the main table without intervals, and the notes that belong to it.

    The names of models may wrap; numbers never do. If the terminal is too narrow for the numbers, the lines are longer
    than the terminal is wide.
    """
    headings, rows = tables.summary_text(study)
    title = _("{study}: accuracies in %, gain in points", study=study.name)
    table = Table(*headings, title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.columns[0].overflow = "fold"
    shown = [[row[0], *(cell.partition(" [")[0] for cell in row[1:])] for row in rows]
    for place, column in enumerate(table.columns[1:], start=1):
        unbroken = [*headings[place].split(), *(row[place] for row in shown)]
        column.justify, column.width = "right", max(map(len, unbroken))
    for row in shown:
        table.add_row(*row)
    console = Console(markup=False, highlight=False)
    console.width = max(console.width, Console(width=1000).measure(table).minimum)
    console.print(
        table if rows else _("{study}: no model has a test accuracy yet, so there is no table.", study=study.name)
    )
    if study.missing:
        lacking, planned = len(study.missing), len(study.planned)
        console.print(
            _("{missing} of {planned} runs are missing; the report names them.", missing=lacking, planned=planned)
        )
    for note in [data_note(study), *tables.notes(study)]:
        console.print(note)
    console.print(_("The full report, with 95 % intervals: {path}", path=path), soft_wrap=True)
    page = path.with_name(report.PAGE)
    console.print(_("The same study for the browser: {path}", path=page), soft_wrap=True)


if __name__ == "__main__":
    prepare_streams()
    sys.exit(main())
