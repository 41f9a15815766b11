"""The exit statuses of `python -m ssl_pkg` and the exceptions behind them."""

import errno
from typing import Final

COMPLETE: Final = 0  # result.json is written
FAULT: Final = 1  # a fault of the program or the machine
BAD_INPUT: Final = 2  # configuration or data are wrong; the same line will fail again
# Stopped by a signal; the same line goes on (EX_TEMPFAIL). A checkpoint is on disk, but for the short stages (probe,
# ood, embed), which begin anew; one for which there was no room makes it a FAULT.
INTERRUPTED: Final = 75

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # of an OSError: full disk, quota, limit of a file's size


class BadInput(Exception):
    """What the user gave is wrong. The message is one sentence: what was found, where, what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))  # what was found may hold line breaks


class Interrupted(Exception):
    """A signal asked the run to stop, and its checkpoint is on disk."""


class Diverged(ArithmeticError):
    """The training's numbers are no longer finite. The message says since when, on what, and what is left."""


class Busy(Exception):
    """Another living process owns the run directory."""


class Done(Exception):
    """Another process has completed the run since this one looked."""
