"""Work that is done in two processes, so that a report takes less time on two cores."""

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def in_a_fork(task: Callable[[], None]) -> Iterator[None]:
    """Context manager that runs `task`, which writes files, in a fork of this process beside the code inside.

    At the end of the context it waits for the fork. If that failed, or if the system has no forks, the task is run in
    this process, so that an error is raised here.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        yield
        task()
        return
    fork = multiprocessing.get_context("fork").Process(target=_run, args=(task,), daemon=True)
    sys.stdout.flush()
    fork.start()
    try:
        yield
        fork.join()
    finally:
        fork.kill()
        fork.join()
    if fork.exitcode != 0:
        task()


def _run(task: Callable[[], None]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that waits ends this one
    try:
        task()
    except BaseException:  # it is raised again, and reported, where the task is repeated
        sys.exit(1)
