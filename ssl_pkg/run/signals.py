"""Turns a signal into a flag that a run checks between two steps. Imports no torch."""

import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

# All signals that end a process and that a user or a site may send. SLURM sends a signal to each process of a step.
SIGNALS: Final = (
    signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM,
)  # fmt: skip
SIGNAL_NAMES: Final = tuple(number.name.removeprefix("SIG") for number in SIGNALS)  # as shells and env have them
_MAY_BE_IGNORED: Final = (signal.SIGINT, signal.SIGHUP)


def signals_to_handle(numbers: Iterable[signal.Signals]) -> tuple[signal.Signals, ...]:
    """The signals of `numbers`, without SIGINT and SIGHUP if the process was started with these ignored.

    `nohup` starts a process with SIGHUP ignored, and a shell script starts a background process with SIGINT ignored:
    such a process must survive what happens to the terminal. The other signals are always returned.
    """
    return tuple(n for n in numbers if n not in _MAY_BE_IGNORED or signal.getsignal(n) is not signal.SIG_IGN)


@contextmanager
def handled(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """Context manager in which `handler` gets SIGNALS, except those of `signals_to_handle` that stay ignored."""
    before = {number: signal.signal(number, handler) for number in signals_to_handle(SIGNALS)}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def interrupting() -> Iterator[None]:
    """Context manager in which the first of SIGNALS raises KeyboardInterrupt in the main thread.

    Later signals are ignored, because they would interrupt the removal of temporary files.
    """

    def interrupt(number: int, frame: FrameType | None) -> None:
        for ignored in SIGNALS:
            signal.signal(ignored, signal.SIG_IGN)
        raise KeyboardInterrupt

    with handled(interrupt):
        yield


class InterruptFlag:
    """Records the first of SIGNALS that arrives. Later ones have no effect.

    received: the signal's name, such as "SIGTERM", or None.
    """

    def __init__(self) -> None:
        self.received: str | None = None

    def install(self) -> "InterruptFlag":
        """Handles the signals of this process from now on, including those that are pending because of a mask."""
        for number in signals_to_handle(SIGNALS):
            signal.signal(number, self._record)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return self

    def _record(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number).name
