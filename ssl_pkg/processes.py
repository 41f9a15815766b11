"""Facts about processes of this host, from Linux's /proc. Imports no torch."""

from pathlib import Path


def start_time_of(pid: int) -> str | None:
    """When process `pid` started, in clock ticks since boot. None if there is no such process, or only a zombie.

    Process numbers are reused. The number and the start time together identify one process.
    """
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
    return fields[18] if state not in ("Z", "X") else None
