"""One stage as a child process: the object that submitit pickles. It is light (no torch), since nothing handles a
signal until it has been unpickled."""

import fcntl
import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import BinaryIO, Final

from ssl_pkg.errors import FAULT, INTERRUPTED
from ssl_pkg.processes import parent_of, start_time_of
from ssl_pkg.run.signals import SIGNALS, signals_to_handle

# All that end a process and can be sent to a job by a user or a site.
FORWARDED: Final = (*SIGNALS, signal.SIGQUIT, signal.SIGALRM)
_PASSED_ON: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)  # SIGTERM is sent for the others
BEGIN: Final = ">>> "  # opens the line of the log above a start
END: Final = "<<< "  # and the one below its end
CANCELLED: Final = "cancelled"  # the last word in the log of a run that a cluster's user took out of the queue
EXIT_STATUS: Final = re.compile(r"exit status (-?\d+) after")
STARTED: Final = re.compile(r"<<< job (\S+), start \d+")  # what the node writes above each start of a SLURM job
TAIL_BYTES: Final = 1 << 16  # of a log, that are looked at


@dataclass(frozen=True)
class StageProcess:
    """A command line to start and wait for; calling it returns the exit status, negative if a signal killed it.

    The signals of FORWARDED reach the child, which leaves a checkpoint and exits 75. A child that a signal killed
    before it could do so counts as interrupted too, since it was asked to stop.
    """

    command: tuple[str, ...]
    log: Path  # gets what the child prints; appended to
    environment: dict[str, str | None] = field(default_factory=dict)  # changes to the child's; None removes
    runner: int | None = None  # the process whose end ends the child; it started the one that started this
    script: int | None = None  # another one whose end ends the child
    grace: float | None = None  # seconds from the first signal until the child is killed
    exclusive: bool = True  # wait for the end of an earlier start, by a lock on the log; a file server may lack locks

    def __call__(self) -> int:
        """Runs the child to its end."""
        status, asked = self.run()
        return INTERRUPTED if asked and status < 0 else status

    def run(self) -> tuple[int, int | None]:
        """Runs the child to its end; returns its exit status and the first signal that came."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        relay = _Relay()
        with self.log.open("ab", buffering=0) as log, relay.listening():
            if self.exclusive and not self._lock_log(log, relay):
                return INTERRUPTED, relay.signal
            began = time.monotonic()
            log.write(os.fsencode(f"{BEGIN}{time.strftime('%Y-%m-%d %H:%M:%S')} {shlex.join(self.command)}\n"))
            try:
                relay.start(self._popen(log))
                status = self._wait(relay)
            except OSError as error:
                log.write(os.fsencode(f"{self.command[0]} can't be started: {error.strerror}\n"))
                status = FAULT
            log.write(f"{END}exit status {status} after {time.monotonic() - began:.0f} s\n".encode())
        return status, relay.signal

    def _lock_log(self, log: BinaryIO, relay: "_Relay") -> bool:
        """Waits for the end of an earlier start of the same run: its process, too, holds the log open, and so the lock
        on it. False if a signal came first."""
        while relay.signal is None and not self._abandoned():
            try:
                fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.2)
            except OSError:  # a file system without flock; the run's own lock refuses a second process
                return True
            else:
                return True
        return False

    def _popen(self, log: BinaryIO) -> "subprocess.Popen[bytes]":
        changed = {**os.environ, "PYTHONUNBUFFERED": "1", **self.environment}
        environment = {name: value for name, value in changed.items() if value is not None}
        # a session of its own: the terminal's Ctrl-C reaches the child once, through the relay
        return subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )

    def _wait(self, relay: "_Relay") -> int:
        assert relay.child
        while True:
            try:
                return relay.child.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                if self._abandoned():
                    relay(signal.SIGTERM, None)
                if self.grace is not None and relay.signalled_for > self.grace:
                    os.killpg(relay.child.pid, signal.SIGKILL)

    def _abandoned(self) -> bool:
        """Whether what this process works for is gone."""
        if self.script is not None and start_time_of(self.script) is None:
            return True
        return self.runner is not None and parent_of(os.getppid()) != self.runner


class _Relay:
    """Gives the first signal on to the child; the later ones say nothing new."""

    def __init__(self) -> None:
        self.child: subprocess.Popen[bytes] | None = None
        self.signal: int | None = None
        self._since = 0.0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal is None:
            self.signal = number if number in _PASSED_ON else signal.SIGTERM
            self._since = time.monotonic()
            if self.child:
                self.child.send_signal(self.signal)

    def start(self, child: "subprocess.Popen[bytes]") -> None:
        """Knows the child from now on, and gives it the signal that came while it was started."""
        self.child = child
        if self.signal is not None:
            child.send_signal(self.signal)

    @property
    def signalled_for(self) -> float:
        """Seconds since the first signal; 0 before it."""
        return time.monotonic() - self._since if self.signal else 0.0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the signals; the runner has SIGINT and SIGHUP blocked, against the terminal, until here."""
        before = {number: signal.signal(number, self) for number in signals_to_handle(FORWARDED)}
        mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            for number, handler in before.items():
                signal.signal(number, handler)


def last_output(log: Path) -> list[str]:
    """The lines that the last start of a run printed."""
    return [line for line in _last_start(log) if not line.startswith(END)]


def last_events(log: Path) -> list[str]:
    """What was written about the last start of a run: its exit status, a requeue, a cancellation."""
    return [line.removeprefix(END) for line in _last_start(log) if line.startswith(END)]


def last_slurm_job(log: Path) -> str | None:
    """The SLURM job that wrote to a run's log last; None where its end doesn't say so."""
    found = [job[1] for line in _tail(log) if (job := STARTED.match(line))]
    return found[-1] if found else None


def _last_start(log: Path) -> list[str]:
    lines = _tail(log)
    begins = [number for number, line in enumerate(lines) if line.startswith(BEGIN)]
    return lines[begins[-1] + 1 if begins else 0 :]


def _tail(log: Path) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - TAIL_BYTES))
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []
