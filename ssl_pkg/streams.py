"""What is printed, whatever the terminal's encoding."""

import io
import sys


def print_any_character() -> None:
    """Has stdout and stderr print as an escape what their encoding lacks, where they would raise UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
