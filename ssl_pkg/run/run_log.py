"""The log of a run, RUNS/STUDY/logs/JOB.log: the stage's output, and lines that `jobs` adds. Imports no torch.

A line `>>> TIME COMMAND` precedes the output of each start. A line like `<<< exit status 0 after 42 s` is an event: the
end of the stage, a start by SLURM, a requeue, a cancellation.
"""

import re
from pathlib import Path
from typing import Final

START_PREFIX: Final = ">>> "
EVENT_PREFIX: Final = "<<< "
TAIL_BYTES: Final = 1 << 16  # bytes that are read from the end of a log
_EXIT_STATUS: Final = re.compile(r"exit status (-?\d+) after")


def exit_event(status: int, seconds: float) -> str:
    """The text of the event after the end of a stage. `last_exit_status` reads it."""
    return f"exit status {status} after {seconds:.0f} s"


def last_exit_status(log: Path) -> int | None:
    """The exit status of a run's last start; None if the stage runs or if its end was not logged."""
    statuses = [int(found[1]) for event in last_events(log) if (found := _EXIT_STATUS.match(event))]
    return statuses[-1] if statuses else None


def last_output(log: Path) -> list[str]:
    """The lines of output of a run's last start."""
    return [line for line in _last_start(log) if not line.startswith(EVENT_PREFIX)]


def last_events(log: Path) -> list[str]:
    """The events of a run's last start, without their prefix."""
    return [line.removeprefix(EVENT_PREFIX) for line in _last_start(log) if line.startswith(EVENT_PREFIX)]


def tail(log: Path) -> list[str]:
    """The lines in the last TAIL_BYTES of the log; the first may be cut off. Empty if the log can't be read."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def _last_start(log: Path) -> list[str]:
    lines = tail(log)
    starts = [number for number, line in enumerate(lines) if line.startswith(START_PREFIX)]
    return lines[starts[-1] + 1 if starts else 0 :]
