"""The console command `ssl-study` in messages."""

import shutil
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

PROGRAM: Final = "ssl-study"


def console_command() -> str:
    """`ssl-study` as it can be typed here: with its path, which may be relative, if the shell finds none or another."""
    installed = Path(sys.executable).with_name(PROGRAM)
    if not installed.exists() or shutil.which(PROGRAM) == str(installed):
        return PROGRAM
    with suppress(OSError, ValueError):  # the working folder was removed, or is elsewhere
        relative = str(installed.relative_to(Path.cwd()))
        return relative if "/" in relative else f"./{relative}"
    return str(installed)
