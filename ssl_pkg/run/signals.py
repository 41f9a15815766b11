"""Signals become a flag that the loop looks at between two steps."""

import signal
from collections.abc import Iterable
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP)
_MAY_BE_IGNORED: Final = (signal.SIGINT, signal.SIGHUP)


def heeded(numbers: Iterable[signal.Signals]) -> tuple[signal.Signals, ...]:
    """Those of these signals that this process must not ignore.

    `nohup` starts a process with SIGHUP ignored, and a shell's script one in the background with SIGINT ignored: what
    happens to the terminal is not meant for these. Nobody starts a process with another signal ignored on purpose.
    """
    return tuple(n for n in numbers if n not in _MAY_BE_IGNORED or signal.getsignal(n) is not signal.SIG_IGN)


class Interrupts:
    """Remembers that one of SIGNALS came. A second one changes nothing."""

    def __init__(self) -> None:
        self.received: str | None = None

    def install(self) -> "Interrupts":
        """Takes over the signals of this process, also those that were kept waiting until now."""
        for number in heeded(SIGNALS):
            signal.signal(number, self._remember)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return self

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number).name
