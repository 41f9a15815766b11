"""Runs StageProcess in a fork of the runner, so that the runner can wait for several stages and signal each.

A fork shares the modules that the runner has imported. A new process would import them again.
"""

import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from jobs.stage_process import StageProcess
from ssl_pkg.errors import FAULT
from ssl_pkg.run.signals import SIGNALS

_STANDARD: Final = (0, 1, 2)  # input, output and error


class Supervisor:
    """A process that runs a StageProcess. Raises OSError if it can't be started."""

    def __init__(self, stage: StageProcess) -> None:
        context = get_context("fork")
        self._receiver, sender = context.Pipe(duplex=False)
        # A daemon, because then the interpreter's exit ends the stages instead of waiting for them.
        self._process = context.Process(target=_supervise, args=(stage, sender), daemon=True)
        with _signals_blocked(), sender:
            self._process.start()

    @property
    def ended(self) -> bool:
        """Whether there is a status, or will be none because the process was killed."""
        return self._receiver.poll()

    def fileno(self) -> int:
        """A file descriptor that is readable once `ended` is true, for multiprocessing.connection.wait."""
        return self._receiver.fileno()

    def status(self) -> int | None:
        """The stage's exit status after the end; None if the process was killed before it had one."""
        with self._receiver:
            self._process.join()
            try:
                status: int = self._receiver.recv()
            except EOFError:
                return None
            return status

    def stop(self) -> None:
        """Sends SIGTERM, which StageProcess forwards to the stage."""
        self._process.terminate()


def _supervise(stage: StageProcess, sender: Connection) -> None:
    status = FAULT
    try:
        _close_files(sender.fileno())
        status = stage()
    except Exception:
        with suppress(OSError), stage.log.open("a", encoding="utf-8") as log:  # the disk may be full
            traceback.print_exc(file=log)
    finally:
        with suppress(OSError):  # the runner has been killed
            sender.send(status)


def _close_files(kept: int) -> None:
    """Closes the runner's files, because the fork server stops when no process has the runner's pipe open."""
    for descriptor in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if descriptor not in (*_STANDARD, kept):
            with suppress(OSError):  # that of the listing itself
                os.close(descriptor)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Context manager that blocks SIGNALS, also in a process that is forked inside, until StageProcess handles them.

    Otherwise such a process would call the runner's handlers. Signals to this process stay pending.
    """
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
