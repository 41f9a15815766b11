"""The testbed's processes: pid files, and waiting."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ssl_pkg.processes import start_time_of


class ClusterStartError(Exception):
    """The testbed can't start. The text is one sentence for the user."""


def read_pid(file: Path) -> int | None:
    """The process id in a pid file; None if there is none."""
    with suppress(OSError, ValueError):
        return int(file.read_text(encoding="utf-8"))
    return None


def is_alive(file: Path) -> bool:
    """Whether the daemon that a pid file is named after is running. A zombie is not.

    Compares names, because another process may have the number after a reboot.
    """
    pid, daemon = read_pid(file), file.stem.partition("-")[0]
    with suppress(OSError):
        name = Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace")
        return pid is not None and name.startswith(daemon) and start_time_of(pid) is not None
    return False


def terminate(files: Sequence[Path]) -> None:
    """Ends the daemons of these pid files: by SIGTERM, after 10 s by SIGKILL."""
    pids = {file: pid for file in files if is_alive(file) and (pid := read_pid(file))}
    for pid in pids.values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    for file in files:
        while is_alive(file) and time.monotonic() < deadline:
            time.sleep(0.05)
        if is_alive(file):
            with suppress(ProcessLookupError):
                os.kill(pids[file], signal.SIGKILL)
        file.unlink(missing_ok=True)


def wait_until(condition: Callable[[], bool], what: str, log: Path) -> None:
    """Waits up to 60 s. Raises ClusterStartError with `what` and the folder of the logs."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterStartError(f"{what} within 60 s: see {log}")
        time.sleep(0.1)
