"""`python -m jobs`, or `ssl-study`: runs and watches a whole study, on this machine or on a SLURM cluster."""

import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path and __file__ != f"{sys.path[0]}/jobs/__main__.py":
    sys.path = [entry for entry in sys.path if entry != sys.path[0]]  # removes the working folder

from ssl_pkg import safe_path

if __name__ == "__main__":
    safe_path.protect()

import argparse
import json
import shlex
from pathlib import Path
from typing import Final

from jobs.command_line import parse
from jobs.study_commands import study, submit
from ssl_pkg.errors import BAD_INPUT, COMPLETE, INTERRUPTED, BadInput
from ssl_pkg.extras import lacks
from ssl_pkg.nearest import hint
from ssl_pkg.streams import prepare_streams, use_utf8


def main(arguments: list[str], again: str | None = None) -> int:
    """Runs a command line and returns the exit status.

    again: the command that resumes an interrupted study, if it is not `ssl-study ARGUMENTS`. Each command imports what
    it needs, so that `status` starts fast.
    """
    options = argparse.Namespace(command=None)
    try:
        overrides = parse(arguments, options)
        from jobs.ledger import console_command

        again = again or shlex.join([console_command(), *arguments])
        return _COMMANDS[options.command](options, overrides, again)
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] in _OUR_PACKAGES:
            raise
        print(lacks(error.name), file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        if options.command == "submit":
            from jobs.ledger import jobs_command

            folder = options.runs.absolute() / options.study
            print(f"\nSubmitted jobs stay in the queue: {jobs_command('status', folder)} shows them", file=sys.stderr)
        return COMPLETE if options.command == "status" else INTERRUPTED
    except BrokenPipeError:
        if options.command != "status":
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone, as in `status | head`
        return COMPLETE


def _status(options: argparse.Namespace, overrides: list[str], again: str) -> int:
    from rich.console import Console

    from jobs.status.states import read_status, status_json
    from jobs.status.table import plain_lines, render_table
    from jobs.status.watch import follow

    folder = _existing(options)
    console = Console()
    if options.json:
        print(json.dumps(status_json(folder), indent=2))
        return COMPLETE
    if options.watch:
        follow(folder)
        return COMPLETE
    rows, warning = read_status(folder)
    if console.is_terminal:
        console.print(render_table(rows, None, console.width))
    else:
        print("\n".join(plain_lines(rows)))
    if warning:
        print(f"\n{warning}")
    sys.stdout.flush()
    return COMPLETE


def _cancel(options: argparse.Namespace, overrides: list[str], again: str) -> int:
    from jobs.cluster.batches import read_batches
    from jobs.cluster.queue import cancel_submitted
    from jobs.cluster.slurm_cli import SchedulerUnavailable
    from jobs.local.study import cancel
    from jobs.study_lock import read_lock_holder

    folder = _existing(options)
    holder = read_lock_holder(folder)
    if holder and (holder.alive or not holder.on_this_host):
        print(cancel(folder))
        return COMPLETE
    try:
        cancelled = cancel_submitted(folder)
    except SchedulerUnavailable as error:
        raise BadInput(error.explain("cancel when it does")) from error
    if cancelled:
        print(f"{cancelled} jobs of study {folder.name} are cancelled; submitting again resumes from the checkpoints")
    elif read_batches(folder):
        print(f"no job of study {folder.name} is in the cluster's queue")
    else:
        print(cancel(folder))
    return COMPLETE


def _logs(options: argparse.Namespace, overrides: list[str], again: str) -> int:
    from jobs.cluster.batches import batch_output, submitted_jobs
    from jobs.ledger import log_path, run_name

    _refuse_swapped(options)
    folder = _existing(options)
    options.job = run_name(options.job)
    log = log_path(folder, options.job)
    jobs = submitted_jobs(folder)
    printed = batch_output(folder, jobs[options.job]) if options.job in jobs else []
    if not log.exists() and not printed:
        known = sorted(file.stem for file in log.parent.glob("*.log"))
        raise BadInput(
            f"there is no log of {options.job!r} yet{hint(options.job, known)}; there are logs of: "
            f"{', '.join(known) or 'no run'}"
        )
    if log.exists():
        print("\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-options.lines :]))
    if printed:
        print(f"\nOutput of SLURM and the set-up lines in job {jobs[options.job].id}:")
        print("\n".join(printed[-options.lines :]))
    return COMPLETE


def _refuse_swapped(options: argparse.Namespace) -> None:
    """Raises BadInput, with the right command, if the study was given before the run."""
    from jobs.ledger import console_command

    if (options.runs / options.job).is_dir() and not (options.runs / options.study).is_dir():
        place = [] if options.runs == Path("runs") else ["--runs", str(options.runs)]
        line = shlex.join([console_command(), "logs", options.study, options.job, *place])
        raise BadInput(f"{options.job} is a study, and `logs` takes the run first: `{line}`")


def _profile(options: argparse.Namespace, overrides: list[str], again: str) -> int:
    from jobs.cluster.profile import load_profile, profile_fields
    from jobs.cluster.profile_check import check_profile

    profile = load_profile(options.name)
    for name, value in profile_fields(profile).items():
        print(f"{name}: {value}")
    if not options.check:
        return COMPLETE
    found = check_profile(profile)
    for title, sentences in (("Errors (no job would run):", found.errors), ("Notes:", found.notes)):
        if sentences:
            print("\n".join(["", title, *(f"- {sentence}" for sentence in sentences)]))
    if not found.errors and not found.notes:
        print("\nThe cluster meets all requirements.")
    return BAD_INPUT if found.errors else COMPLETE


def _doctor(options: argparse.Namespace, overrides: list[str], again: str) -> int:
    from jobs.doctor import print_findings

    return print_findings(options.runs)


_OUR_PACKAGES: Final = ("analysis", "jobs", "slurm", "ssl_pkg")
_COMMANDS: Final = {
    "demo": study,
    "study": study,
    "submit": submit,
    "status": _status,
    "cancel": _cancel,
    "logs": _logs,
    "doctor": _doctor,
    "profile": _profile,
}


def _existing(options: argparse.Namespace) -> Path:
    folder: Path = options.runs / options.study
    if not folder.is_dir():
        known = [entry.name for entry in options.runs.iterdir()] if options.runs.is_dir() else []
        raise BadInput(
            f"there are no runs in {folder}{hint(options.study, known)}: start the study, or give its parent folder by "
            "--runs (make: RUNS=)"
        )
    return folder


def entry() -> None:
    """Runs `python -m jobs`."""
    safe_path.protect()
    if "--watch" in sys.argv and sys.stdout is not None:
        use_utf8()  # --watch ends when its reader closes the pipe
    else:
        prepare_streams()
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    entry()
