"""Ends a process when another rank of its process group has died or stands still."""

import os
import sys
import threading
import time
from typing import Final, Never

from torch.distributed import PrefixStore  # type: ignore[attr-defined] # in its stubs torch doesn't export it

from ssl_pkg.errors import FAULT

BEAT_SECONDS: Final = 1.0
SILENCE_SECONDS: Final = 15.0  # a rank not heard of for so long is gone
MEETING_SECONDS: Final = 300.0  # until all have started
_LEFT: Final = 1 << 40  # added to the beats of a rank that has left in good order


class Watchdog:
    """Counts this rank's beats up, looks whether the others' go on, and ends the process when one's do not.

    A second thread looks whether the first one goes on: a store whose host is lost, or whose process stands still,
    leaves it waiting for an answer for ever.
    """

    def __init__(self, store: PrefixStore, rank: int, size: int) -> None:
        self._store, self._rank, self._size = store, rank, size
        self._done, self._stopped = threading.Event(), threading.Event()
        self._looked = time.monotonic()
        self._threads = [
            threading.Thread(target=target, name=target.__name__, daemon=True) for target in (self._watch, self._guard)
        ]

    def start(self) -> None:
        """Beats for the first time, so that nobody takes this rank for one that has not started yet."""
        self._beat(1)
        for thread in self._threads:
            thread.start()

    def leave(self, last: bool) -> None:
        """Says that this rank needs the others no more; the one that holds the store stays until all have said so."""
        if not last:  # the store may end as soon as it has heard of it
            self._done.set()
        self._beat(_LEFT)
        while last and any(self._beats(r) < _LEFT for r in range(self._size)):
            time.sleep(0.05)

    def stop(self) -> None:
        """Ends the threads."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(BEAT_SECONDS)  # no longer, for the store may not answer

    def _watch(self) -> None:
        others = [r for r in range(self._size) if r != self._rank]
        seen = {r: (0, time.monotonic()) for r in others}
        woke = time.monotonic()
        while not self._stopped.wait(BEAT_SECONDS):
            if _stood_still(woke):  # all of them, if the scheduler has suspended the job: their silence counts anew
                seen = {r: (beats, time.monotonic()) for r, (beats, _) in seen.items()}
            woke = time.monotonic()
            try:
                self._beat(1)
                for r in others:
                    beats, now = self._beats(r), time.monotonic()
                    if beats != seen[r][0]:
                        seen[r] = (beats, now)
                    elif beats < _LEFT and now - seen[r][1] > (SILENCE_SECONDS if beats else MEETING_SECONDS):
                        self.end(f"rank {r} has not been heard of for {now - seen[r][1]:.0f} s")
            except RuntimeError:
                if self._stopped.is_set() or self._done.is_set():
                    return
                self.end("the leading process has ended")
            self._looked = time.monotonic()

    def _guard(self) -> None:
        woke = time.monotonic()
        while not self._stopped.wait(BEAT_SECONDS):
            if _stood_still(woke):
                self._looked = time.monotonic()
            woke = time.monotonic()
            if (silent := time.monotonic() - self._looked) > SILENCE_SECONDS:
                self.end(f"the leading process has not answered for {silent:.0f} s")

    def _beat(self, count: int) -> None:
        self._store.add(f"beats/{self._rank}", count)

    def _beats(self, rank: int) -> int:
        return self._store.add(f"beats/{rank}", 0)

    def end(self, why: str) -> Never:
        """Ends this process, since the training can't go on without the others."""
        print(
            f"ssl_pkg: rank {self._rank} of {self._size} stops, for {why}: run the same line again to go on",
            file=sys.stderr, flush=True,
        )  # fmt: skip
        os._exit(FAULT)  # the main thread may stand in a collective that nothing else can end


def _stood_still(woke: float) -> bool:
    """Whether this process was stopped since, although it wanted to sleep for a beat only."""
    return time.monotonic() - woke > SILENCE_SECONDS / 2
