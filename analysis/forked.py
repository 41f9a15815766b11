"""Work that is done in two processes, so that a report takes less time on two cores."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Final

from ssl_pkg.hardware.machine import cores
from ssl_pkg.processes import end_with_parent

PATIENCE: Final = 5.0  # seconds for a fork to remove its temporary files


@contextmanager
def in_a_fork(task: Callable[[], None]) -> Iterator[None]:
    """Context manager that runs `task`, which writes files, in a fork of this process beside the code inside.

    At the end of the context it waits for the fork. If that failed, or if there is only one core or no fork can be
    made, the task is run in this process, so that an error is raised here. The fork ends when this process does.
    """
    if cores() < 2:
        yield
        task()
        return
    fork = multiprocessing.get_context("fork").Process(target=partial(_run, task, os.getpid()), daemon=True)
    try:
        fork.start()
    except OSError:  # the system allows no more processes
        yield
        task()
        return
    try:
        yield
        fork.join()
    finally:
        fork.terminate()
        fork.join(PATIENCE)
        fork.kill()
        fork.join()
    if fork.exitcode != 0:
        task()


def _run(task: Callable[[], None], parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits ends this one
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(1))  # which removes temporary files
    if not end_with_parent(parent, signal.SIGTERM):
        sys.exit(1)
    try:
        task()
    except Exception:  # it is raised again, and reported, where the task is repeated
        sys.exit(1)
