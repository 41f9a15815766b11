"""Facts about processes of this host, from Linux's /proc. Imports no torch."""

from pathlib import Path


def parent_of(pid: int) -> int | None:
    """The process number of the parent of `pid`. None if there is no such process."""
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def start_time_of(pid: int) -> str | None:
    """When process `pid` started, in clock ticks since boot. None if there is no such process, or only a zombie.

    Process numbers are reused. The number and the start time together identify one process.
    """
    fields = _stat(pid)
    return fields[19] if fields and fields[0] not in ("Z", "X") else None


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third on, which is the state. None if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
