"""The files of `jobs` in RUNS/STUDY, and the ledger, which records the state of each run.

    plan.json          the runs of the study (`ssl_pkg/run/study_plan.py`)
    .lock              the lock of the process that runs or submits the study
    .runner            that process's id, host and start time (JSON)
    .jobs/ledger.json  name of each planned run -> state, times, exit status
    .jobs/slurm/       the batches that were submitted to a cluster (`jobs/cluster/batches.py`)
    .jobs/kills/, faults/
                       kills without progress, and failed starts, of each run on a cluster (`jobs/cluster/node.py`)
    .jobs/fork_server.log
                       the fork server's own errors
    logs/JOB.log       the output of all starts of a run, in order

A run is complete if its run directory says so; the ledger only adds states that a run directory can't record.
"""

import shlex
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from ssl_pkg.messages.counted import counted
from ssl_pkg.messages.program import console_command
from ssl_pkg.run.directory import read_json, write_json

REPORT: Final = "report"  # name and stage of the job that builds the report; it has no run directory

# What runs and the report call the supervised baseline. The stage catalogue has these names too, but imports pydantic,
# which takes longer than `status` may.
BASELINE: Final = "finetune-random"
SUPERVISED: Final = "supervised"


class State(StrEnum):
    """The state of a run."""

    COMPLETE = "complete"
    RUNNING = "running"
    PENDING = "pending"
    BLOCKED = "blocked"  # a parent has failed
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # stopped with a checkpoint; the next start resumes
    CANCELLED = "cancelled"  # removed from the cluster's queue; the next submission resumes


@dataclass(frozen=True)
class Entry:
    """The ledger's record of one run. Times are in seconds since the epoch."""

    state: State = State.PENDING
    started: float | None = None
    ended: float | None = None
    exit_status: int | None = None


def batches_folder(folder: Path) -> Path:
    """The folder of the batches that were submitted to a cluster, of the study in `folder`."""
    return folder / ".jobs" / "slurm"


def log_path(folder: Path, name: str) -> Path:
    """The path of the log of run `name` of the study in `folder`."""
    return folder / "logs" / f"{name}.log"


def run_name(word: str) -> str:
    """The run's name for a word that a user typed: `supervised-s0`, as the report calls it, is `finetune-random-s0`."""
    return f"{BASELINE}{word.removeprefix(SUPERVISED)}" if word.startswith(f"{SUPERVISED}-s") else word


def counted_runs(names: Collection[str]) -> str:
    """The number of these jobs in words, like `47 runs and the report`, because the report is no run."""
    runs = counted(len(names) - (REPORT in names), "run")
    if REPORT not in names:
        return runs
    return f"{runs} and the report" if len(names) > 1 else "the report"


def jobs_command(verb: str, folder: Path) -> str:
    """The command line of `ssl-study VERB` for the study in `folder`, and that of make, for messages."""
    line = shlex.join([console_command(), verb, folder.name, "--runs", str(folder.parent)])
    return f"`{line}` (or `{shlex.join(['make', verb, f'STUDY={folder.name}', f'RUNS={folder.parent}'])}`)"


def write_ledger(folder: Path, entries: dict[str, Entry]) -> None:
    """Rewrites the ledger. Ignores a full disk, because the next call writes the same states and more."""
    with suppress(OSError):
        (folder / ".jobs").mkdir(exist_ok=True)
        write_json(folder / ".jobs" / "ledger.json", {name: asdict(entry) for name, entry in entries.items()})


def read_ledger(folder: Path) -> dict[str, Entry]:
    """The entries by name, in the plan's order; empty if there is no ledger. Damaged entries are ignored."""
    content = read_json(folder / ".jobs" / "ledger.json") or {}
    entries = {}
    for name, fields in content.items():
        with suppress(TypeError, ValueError, KeyError):
            entries[name] = Entry(**{**fields, "state": State(fields["state"])})
    return entries
