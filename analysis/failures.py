"""Why runs failed, read from the ends of their logs (RUNS/STUDY/logs/JOB.log, see `ssl_pkg/run/run_log.py`)."""

from pathlib import Path

from analysis.words import _
from ssl_pkg.errors import COMPLETE, INTERRUPTED
from ssl_pkg.run.run_log import last_exit_status, last_output


def failures(study: Path) -> dict[str, str]:
    """The last printed line of each run whose last start failed, by the name of the run."""
    found = {log.stem: _failure(log) for log in sorted((study / "logs").glob("*.log")) if ".rank" not in log.stem}
    return {name: reason for name, reason in found.items() if reason is not None}


def _failure(log: Path) -> str | None:
    status = last_exit_status(log)
    if status in (None, COMPLETE, INTERRUPTED):
        return None
    printed = [line.strip() for line in last_output(log) if line.strip()]
    return printed[-1] if printed else _("exit status {status} without any output", status=status)
