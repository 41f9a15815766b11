"""Processes that run a stage like `python -m ssl_pkg`, forked from a server that has imported torch.

A start takes tenths of a second instead of five seconds. Unlike a command, a forked process does not use jemalloc.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.synchronize import Barrier
from pathlib import Path

from ssl_pkg.catalogue import STAGES

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["ssl_pkg.__main__", *(f"ssl_pkg.stages.{stage}" for stage in STAGES)])
_lock = threading.Lock()  # because multiprocessing's bookkeeping of children is not thread-safe


class Forked:
    """A process that calls a function, which returns its exit status, with these variables in its environment."""

    def __init__(
        self, function: Callable[..., int], *arguments: object, environment: Mapping[str, str] | None = None
    ) -> None:
        self._pipe, stderr = _context.Pipe(duplex=False)
        line = (stderr, environment or {}, function, arguments)
        self._process = _context.Process(target=_call, args=line, daemon=True)
        with _lock:
            self._process.start()
        stderr.close()
        assert self._process.pid
        self.pid = self._process.pid
        self._output = b""
        self._open = True

    def stderr(self) -> str:
        """Everything that the process has written on stderr up to now."""
        while self._open and self._pipe.poll():
            more = os.read(self._pipe.fileno(), 65536)
            self._open = bool(more)
            self._output += more
        return self._output.decode(errors="replace")

    def ends_within(self, seconds: float) -> bool:
        """Waits for the process's end, up to a limit. Returns whether it has ended."""
        deadline = time.monotonic() + seconds
        while True:
            ends = [self._process.sentinel, *([self._pipe] if self._open else [])]
            ready = wait(ends, max(0.0, deadline - time.monotonic()))
            self.stderr()  # a full pipe would stop the process
            if self._process.sentinel in ready or not ready:
                return bool(ready)

    def send(self, number: signal.Signals) -> None:
        """Sends a signal, unless the process has ended."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def status(self, seconds: float = 120) -> int:
        """Waits for the exit status, which is negative if a signal ended the process. Fails after `seconds`."""
        in_time = self.ends_within(seconds)
        if not in_time:
            self.send(signal.SIGKILL)
        with _lock:
            self._process.join()
            assert in_time, f"process {self.pid} had not ended after {seconds} s"
            assert self._process.exitcode is not None
            return self._process.exitcode


def start(*lines: Sequence[str], environments: Sequence[Mapping[str, str]] = (), strict: bool = False) -> list[Forked]:
    """Starts a stage for each line, all at the same moment, and waits until they handle signals.

    environments: variables of each process, instead of none. strict: a UserWarning is an error.
    """
    barrier = _context.Barrier(len(lines) + 1)
    each = zip(lines, environments or [{}] * len(lines), strict=True)
    processes = [Forked(_stage, list(line), barrier, strict, environment=more) for line, more in each]
    barrier.wait(240)
    for process in processes:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended already
            wait_for_signal_handlers(process.pid)
    return processes


def run(line: Sequence[str], strict: bool = False) -> "subprocess.CompletedProcess[str]":
    """Runs a stage to its end, like subprocess.run(), but knows only its stderr."""
    (process,) = start(line, strict=strict)
    status = process.status(240)
    return subprocess.CompletedProcess(line, status, stderr=process.stderr())


def wait_for_signal_handlers(pid: int) -> None:
    """Waits until process `pid` handles SIGUSR2. Not SIGINT, because every Python handles SIGINT from its start."""
    mask = 0
    while not mask >> (signal.SIGUSR2 - 1) & 1:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        (mask,) = (int(line.split()[1], 16) for line in lines if line.startswith("SigCgt"))
        time.sleep(0.005)


def _call(
    stderr: Connection, environment: Mapping[str, str], function: Callable[..., int], arguments: Sequence[object]
) -> None:
    os.dup2(stderr.fileno(), 2)
    os.environ.update(environment)
    status = function(*arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # as `python -m ssl_pkg` ends


def _stage(line: list[str], begin: Barrier, strict: bool) -> int:
    from ssl_pkg.__main__ import main

    if strict:
        warnings.simplefilter("error", UserWarning, append=True)  # as `python -W error::UserWarning`
    begin.wait(240)
    return main(line)
