"""Signals become a flag that the loop looks at between two steps."""

import signal
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)


class Interrupts:
    """Remembers that one of SIGNALS came. A second one changes nothing."""

    def __init__(self) -> None:
        self.received: str | None = None

    def install(self) -> "Interrupts":
        """Takes over the signals of this process, also those that were kept waiting until now."""
        for number in SIGNALS:
            signal.signal(number, self._remember)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return self

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or signal.Signals(number).name
