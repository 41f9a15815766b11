"""The exit statuses of the commands, and the exceptions that lead to them."""

import errno
from typing import Final

COMPLETE: Final = 0  # result.json is written
FAULT: Final = 1  # a fault of the program or the machine, or another process holds the run
BAD_INPUT: Final = 2  # configuration or data are wrong, and the same command will fail again
# Stopped by a signal (EX_TEMPFAIL): the same command resumes the run. A checkpoint is on disk, except for the short
# stages (probe, ood, embed), which start again. If there is no space for the checkpoint, the exit status is FAULT.
INTERRUPTED: Final = 75

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errno of a full disk, an exceeded quota, a file size limit


class BadInput(Exception):
    """The user's input is wrong. The message is one sentence: what was found, where, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))  # user input in the message may contain line breaks


class Interrupted(Exception):
    """A signal stopped the run. Its checkpoint is on disk, as at INTERRUPTED."""


class Diverged(ArithmeticError):
    """Metrics or weights are no longer finite. The message names the step, its images and the last good checkpoint."""


class Busy(Exception):
    """Another living process holds the lock."""


class Done(Exception):
    """Another process has completed the run in the meantime."""
