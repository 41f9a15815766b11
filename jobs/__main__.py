"""`python -m jobs`: a study as a whole, on this machine."""

import argparse
import json
import os
import shlex
import sys
from pathlib import Path

from ssl_pkg.errors import BAD_INPUT, COMPLETE, BadInput


def main(arguments: list[str]) -> int:
    """Does what the command line says and returns the exit status. Heavier modules are imported where they are used, so
    that `status` answers at once."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    overrides = [word for word in rest if not word.startswith("-")]
    if len(overrides) < len(rest) or (overrides and options.command != "study"):
        parser.error(f"unknown: {' '.join(rest)}")
    try:
        if options.command == "study":
            return _study(options, overrides, again=shlex.join([sys.executable, "-m", "jobs", *arguments]))
        if options.command == "status":
            return _status(options)
        if options.command == "cancel":
            return _cancel(options)
        raise BadInput("submission to SLURM is not there yet: the command study runs it on this machine")
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except BrokenPipeError:
        if options.command != "status":
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `status | head` has read enough
        return COMPLETE


def _study(options: argparse.Namespace, overrides: list[str], again: str) -> int:
    from jobs.local import run_study
    from jobs.machine import slots
    from jobs.settings import check_data, configure, plan_study

    config = configure(options.study, data=options.data, seeds=options.seeds, overrides=overrides)
    check_data(config.data.root)
    jobs = plan_study(config, runs=options.runs, reports=options.reports, overrides=overrides)
    room = slots(config.threads or config.study.cpus, use_gpus=config.device != "cpu")
    return run_study(jobs, options.runs / config.study.name, room, again=again)


def _status(options: argparse.Namespace) -> int:
    from rich.console import Console

    from jobs.display import picture, plain
    from jobs.status import observe, report

    folder = _existing(options)
    console = Console()
    if options.json:
        print(json.dumps(report(folder), indent=2))
    elif console.is_terminal:
        console.print(picture(observe(folder), None))
    else:
        print("\n".join(plain(observe(folder))))
    sys.stdout.flush()
    return COMPLETE


def _cancel(options: argparse.Namespace) -> int:
    from jobs.local import cancel

    print(cancel(_existing(options)))
    return COMPLETE


def _existing(options: argparse.Namespace) -> Path:
    folder: Path = options.runs / options.study
    if not folder.is_dir():
        raise BadInput(
            f"there are no runs in {folder}: start the study, or give the folder above it by --runs (make: RUNS=)"
        )
    return folder


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m jobs", description="Runs a study, and tells how it stands.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    study = commands.add_parser("study", help="run what is missing of a study on this machine, up to its report")
    study.usage = "python -m jobs study STUDY [--runs DIR] [--reports DIR] [--data DIR] [--seeds SEEDS] [key=value ...]"
    study.add_argument("--reports", type=Path, default=Path("reports"), help="folder of the reports (reports)")
    study.add_argument("--data", help="folder that holds stl10_binary/, or `synthetic`")
    study.add_argument("--seeds", help='like "0 1 2"; without it the study\'s own')
    status = commands.add_parser("status", help="where each run stands; works without a runner")
    status.add_argument("--json", action="store_true", help="for programs")
    cancel = commands.add_parser("cancel", help="stop the runner on this machine; runs leave checkpoints")
    submit = commands.add_parser("submit", help="send the study to a SLURM cluster")
    submit.add_argument("--cluster", required=True, metavar="NAME", help="the cluster's profile")
    for command in (study, status, cancel, submit):
        command.add_argument("study", metavar="STUDY", help="a name from ssl_pkg/conf/study, like demo")
        command.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (runs)")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
