"""Facts about processes of this host, from Linux's /proc. Imports no torch."""

import ctypes
import os
from pathlib import Path
from typing import Final

_SET_PARENT_DEATH_SIGNAL: Final = 1  # PR_SET_PDEATHSIG, prctl(2)


def end_with_parent(parent: int, number: int) -> bool:
    """Lets the kernel send the signal `number` to this process when its parent ends. Call it at once after a fork.

    parent: the process that forked. Returns whether it is still the parent; otherwise no signal will come.
    """
    failed = ctypes.CDLL(None).prctl(_SET_PARENT_DEATH_SIGNAL, number)
    return not failed and os.getppid() == parent


def start_time_of(pid: int) -> str | None:
    """When process `pid` started, in clock ticks since boot. None if there is no such process, or only a zombie.

    Process numbers are reused. The number and the start time together identify one process.
    """
    try:
        # the kernel cuts a process's name after 15 bytes, also within a character
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()
    return fields[18] if state not in ("Z", "X") else None
