"""Sets up the encoding, standard output and standard error; each program calls this first."""

import io
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TextIO, cast


class LossyStream:
    """A text stream that drops output that can't be written, instead of raising OSError."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes `text`, or drops it on an OSError. Returns the length of `text`."""
        with suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes the stream, or drops the buffered text on an OSError."""
        try:
            self._stream.flush()
        except BrokenPipeError:
            # the text is still buffered, and Python would raise the same error again at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        except OSError:
            pass


def prepare_streams() -> None:
    """Calls `use_utf8`, and makes standard output and standard error drop text that can't be written.

    A reader that exits, as in `ssl-study demo | head`, does not stop the program.
    """
    use_utf8()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by `>&-`
            stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115, because it stays open
        setattr(sys, name, cast(TextIO, LossyStream(stream)))


def prepare_command_streams(arguments: Sequence[str]) -> None:
    """Calls `prepare_streams`, or for --watch only `use_utf8`, because --watch ends when its reader closes the pipe."""
    if "--watch" in arguments and sys.stdout is not None:
        use_utf8()
    else:
        prepare_streams()


def use_utf8() -> None:
    """Restarts this process in Python's UTF-8 mode if the locale has another encoding, such as ASCII.

    In such a locale, file names can be neither checked nor printed. Characters that standard output or standard error
    can't encode are printed as escapes.
    """
    if sys.getfilesystemencoding() != "utf-8" and sys.executable:
        os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], os.environ | {"PYTHONUTF8": "1"})
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
