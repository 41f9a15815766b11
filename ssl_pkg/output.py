"""Output whose reader may have left, as in `python -m jobs study demo | head`: the work does not stop for that."""

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO, cast


class Unheard:
    """A stream that drops what its reader or its disk does not take, instead of raising an error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes if it can."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes if it can."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            # the text is still in the stream's buffer, and Python would fail on it once more at its end
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        except OSError:
            pass


def ignore_lost_readers() -> None:
    """From now on, standard output and standard error drop what can't be written and escape what they can't encode."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed, by `>&-`
            stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115, because it stays open
        stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, cast(TextIO, Unheard(stream)))
