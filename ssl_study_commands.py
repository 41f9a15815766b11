"""The console commands: `ssl-study` and `ssl-study-stage`.

An empty entry of PYTHONPATH puts the working folder first in the import path. A folder `jobs` or `ssl_pkg` there would
be imported instead of the project's package, before any code of the project runs. The commands therefore start in this
module, whose name is unlikely to be used elsewhere, and which imports only modules that Python itself has loaded.

`ssl-study` joins packages that must not import each other. Each of its commands imports only what it needs, so that
`ssl-study status` starts fast.
"""

import os
import sys

_HELP = """\
usage: ssl-study COMMAND ...

Runs a self-supervised-learning study, on this machine or on a SLURM cluster, and makes its report.

{commands}

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
    from ssl_pkg.messages.program import COMMANDS

    command, *rest = arguments or ["--help"]
    if command in ("-h", "--help", "help"):
        listed = "\n".join(f"  {name:<9} {summary}" for name, summary in COMMANDS.items())
        print(_HELP.format(commands=listed), end="")
        return 0 if arguments else 2
    if command == "--version":
        from importlib.metadata import version

        print(f"ssl-study {version('ssl-study')}")
        return 0
    others = {"report": _report, "pack": _pack, "predict": _predict, "data": _data}
    if command in COMMANDS.keys() - others.keys():
        from jobs.__main__ import main as jobs

        return jobs(arguments)
    from ssl_pkg.errors import BAD_INPUT, BadInput
    from ssl_pkg.messages.nearest import hint

    try:
        if command not in others:
            near = hint(command, COMMANDS)
            raise BadInput(f"there is no command {command!r}{near}: choose one of {', '.join(COMMANDS)}")
        return others[command](rest)
    except BadInput as error:
        print(f"ssl-study: {error}", file=sys.stderr)
        return BAD_INPUT
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] in ("analysis", "ssl_pkg"):
            raise
        from ssl_pkg.extras import lacking_text

        print(f"ssl-study: {lacking_text(error.name)}", file=sys.stderr)
        return BAD_INPUT


def _report(arguments: list[str]) -> int:
    from ssl_pkg.extras import require

    require("report")
    from analysis.__main__ import command as report

    return report(arguments)


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
    from ssl_pkg.data.download import main as data

    return data(arguments)


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
