"""`python -m jobs`, or `ssl-study`: runs and watches a whole study, on this machine or on a SLURM cluster.

Each command imports what it needs, so that `status` starts fast.
"""

import os
import sys

if __name__ == "__main__" and not sys.flags.safe_path and __file__ != f"{sys.path[0]}/jobs/__main__.py":
    sys.path = [entry for entry in sys.path if entry != sys.path[0]]  # removes the working folder

from ssl_pkg import safe_path

if __name__ == "__main__":
    safe_path.protect()

import argparse
import errno
import glob
import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from jobs.command_line import parse
from jobs.study_commands import study, submit
from ssl_pkg.errors import BAD_INPUT, COMPLETE, INTERRUPTED, BadInput
from ssl_pkg.extras import lacking_text
from ssl_pkg.messages.nearest import hint
from ssl_pkg.messages.streams import prepare_command_streams


def main(arguments: list[str], resume_command: str | None = None) -> int:
    """Runs a command line and returns the exit status.

    resume_command: the command that resumes an interrupted study, if it is not `ssl-study ARGUMENTS`.
    """
    options = argparse.Namespace(command=None)
    try:
        overrides = parse(arguments, options)
        from ssl_pkg.messages.program import console_command

        resume_command = resume_command or shlex.join([console_command(), *arguments])
        with _naming_unusable_paths(options.command):
            if getattr(options, "study", "demo") is None:
                raise BadInput(_existing_studies(options.command, options.runs))
            start = _STARTING.get(options.command)
            return start(options, overrides, resume_command) if start else _OTHERS[options.command](options)
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except ModuleNotFoundError as error:
        if not error.name or error.name.partition(".")[0] in _OUR_PACKAGES:
            raise
        print(lacking_text(error.name), file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        if getattr(options, "watch", False):
            return COMPLETE  # the table of --watch ends in this way
        said = "interrupted"
        if options.command == "submit" and "study" in options and not options.dry_run:
            from jobs.ledger import jobs_command

            folder = Path(options.runs).absolute() / options.study
            said = f"\nSubmitted jobs stay in the queue: {jobs_command('status', folder)} shows them"
        print(said, file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        if options.command != "status":
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone, as in `status | head`
        return COMPLETE


@contextmanager
def _naming_unusable_paths(command: str) -> Iterator[None]:
    """Context manager in which the commands that look at an existing study raise BadInput for a path that can't be
    read: without permission, too long, or a link to itself."""
    try:
        yield
    except OSError as error:
        if command not in ("status", "cancel", "logs") or error.filename is None:
            raise
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            raise BadInput(f"{error.filename} can't be read: {error.strerror}") from error
        if not isinstance(error, PermissionError):
            raise
        raise BadInput(
            f"user {os.geteuid()} has no permission for {error.filename}: ask its owner, or give another folder with "
            "--runs (make: RUNS=)"
        ) from error


def _existing_studies(command: str, runs: Path) -> str:
    """The message for a command without a study: which ones exist, and an example."""
    from ssl_pkg.messages.program import console_command
    from ssl_pkg.run.study_plan import PLAN

    names = []
    with suppress(FileNotFoundError, NotADirectoryError):
        names = sorted(entry.name for entry in runs.iterdir() if (entry / PLAN).is_file())
    example = f"like `{shlex.join([console_command(), command, *(names[:1] or ['demo']), *_runs_option(runs)])}`"
    return f"give the study, {example}" + (f": {runs} has {', '.join(names)}" if names else f"; {runs} has none yet")


def _status(options: argparse.Namespace) -> int:
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


def _cancel(options: argparse.Namespace) -> int:
    from jobs.cluster.batches import read_batches
    from jobs.cluster.queue import cancel_submitted
    from jobs.local.study import cancel
    from jobs.study_lock import read_lock_holder

    folder = _existing(options)
    holder = read_lock_holder(folder)
    if holder and (holder.alive or not holder.on_this_host):
        print(cancel(folder))
        return COMPLETE
    if cancelled := cancel_submitted(folder):
        jobs, are = ("job", "is") if cancelled == 1 else ("jobs", "are")
        print(f"{cancelled} {jobs} of study {folder.name} {are} cancelled; submitting again resumes from checkpoints")
    elif read_batches(folder):
        print(f"no job of study {folder.name} is in the cluster's queue")
    else:
        print(cancel(folder))
    return COMPLETE


def _logs(options: argparse.Namespace) -> int:
    from jobs.cluster.batches import batch_output, newest_jobs, read_batches
    from jobs.ledger import log_path, run_name

    _refuse_swapped(options)
    if options.job is None:
        return _list_logs(options)
    folder = _existing(options)
    options.job = run_name(options.job)
    log = log_path(folder, options.job)
    jobs = newest_jobs(read_batches(folder))
    printed = batch_output(folder, jobs[options.job]) if options.job in jobs else []
    if not log.is_file() and not printed:
        known = sorted(file.stem for file in log.parent.glob("*.log") if file.is_file())
        raise BadInput(
            f"there is no log of {options.job!r} yet{hint(options.job, known)}; there are logs of: "
            f"{', '.join(known) or 'no run'}"
        )
    if log.is_file():
        print("\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-options.lines :]))
    if printed:
        print(f"\nOutput of SLURM and the set-up lines in job {jobs[options.job].id}:")
        print("\n".join(printed[-options.lines :]))
    return COMPLETE


def _list_logs(options: argparse.Namespace) -> int:
    """Prints the names of the runs that have a log, the latest last. Raises BadInput if the only word is a run."""
    from jobs.ledger import run_name

    if not (options.runs / options.study).is_dir():
        own = sorted(options.runs.glob(f"*/logs/{glob.escape(run_name(options.study))}.log"))
        if own:
            raise BadInput(f"{options.study} is a run, and `logs` takes its study too: `{_logs_line(options, own[0])}`")
    found = (log for log in (_existing(options) / "logs").glob("*.log") if log.is_file())
    logs = sorted(found, key=lambda log: log.stat().st_mtime)
    if not logs:
        raise BadInput(f"no run of study {options.study} has a log yet")
    print("\n".join(log.stem for log in logs))
    print(f"\nThese runs have a log, the latest last. To see its end: `{_logs_line(options, logs[-1])}`")
    return COMPLETE


def _logs_line(options: argparse.Namespace, log: Path) -> str:
    """The command that shows the file `log`, RUNS/STUDY/logs/RUN.log."""
    from ssl_pkg.messages.program import console_command

    return shlex.join([console_command(), "logs", log.stem, log.parent.parent.name, *_runs_option(options.runs)])


def _runs_option(runs: Path) -> list[str]:
    """--runs, for a command in a message."""
    return [] if runs == Path("runs") else ["--runs", str(runs)]


def _refuse_swapped(options: argparse.Namespace) -> None:
    """Raises BadInput, with the right command, if the study was given before the run."""
    from jobs.ledger import log_path

    if options.job and not (options.runs / options.study).is_dir() and (options.runs / options.job).is_dir():
        line = _logs_line(options, log_path(options.runs / options.job, options.study))
        raise BadInput(f"{options.job} is a study, and `logs` takes the run first: `{line}`")


def _profile(options: argparse.Namespace) -> int:
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


def _doctor(options: argparse.Namespace) -> int:
    from jobs.doctor import print_findings

    return print_findings(options.runs)


_OUR_PACKAGES: Final = ("analysis", "jobs", "slurm", "ssl_pkg")
_STARTING: Final = {"demo": study, "study": study, "submit": submit}  # these take overrides
_OTHERS: Final = {
    "status": _status,
    "cancel": _cancel,
    "logs": _logs,
    "doctor": _doctor,
    "profile": _profile,
}


def _existing(options: argparse.Namespace) -> Path:
    folder: Path = options.runs / options.study
    with suppress(FileNotFoundError, NotADirectoryError):
        (folder / "logs").stat()  # raises PermissionError, which Path.is_dir does not in later versions of Python
    if not folder.is_dir():
        known = [entry.name for entry in options.runs.iterdir()] if options.runs.is_dir() else []
        raise BadInput(
            f"there are no runs in {folder}{hint(options.study, known)}: start the study, or give its parent folder "
            "with --runs (make: RUNS=)"
        )
    return folder


def entry() -> None:
    """Runs `python -m jobs`."""
    prepare_command_streams(sys.argv)
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    entry()
