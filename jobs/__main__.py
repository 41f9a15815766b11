"""`python -m jobs`: a study as a whole, on this machine or on a cluster."""

import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path and __file__ != f"{sys.path[0]}/jobs/__main__.py":
    sys.path = [entry for entry in sys.path if entry != sys.path[0]]  # without the working folder

from ssl_pkg import safe_path

if __name__ == "__main__":
    safe_path.protect()

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ssl_pkg.errors import BAD_INPUT, COMPLETE, INTERRUPTED, BadInput

if TYPE_CHECKING:
    from jobs.graph import Job
    from ssl_pkg.config import Config


def main(arguments: list[str], again: str | None = None) -> int:
    """Does what the command line says and returns the exit status. Heavier modules are imported where they are used, so
    that `status` answers at once. `again`: what to type to go on, where it isn't this line."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    overrides = [word for word in rest if not word.startswith("-")]
    if len(overrides) < len(rest) or (overrides and options.command not in ("study", "submit")):
        parser.error(f"unknown: {' '.join(rest)}")
    try:
        again = again or shlex.join([sys.executable, "-m", "jobs", *arguments])
        return _COMMANDS[options.command](options, overrides, again)
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        if options.command == "submit":
            print("\nWhat was sent goes on by itself; `status` shows it, `cancel` takes it out", file=sys.stderr)
        return COMPLETE if options.command == "status" else INTERRUPTED
    except BrokenPipeError:
        if options.command != "status":
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `status | head` has read enough
        return COMPLETE


def _study(options: argparse.Namespace, overrides: list[str], again: str) -> int:
    from jobs.local import run_study
    from jobs.machine import slots

    config, jobs = _planned(options, overrides)
    room = slots(config.threads or config.study.cpus, use_gpus=config.device != "cpu")
    return run_study(jobs, options.runs / config.study.name, room, again=again)


def _planned(options: argparse.Namespace, overrides: list[str]) -> "tuple[Config, list[Job]]":
    from jobs.settings import check_data, configure, plan_study

    config = configure(options.study, data=options.data, seeds=options.seeds, overrides=overrides)
    check_data(config.data.root)
    return config, plan_study(config, runs=options.runs, reports=options.reports, overrides=overrides)


def _submit(options: argparse.Namespace, overrides: list[str], again: str) -> int:
    from jobs.local import conclude
    from jobs.profile import LOCAL, load_profile
    from jobs.runner import Programs
    from jobs.watch import follow
    from ssl_pkg.config import SYNTHETIC

    profile = load_profile(options.cluster)
    if profile.name == LOCAL:
        return _study(options, overrides, again)
    from jobs.submit import Submission  # needs SLURM's commands

    options.runs, options.reports = options.runs.absolute(), options.reports.absolute()
    if options.data not in (None, SYNTHETIC):
        options.data = str(Path(options.data).absolute())
    config, jobs = _planned(options, overrides)
    folder = options.runs / config.study.name
    outcome = Submission(jobs, folder, profile, data_root=config.data.root, programs=Programs()).send()
    print(
        f"{len(outcome.sent)} runs sent to {profile.name}, {len(outcome.queued)} were in its queue, "
        f"{len(outcome.complete)} are complete"
    )
    if not options.wait:
        print(
            f"How they stand: {sys.executable} -m jobs status {config.study.name} --runs {options.runs} "
            f"(make: status STUDY={config.study.name} RUNS={options.runs})"
        )
        return COMPLETE
    planned = {job.name for job in jobs}
    states = {row.name: row.state for row in follow(folder) if row.name in planned}
    return conclude(states, jobs, folder, again)


def _status(options: argparse.Namespace, overrides: list[str], again: str) -> int:
    from rich.console import Console

    from jobs.display import picture, plain
    from jobs.status import look_at, report
    from jobs.watch import follow

    folder = _existing(options)
    console = Console()
    if options.json:
        print(json.dumps(report(folder), indent=2))
        return COMPLETE
    if options.watch:
        follow(folder)
        return COMPLETE
    rows, warning = look_at(folder)
    if console.is_terminal:
        console.print(picture(rows, None))
    else:
        print("\n".join(plain(rows)))
    if warning:
        print(f"\n{warning}")
    sys.stdout.flush()
    return COMPLETE


def _cancel(options: argparse.Namespace, overrides: list[str], again: str) -> int:
    from jobs.batches import read_batches
    from jobs.ledger import read_owner
    from jobs.local import cancel
    from jobs.queue import Away
    from jobs.sending import cancel_sent

    folder = _existing(options)
    owner = read_owner(folder)
    if owner and (owner.alive or not owner.here):
        print(cancel(folder))
        return COMPLETE
    try:
        ended = cancel_sent(folder)
    except Away as error:
        raise BadInput(f"SLURM does not answer ({error}): cancel when it does") from error
    if ended:
        print(f"{ended} jobs of study {folder.name} are cancelled; what ran has left a checkpoint")
    elif read_batches(folder):
        print(f"nothing of study {folder.name} is in the cluster's queue")
    else:
        print(cancel(folder))
    return COMPLETE


def _logs(options: argparse.Namespace, overrides: list[str], again: str) -> int:
    from jobs.batches import around, sent_jobs
    from jobs.ledger import log_of

    folder = _existing(options)
    log = log_of(folder, options.job)
    sent = sent_jobs(folder)
    printed = around(folder, sent[options.job]) if options.job in sent else []
    if not log.exists() and not printed:
        there = sorted(file.stem for file in log.parent.glob("*.log"))
        raise BadInput(f"there is no log of {options.job!r} yet; there are: {', '.join(there) or 'none'}")
    if log.exists():
        print("\n".join(log.read_text(errors="replace").splitlines()[-options.lines :]))
    if printed:
        print(f"\nWhat the set-up lines and SLURM printed around job {sent[options.job].id}:")
        print("\n".join(printed[-options.lines :]))
    return COMPLETE


def _profile(options: argparse.Namespace, overrides: list[str], again: str) -> int:
    from jobs.cluster import check
    from jobs.profile import load_profile, shown

    profile = load_profile(options.name)
    for name, value in shown(profile).items():
        print(f"{name}: {value}")
    if not options.check:
        return COMPLETE
    found = check(profile)
    for title, sentences in (("No job would run:", found.stops), ("Worth knowing:", found.notes)):
        if sentences:
            print("\n".join(["", title, *(f"- {sentence}" for sentence in sentences)]))
    if not found.stops and not found.notes:
        print("\nThe cluster at hand lacks nothing.")
    return BAD_INPUT if found.stops else COMPLETE


_COMMANDS: Final = {
    "study": _study,
    "submit": _submit,
    "status": _status,
    "cancel": _cancel,
    "logs": _logs,
    "profile": _profile,
}


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
    submit = commands.add_parser("submit", help="send what is missing of a study to a SLURM cluster")
    submit.add_argument("--cluster", required=True, metavar="NAME", help="a profile of slurm/profiles, or a YAML file")
    submit.add_argument("--wait", action="store_true", help="stay, show the table, return when all has ended")
    for command, more in ((study, ""), (submit, "--cluster NAME [--wait] ")):
        command.usage = (
            f"{command.prog} STUDY {more}[--runs DIR] [--reports DIR] [--data DIR] [--seeds SEEDS] [key=value ...]"
        )
        command.add_argument("--reports", type=Path, default=Path("reports"), help="folder of the reports (reports)")
        command.add_argument("--data", help="folder that holds stl10_binary/, or `synthetic`")
        command.add_argument("--seeds", help='like "0 1 2"; without it the study\'s own')
    status = commands.add_parser("status", help="where each run stands; works without a runner")
    status.add_argument("--json", action="store_true", help="for programs")
    status.add_argument("--watch", action="store_true", help="stay, and show it again and again")
    cancel = commands.add_parser("cancel", help="stop the study, here or on the cluster; runs leave checkpoints")
    logs = commands.add_parser("logs", help="the end of a run's log, all its starts in order")
    logs.add_argument("job", metavar="JOB", help="a run's name, as status shows it")
    logs.add_argument("--lines", type=int, default=50, help="how many (50)")
    profile = commands.add_parser("profile", help="a cluster's profile, and what the cluster at hand lacks")
    profile.add_argument("name", metavar="NAME")
    profile.add_argument("--check", action="store_true", help="ask the cluster")
    for command in (study, submit, status, cancel, logs):
        command.add_argument("study", metavar="STUDY", help="a name from ssl_pkg/conf/study, like demo")
        command.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs (runs)")
    return parser


def entry() -> None:
    """The console command."""
    safe_path.protect()
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    entry()
