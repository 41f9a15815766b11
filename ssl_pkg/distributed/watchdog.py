"""Ends this process when another rank of its process group has died or hangs."""

import os
import sys
import threading
import time
from typing import Final, Never

from torch.distributed import PrefixStore  # type: ignore[attr-defined] # in its stubs torch doesn't export it

from ssl_pkg.errors import FAULT

HEARTBEAT_SECONDS: Final = 1.0
TIMEOUT_SECONDS: Final = 15.0  # without a heartbeat, after which a rank counts as dead
START_TIMEOUT_SECONDS: Final = 300.0  # the same until a rank's first heartbeat
_LEFT: Final = 1 << 40  # added to the heartbeat count of a rank that has finished


class Watchdog:
    """Sends this rank's heartbeats to the store, and ends this process when another rank's heartbeats stop.

    A heartbeat is an increment of the rank's counter. A second thread supervises the first, because a call to the store
    blocks for ever when the store's host is lost or its process is stopped.
    """

    def __init__(self, store: PrefixStore, rank: int, world_size: int) -> None:
        self._store, self._rank, self._world_size = store, rank, world_size
        self._leaving, self._stopped = threading.Event(), threading.Event()
        self._last_check = time.monotonic()
        self._threads = [
            threading.Thread(target=target, name=target.__name__, daemon=True) for target in (self._watch, self._guard)
        ]

    def start(self) -> None:
        """Sends the first heartbeat, from which on TIMEOUT_SECONDS holds for this rank, and starts the threads."""
        self._heartbeat(1)
        for thread in self._threads:
            thread.start()

    def leave(self, serves_store: bool) -> None:
        """Reports that this rank has finished. The rank that serves the store waits until every rank has reported."""
        if not serves_store:  # the store may exit as soon as it has this rank's report
            self._leaving.set()
        self._heartbeat(_LEFT)
        while serves_store and any(self._count(r) < _LEFT for r in range(self._world_size)):
            time.sleep(0.05)

    def stop(self) -> None:
        """Stops the threads."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(HEARTBEAT_SECONDS)  # with a limit, because the store may not answer

    def _watch(self) -> None:
        others = [r for r in range(self._world_size) if r != self._rank]
        seen = {r: (0, time.monotonic()) for r in others}  # each rank's count, and when it last changed
        woke = time.monotonic()
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            if _was_suspended(woke):  # a scheduler suspends all ranks together: restart every rank's timeout
                seen = {r: (count, time.monotonic()) for r, (count, _) in seen.items()}
            woke = time.monotonic()
            try:
                self._heartbeat(1)
                for r in others:
                    count, now = self._count(r), time.monotonic()
                    if count != seen[r][0]:
                        seen[r] = (count, now)
                    elif count < _LEFT and now - seen[r][1] > (TIMEOUT_SECONDS if count else START_TIMEOUT_SECONDS):
                        self.end(f"rank {r} has sent no heartbeat for {now - seen[r][1]:.0f} s")
            except RuntimeError:
                if self._stopped.is_set() or self._leaving.is_set():
                    return
                self.end("the process that serves the TCPStore has exited")
            self._last_check = time.monotonic()

    def _guard(self) -> None:
        woke = time.monotonic()
        while not self._stopped.wait(HEARTBEAT_SECONDS):
            if _was_suspended(woke):
                self._last_check = time.monotonic()
            woke = time.monotonic()
            if (silent := time.monotonic() - self._last_check) > TIMEOUT_SECONDS:
                self.end(f"the process that serves the TCPStore has not answered for {silent:.0f} s")

    def _heartbeat(self, increment: int) -> None:
        self._store.add(f"heartbeats/{self._rank}", increment)

    def _count(self, rank: int) -> int:
        return self._store.add(f"heartbeats/{rank}", 0)

    def end(self, why: str) -> Never:
        """Ends this process with exit status FAULT, because a training can't continue without all its ranks."""
        print(
            f"ssl_pkg: rank {self._rank} of {self._world_size} stops, because {why}: "
            "run the same command again to resume",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        os._exit(FAULT)  # not sys.exit: the main thread may be blocked in a collective


def _was_suspended(woke: float) -> bool:
    """Whether this process was stopped between `woke` and now, while it meant to sleep HEARTBEAT_SECONDS."""
    return time.monotonic() - woke > TIMEOUT_SECONDS / 2
