"""What each program does first to its encoding, standard output and standard error."""

import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TextIO, cast


class LossyStream:
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


def prepare_streams() -> None:
    """Calls `use_utf8`. From then on, standard output and standard error drop what can't be written: a reader that
    leaves, as in `python -m jobs study demo | head`, does not stop the work."""
    use_utf8()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed, by `>&-`
            stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115, because it stays open
        setattr(sys, name, cast(TextIO, LossyStream(stream)))


def use_utf8() -> None:
    """Starts this process again in Python's UTF-8 mode where the locale has another encoding, such as ASCII: names of
    files could be neither checked nor printed. What stdout or stderr can't print is printed as an escape."""
    if sys.getfilesystemencoding() != "utf-8" and sys.executable:
        os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], os.environ | {"PYTHONUTF8": "1"})
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
