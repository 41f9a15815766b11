"""The commands of `ssl-study` that this package has, and their options."""

import argparse
import re
import shlex
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from ssl_pkg.config.overrides import expand_path
from ssl_pkg.config.presets import studies
from ssl_pkg.console import Parser, unexpected, usage
from ssl_pkg.errors import BadInput
from ssl_pkg.messages.nearest import hint
from ssl_pkg.messages.program import COMMANDS

_EXAMPLES: Final = {
    "demo": 'demo --seeds "0 1"',
    "study": 'study stl10 --data ~/images --seeds "0 1 2" budget=long',
    "submit": "submit stl10 --data ~/images --cluster mycluster 'study.methods=[simclr]' "
    "method.model.temperature=0.1,0.5",
    "status": "status stl10 --watch",
    "cancel": "cancel stl10",
    "logs": "logs pretrain-simclr-s0 stl10 --lines 100",
    "doctor": "doctor --runs /scratch/runs",
    "profile": "profile mycluster --check",
}
_SHORTER: Final = "study photos-quick --data data/photos 'study.methods=[simclr]' few_labels.draws=2"


def parse(arguments: list[str], options: argparse.Namespace) -> list[str]:
    """Parses the command line into `options`. Returns the overrides. Raises BadInput.

    The study of a command that looks at an existing one is None if it was not given.
    """
    word = arguments[0] if arguments else ""
    if word and not word.startswith("-") and word not in _EXAMPLES:
        raise BadInput(f"there is no command {word!r}{hint(word, _EXAMPLES)}: choose one of {', '.join(_EXAMPLES)}")
    _, rest = _parser().parse_known_args(arguments, options)
    for word in rest:
        if word.startswith("-") or "seeds" not in options:  # the commands with --seeds take overrides
            raise unexpected(word, vars(options), f"ssl-study {options.command}")
    if options.command == "submit" and not (options.cluster or options.dry_run):
        raise BadInput("give the cluster with --cluster, or --dry-run: see `ssl-study submit --help`")
    for name in ("runs", "reports", "data"):
        if getattr(options, name, None) is not None:
            given = expand_path(f"--{name}", getattr(options, name))
            setattr(options, name, given if name == "data" else Path(given))
    if options.command == "logs" and options.study is None:  # argparse gives a single word to RUN
        options.study, options.job = options.job, None
    if getattr(options, "study", "demo") is None:
        return rest
    study = Path(getattr(options, "study", "demo"))
    if study.name != str(study) or study.name == "..":
        name = study.name if study.name not in ("", "..") else "demo"
        raise BadInput(
            f"STUDY={str(study)!r} is a path, not the name of a study: give {name!r}, and its parent folder with "
            f"--runs {shlex.quote(str(study.parent))}"
        )
    return rest


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="ssl-study", description="Runs a study, and shows its state.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    planned, data, run, existing, reports, runs = (Parser(add_help=False) for _ in range(6))
    planned.add_argument("study", metavar="STUDY", help=f"one of {', '.join(studies())}")
    data.add_argument("--data", metavar="DIR", help="folder that `pack` or `data` has made, or `synthetic`")
    run.add_argument("job", metavar="RUN", nargs="?", help="a run's name, as status shows it")
    # without it, the message names the studies that exist
    existing.add_argument("study", metavar="STUDY", nargs="?", help="the name of a folder in the runs, like demo")
    runs.add_argument("--runs", metavar="DIR", default="runs", help="folder of the runs (default: runs)")
    reports.add_argument("--reports", metavar="DIR", default="reports", help="folder of the reports (default: reports)")
    reports.add_argument("--seeds", help='like "0 1 2" (default: those of the study)')

    def add(name: str, words: Sequence[str], *parents: Parser) -> argparse.ArgumentParser:
        """Adds a command with the options of `parents`. words: of its usage line; none for argparse's own line."""
        summary, example = COMMANDS[name], f"example: ssl-study {_EXAMPLES[name]}"
        description = f"{summary[0].upper()}{summary[1:]}."
        added = commands.add_parser(name, parents=parents, help=summary, description=description, epilog=example)
        added.usage = usage(added.prog, words) if words else None
        return added

    shared = ("[--runs DIR]", "[--reports DIR]", "[--seeds SEEDS]", "[key=value ...]")
    add("demo", shared, runs, reports).set_defaults(study="demo", data=None)
    study = add("study", ("STUDY", "[--data DIR]", *shared), planned, data, runs, reports)
    study.epilog = f"{study.epilog}\nshorter example: ssl-study {_SHORTER}"
    words = ("STUDY", "[--cluster NAME]", "[--wait]", "[--dry-run]", "[--data DIR]", *shared)
    submit = add("submit", words, planned, data, runs, reports)
    submit.add_argument(
        "--cluster", metavar="NAME", help="a profile in slurm/profiles, or a YAML file; needed without --dry-run"
    )
    submit.add_argument("--wait", action="store_true", help="show the table, and return when all runs have ended")
    submit.add_argument(
        "--dry-run", action="store_true", help="print the jobs, their GPU hours and disk space, and submit nothing"
    )
    for command in (study, submit):
        command.formatter_class = argparse.RawDescriptionHelpFormatter  # keeps the lines of the epilog
        command.epilog = f"{_listed_studies()}\n\n{command.epilog}"
    status = add("status", ("STUDY", "[--json]", "[--watch]", "[--runs DIR]"), existing, runs)
    status.add_argument("--json", action="store_true", help="print JSON, for programs")
    status.add_argument("--watch", action="store_true", help="update the table until all runs have ended")
    add("cancel", ("STUDY", "[--runs DIR]"), existing, runs)
    logs = add("logs", ("[RUN]", "STUDY", "[--lines N]", "[--runs DIR]"), run, existing, runs)
    logs.add_argument("--lines", metavar="N", type=_count, default=50, help="number of lines (default: 50)")
    doctor = add("doctor", (), runs)
    doctor.description = f"{doctor.description} The exit status is 1 if a run would fail or be slow."
    profile = add("profile", ())
    profile.add_argument("name", metavar="NAME", help="a profile in slurm/profiles, or a YAML file")
    profile.add_argument("--check", action="store_true", help="check the profile against the cluster")
    return parser


def _count(text: str) -> int:
    if not re.fullmatch("0*[1-9][0-9]{0,8}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _listed_studies() -> str:
    """The studies, each with a sentence, and what key=value is, wrapped as argparse wraps its text."""
    width = shutil.get_terminal_size().columns - 2
    indented = [
        textwrap.fill(
            sentence, width, initial_indent=f"  {name:<13} ", subsequent_indent=" " * 16, break_on_hyphens=False
        )
        for name, sentence in studies().items()
    ]
    fields = "key=value sets a field of ssl_pkg/conf, but none that the plan sets for each run, like seed."
    return "\n".join(["studies:", *indented, "", textwrap.fill(fields, width)])
