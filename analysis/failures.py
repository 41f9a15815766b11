"""Why runs failed, read from the ends of their logs (RUNS/STUDY/logs/JOB.log, see `ssl_pkg/run/directory.py`)."""

import re
from pathlib import Path
from typing import Final

from ssl_pkg.errors import COMPLETE, INTERRUPTED

_START: Final = ">>> "  # the prefix of the line that `jobs` writes before each start
_NOTE: Final = "<<< "  # the prefix of other lines that `jobs` writes
_STATUS: Final = re.compile(r"<<< exit status (-?\d+) after")
_TAIL: Final = 1 << 16  # bytes of a log that are read


def failures(study: Path) -> dict[str, str]:
    """The last printed line of each run whose last start failed, by the name of the run."""
    found = {log.stem: _failure(log) for log in sorted((study / "logs").glob("*.log")) if ".rank" not in log.stem}
    return {name: reason for name, reason in found.items() if reason is not None}


def _failure(log: Path) -> str | None:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - _TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return None
    starts = [number for number, line in enumerate(lines) if line.startswith(_START)]
    last = lines[starts[-1] + 1 if starts else 0 :]
    statuses = [int(match[1]) for line in last if (match := _STATUS.match(line))]
    if not statuses or statuses[-1] in (COMPLETE, INTERRUPTED):
        return None
    printed = [line.strip() for line in last if line.strip() and not line.startswith(_NOTE)]
    return printed[-1] if printed else f"exit status {statuses[-1]} without any output"
