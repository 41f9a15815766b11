"""Runs one stage as a child process: forwards signals to it, and logs its start and its exit status.

Imports no torch, because a signal that arrives during a slow import would not be handled.
"""

import fcntl
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Final

from jobs.forked_stage import Fork, ForkedStage, ServerLost
from ssl_pkg.errors import FAULT, INTERRUPTED
from ssl_pkg.processes import end_with_parent, start_time_of
from ssl_pkg.run.run_log import EVENT_PREFIX, START_PREFIX, exit_event, tail
from ssl_pkg.run.signals import SIGNALS, handled

_UNCHANGED: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)  # the others are forwarded as SIGTERM
CANCELLED: Final = "cancelled"  # the last event in the log of a run that was removed from a cluster's queue
STARTED: Final = re.compile(rf"{EVENT_PREFIX}job (\S+), start \d+")  # the event before each start by SLURM


@dataclass(frozen=True)
class StageProcess:
    """A command line; calling the object runs it and returns the exit status, which is negative after a fatal signal.

    The signals in SIGNALS are forwarded to the child, which writes a checkpoint and exits with status 75. A child
    that the forwarded signal killed counts as interrupted too.
    """

    command: tuple[str, ...]
    log: Path  # the child's output is appended
    environment: dict[str, str | None] = field(default_factory=dict)  # to be changed; None removes a variable
    runner: int | None = None  # the child stops when this process ends; it must be this process's parent
    script: int | None = None  # the child stops when this process ends
    grace: float | None = None  # seconds from the first signal until the child is killed
    fork: Fork | None = None  # starts the stage instead of `command` if it can
    exclusive: bool = True  # wait for the end of an earlier start, by a lock on the log; a file server may lack locks

    def __call__(self) -> int:
        """Runs the child to its end; returns its exit status, or 75 if a forwarded signal killed it."""
        status, asked = self.run()
        return INTERRUPTED if asked and status < 0 else status

    def run(self) -> tuple[int, int | None]:
        """Runs the child to its end; returns its exit status and the first signal that was received."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        relay = _SignalRelay()
        with self.log.open("ab", buffering=0) as log, relay.listening():
            if self.exclusive and not self._lock_log(log, relay):
                return INTERRUPTED, relay.signal
            began = time.monotonic()
            log.write(os.fsencode(f"{START_PREFIX}{time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(self.command)}\n"))
            try:
                status = self._run_child(log, relay)
            except OSError as error:
                log.write(os.fsencode(f"{self.command[0]} can't be started: {error.strerror}\n"))
                status = FAULT
            log.write(f"{EVENT_PREFIX}{exit_event(status, time.monotonic() - began)}\n".encode())
        return status, relay.signal

    def _lock_log(self, log: BinaryIO, relay: "_SignalRelay") -> bool:
        """Locks the log. Waits for the end of an earlier start of the run, whose processes hold the same lock.

        Returns False if a signal was received first.
        """
        while not self._stopping(relay):
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.2)
            except OSError:  # a file system without flock; the lock of the run directory still refuses a second process
                return True
            else:
                return True
        return False

    def _run_child(self, log: BinaryIO, relay: "_SignalRelay") -> int:
        """Runs the child to its end; returns its exit status.

        A stage that stops because the fork server died resumes in a process of its own.
        """
        changed = {**os.environ, "PYTHONUNBUFFERED": "1", **self.environment}
        environment = {name: value for name, value in changed.items() if value is not None}
        if self.fork:
            with suppress(ServerLost):
                if forked := self.fork.start(log, environment, lambda: self._stopping(relay)):
                    with forked:
                        return self._wait(forked, relay)
            if self._stopping(relay):
                return INTERRUPTED
            log.write(f"{EVENT_PREFIX}the fork server can't run this stage, which gets a process of its own\n".encode())
        # In its own session, the child receives the terminal's Ctrl-C once, from the relay. preexec_fn is safe, because
        # this process has one thread.
        with subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=partial(_end_with, os.getpid()) if self.runner else None,  # noqa: PLW1509 - one thread
        ) as child:
            return self._wait(child, relay)

    def _stopping(self, relay: "_SignalRelay") -> bool:
        return relay.signal is not None or self._abandoned()

    def _wait(self, child: "ForkedStage | subprocess.Popen[bytes]", relay: "_SignalRelay") -> int:
        relay.start(child)
        while True:
            try:
                return child.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                if self._abandoned():
                    relay(signal.SIGTERM, None)
                if self.grace is not None and relay.signalled_for > self.grace:
                    if isinstance(child, ForkedStage):
                        child.kill_group()
                    else:
                        os.killpg(child.pid, signal.SIGKILL)

    def _abandoned(self) -> bool:
        """Whether the runner or the script has ended."""
        if self.script is not None and start_time_of(self.script) is None:
            return True
        return self.runner is not None and os.getppid() != self.runner


def _end_with(supervisor: int) -> None:
    """Stops this process, a child before its command, when the supervisor is killed. Nothing else would watch it."""
    if not end_with_parent(supervisor, signal.SIGTERM):
        os._exit(INTERRUPTED)


class _SignalRelay:
    """Forwards the first signal to the child and ignores later ones."""

    def __init__(self) -> None:
        self.child: ForkedStage | subprocess.Popen[bytes] | None = None
        self.signal: int | None = None
        self._since = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number if number in _UNCHANGED else signal.SIGTERM
            self._since = time.monotonic()
            if self.child:
                self.child.send_signal(self.signal)

    def start(self, child: "ForkedStage | subprocess.Popen[bytes]") -> None:
        """Sets the child, and forwards a signal that was received before."""
        self.child = child
        if self.signal is not None:
            child.send_signal(self.signal)

    @property
    def signalled_for(self) -> float:
        """Seconds since the first signal; 0 without a signal."""
        return time.monotonic() - self._since if self.signal else 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Context manager that handles the signals. The runner blocks those of the terminal until here."""
        with handled(self):
            mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            try:
                yield
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def last_slurm_job(log: Path) -> str | None:
    """The id of the SLURM job that started the run last; None if the end of the log has no such line."""
    found = [job[1] for line in tail(log) if (job := STARTED.match(line))]
    return found[-1] if found else None
