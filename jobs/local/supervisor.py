"""Runs StageProcess in a fork of the runner, so that the runner can wait for several stages and signal each.

A fork shares the runner's imported modules. submitit's local executor starts two new processes for each job, which need
0.4 s of CPU time for their imports.
"""

import os
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Final

from jobs.stage_process import StageProcess
from ssl_pkg.errors import FAULT
from ssl_pkg.run.signals import SIGNALS

_FIRST_FILE: Final = 3  # after standard input, output and error


class Supervisor:
    """A process that runs a StageProcess. Raises OSError if it can't be started."""

    def __init__(self, stage: StageProcess) -> None:
        context = get_context("fork")
        self._receiver, sender = context.Pipe(duplex=False)
        # A daemon, because then an exception in the runner ends the stages instead of waiting for them.
        self._process = context.Process(target=_supervise, args=(stage, sender), daemon=True)
        with _signals_blocked(), sender:
            self._process.start()

    @property
    def ended(self) -> bool:
        """Whether the process has ended."""
        return not self._process.is_alive()

    def status(self) -> int | None:
        """The stage's exit status after the end; None if the process ended without one, because it was killed."""
        with self._receiver:
            try:
                status: int = self._receiver.recv()
            except EOFError:
                return None
            return status

    def stop(self) -> None:
        """Sends SIGTERM, which StageProcess forwards to the stage."""
        self._process.terminate()


def _supervise(stage: StageProcess, sender: Connection) -> None:
    # The fork server stops when the runner's end of a pipe is closed, so no other process may keep it open.
    os.closerange(_FIRST_FILE, sender.fileno())
    os.closerange(sender.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    try:
        status = stage()
    except Exception:
        status = FAULT
        with stage.log.open("a", encoding="utf-8") as log:
            traceback.print_exc(file=log)
    sender.send(status)


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
