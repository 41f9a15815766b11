"""What Linux tells about processes."""

from pathlib import Path


def parent_of(pid: int) -> int | None:
    """The process that started `pid`; None where there is no such process."""
    fields = _stat(pid)
    return int(fields[1]) if fields else None


def birth_of(pid: int) -> str | None:
    """The moment at which `pid` began, in clock ticks since the boot: with the number itself, this names one process
    for ever. None where there is no such process, or only its corpse."""
    fields = _stat(pid)
    return fields[19] if fields and fields[0] not in ("Z", "X") else None


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the third, the state, on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return None
