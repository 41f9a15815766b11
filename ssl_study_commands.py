"""The console commands: `ssl-study` and `ssl-study-stage`.

An empty entry of PYTHONPATH puts the working folder first in the import path. A folder `jobs` or `ssl_pkg` there would
be imported instead of the project's package, before any code of the project runs. The commands therefore start in this
module, whose name is unlikely to be used elsewhere, and which imports only modules that Python itself has loaded.

`ssl-study` joins packages that must not import each other. Each of its commands imports only what it needs, so that
`ssl-study status` starts fast.
"""

import os
import sys

_COMMANDS = {
    "demo": "run the whole study on synthetic images, and make its report",
    "study": "run the missing runs of a study on this machine, and make its report",
    "submit": "submit the missing runs of a study to a SLURM cluster",
    "status": "show the state of each run",
    "cancel": "stop a study; its runs write checkpoints",
    "logs": "show the end of a run's log",
    "report": "make the report from the runs that exist, of one study or of several",
    "pack": "make a data set of folders of your own photographs",
    "predict": "predict the classes of images with a trained model",
    "data": "download STL-10 and CIFAR-10, or generate the synthetic set",
    "doctor": "show what this machine has, and what a run will use",
    "profile": "show a cluster's profile, and check it",
}
_LISTED = "\n".join(f"  {name:<9} {summary}" for name, summary in _COMMANDS.items())
_HELP = f"""\
usage: ssl-study COMMAND ...

Runs a self-supervised-learning study, on this machine or on a SLURM cluster, and makes its report.

{_LISTED}

`ssl-study COMMAND --help` explains a command and has an example, `ssl-study --version` prints the version. To start:

  ssl-study doctor
  ssl-study demo
"""


def main(arguments: list[str]) -> int:
    """Runs a command of `ssl-study`. Returns the exit status."""
    try:
        return _main(arguments)
    except KeyboardInterrupt:  # during an import, or where a command does not handle it itself
        print("interrupted", file=sys.stderr)
        return 75  # ssl_pkg.errors.INTERRUPTED, whose import may be what was interrupted


def _main(arguments: list[str]) -> int:
    command, *rest = arguments or ["--help"]
    if command in ("-h", "--help", "help"):
        print(_HELP, end="")
        return 0 if arguments else 2
    if command == "--version":
        from importlib.metadata import version

        print(f"ssl-study {version('ssl-study')}")
        return 0
    others = {"report": _report, "pack": _pack, "predict": _predict, "data": _data}
    if command in _COMMANDS.keys() - others.keys():
        from jobs.__main__ import main as jobs

        return jobs(arguments)
    from ssl_pkg.errors import BAD_INPUT, BadInput
    from ssl_pkg.messages.nearest import hint

    try:
        if command not in others:
            near = hint(command, _COMMANDS)
            raise BadInput(f"there is no command {command!r}{near}: choose one of {', '.join(_COMMANDS)}")
        return others[command](rest)
    except BadInput as error:
        print(f"ssl-study: {error}", file=sys.stderr)
        return BAD_INPUT
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] in ("analysis", "ssl_pkg"):
            raise
        from ssl_pkg.extras import lacks

        print(f"ssl-study: {lacks(error.name)}", file=sys.stderr)
        return BAD_INPUT


def _report(arguments: list[str]) -> int:
    from pathlib import Path

    from ssl_pkg.console import Parser

    parser = Parser(
        prog="ssl-study report",
        description="Makes report.pdf, report.html, figures/ and tables/ from the runs of a study that exist. Several "
        "studies are compared in one report, REPORTS/A+B; if their images differ, each has its own in REPORTS/A+B/A.",
        epilog="example: ssl-study report stl10 --runs runs --reports reports",
    )
    parser.add_argument("study", nargs="+", metavar="STUDY", help="the name of the folder in the runs, like demo")
    parser.add_argument("--runs", metavar="DIR", default="runs", help="folder of the runs (default: runs)")
    parser.add_argument("--reports", metavar="DIR", default="reports", help="folder of the reports (default: reports)")
    parser.add_argument("--date", metavar="YYYY-MM-DD", help="date on the report (default: today)")
    parser.add_argument(
        "--thumbnails", action="store_true", help="put small copies of the mapped images into report.html"
    )
    parser.add_argument(
        "--language", default="en", help="en or ru; the Russian report is written in REPORTS/STUDY/ru (default: en)"
    )
    options = parser.read(arguments)
    from ssl_pkg.extras import require

    require("report")
    from analysis.__main__ import main as analysis

    out = Path(options.reports, "+".join(options.study))
    more = ["--language", options.language]
    more += ["--date", options.date] if options.date else []
    more += ["--thumbnails"] if options.thumbnails else []
    studies = [str(Path(options.runs, study)) for study in options.study]
    return analysis([*studies, "--out", str(out), *more], "ssl-study report")


def _pack(arguments: list[str]) -> int:
    from ssl_pkg.extras import require

    require("train")
    from ssl_pkg.data.pack import main as pack

    return pack(arguments)


def _predict(arguments: list[str]) -> int:
    from ssl_pkg.extras import require

    require("train")
    from ssl_pkg.predict import main as predict

    return predict(arguments)


def _data(arguments: list[str]) -> int:
    from ssl_pkg.console import Parser

    parser = Parser(
        prog="ssl-study data",
        description="Downloads STL-10 and CIFAR-10 from their authors' servers (3 GB), and checks their md5. Running "
        "it again resumes an interrupted download.",
        epilog="example: ssl-study data ~/images",
    )
    parser.add_argument("folder", metavar="DIR", help="folder for stl10_binary/ and cifar-10-batches-py/")
    parser.add_argument("--synthetic", action="store_true", help="generate the synthetic set there instead")
    options = parser.read(arguments)
    if options.synthetic:
        from ssl_pkg.data import synthetic

        return synthetic.main([options.folder])
    from ssl_pkg.data import download

    return download.main([options.folder])


def study() -> None:
    """Runs `ssl-study`."""
    _remove_working_folder()
    from ssl_pkg import safe_path
    from ssl_pkg.messages.streams import prepare_command_streams

    safe_path.protect()
    prepare_command_streams(sys.argv)
    sys.exit(main(sys.argv[1:]))


def stage() -> None:
    """Runs `ssl-study-stage`."""
    _remove_working_folder()
    from ssl_pkg.__main__ import entry

    entry()


def _remove_working_folder() -> None:
    """Removes the working folder from the import path, unless it is the project's folder."""
    try:
        here = os.getcwd()
    except OSError:  # the folder was removed
        return
    if here != os.path.dirname(os.path.abspath(__file__)):
        sys.path[:] = [entry for entry in sys.path if entry not in ("", here)]
