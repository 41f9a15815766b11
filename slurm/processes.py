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
    """Whether the process of a pid file is running. A zombie is not."""
    pid = read_pid(file)
    return pid is not None and start_time_of(pid) is not None


def terminate(files: Sequence[Path]) -> None:
    """Ends the processes of these pid files: by SIGTERM, after 10 s by SIGKILL."""
    pids = {file: pid for file in files if (pid := read_pid(file))}  # os.kill(0) would reach this process's group
    for pid in pids.values():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 10
    for file in files:
        while is_alive(file) and time.monotonic() < deadline:
            time.sleep(0.05)
        if is_alive(file):
            os.kill(pids[file], signal.SIGKILL)
        file.unlink(missing_ok=True)


def wait_until(condition: Callable[[], bool], what: str, log: Path) -> None:
    """Waits up to 60 s. Raises ClusterStartError with `what` and the folder of the logs."""
    deadline = time.monotonic() + 60
    while not condition():
        if time.monotonic() > deadline:
            raise ClusterStartError(f"{what} within 60 s: see {log}")
        time.sleep(0.1)
