"""Text of a program: names of files and what is printed, whatever the user's locale is."""

import io
import os
import sys


def use_utf8() -> None:
    """Starts this process again in Python's UTF-8 mode where the locale has another encoding, such as ASCII: names of
    files could be neither checked nor printed. What stdout or stderr can't print is printed as an escape."""
    if sys.getfilesystemencoding() != "utf-8" and sys.executable:
        os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], os.environ | {"PYTHONUTF8": "1"})
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
