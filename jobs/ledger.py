"""What a runner leaves in RUNS/STUDY for others to read: the state of each run, and which process it is.

    .lock              the lock of the process that runs or sends the study
    .runner            its process id, host and start time (JSON)
    .jobs/ledger.json  name of each planned run -> state, times, exit status
    .jobs/JOB/         submitit's files
    .jobs/slurm/       what was sent to a cluster (`jobs/cluster/batches.py`)
    logs/JOB.log       what the run's process printed, all starts in order

The run directories are the truth about what is complete; the ledger only adds what they can't tell.
"""

import json
import shlex
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from ssl_pkg.run.directory import write_json

HEARTBEAT_TIMEOUT: Final = 60.0  # seconds since a run's last heartbeat within which it counts as alive
REPORT: Final = "report"  # the last job's name and stage; analysis makes it, and it has no run directory


class State(StrEnum):
    """Where a run stands."""

    COMPLETE = "complete"
    RUNNING = "running"
    PENDING = "pending"
    BLOCKED = "blocked"  # a run that it needs has failed
    FAILED = "failed"
    INTERRUPTED = "interrupted"  # stopped with a checkpoint; the next start goes on
    CANCELLED = "cancelled"  # taken out of the cluster's queue; the next submission goes on


@dataclass(frozen=True)
class Entry:
    """What the ledger knows of one run; times in seconds since the epoch."""

    state: State = State.PENDING
    started: float | None = None
    ended: float | None = None
    exit_status: int | None = None


def log_path(folder: Path, name: str) -> Path:
    """The log of run `name` of the study in `folder`."""
    return folder / "logs" / f"{name}.log"


def jobs_command(verb: str, folder: Path) -> str:
    """How to do `verb` with the study in `folder`: the command line, and make's."""
    line = shlex.join([sys.executable, "-m", "jobs", verb, folder.name, "--runs", str(folder.parent)])
    return f"`{line}` (make: {shlex.join([verb, f'STUDY={folder.name}', f'RUNS={folder.parent}'])})"


def write_ledger(folder: Path, entries: dict[str, Entry]) -> None:
    """Rewrites the ledger. A full disk doesn't stop a study: what is written later tells the same and more."""
    with suppress(OSError):
        (folder / ".jobs").mkdir(exist_ok=True)
        write_json(folder / ".jobs" / "ledger.json", {name: asdict(entry) for name, entry in entries.items()})


def read_ledger(folder: Path) -> dict[str, Entry]:
    """The ledger's entries, in the plan's order; none where there is no ledger."""
    content = read_json(folder / ".jobs" / "ledger.json")
    entries = {}
    for name, fields in content.items():
        with suppress(TypeError, ValueError, KeyError):
            entries[name] = Entry(**{**fields, "state": State(fields["state"])})
    return entries


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty where the file is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
