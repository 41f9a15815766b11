"""The exit statuses of the commands, and the exceptions that lead to them."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

COMPLETE: Final = 0  # result.json is written
FAULT: Final = 1  # a fault of the program or the machine, or another process holds the run
BAD_INPUT: Final = 2  # configuration or data are wrong, and the same command will fail again
# Stopped by a signal (EX_TEMPFAIL): the same command resumes the run from its newest checkpoint. A training saves one
# when it stops, other stages after each part of their work; `ood`, which is short, saves none and starts again. If
# there is no space for the checkpoint, the exit status is FAULT.
INTERRUPTED: Final = 75

NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errno of a full disk, an exceeded quota, a file size limit
LONGEST: Final = 240  # characters of a path in a message


class BadInput(Exception):
    """The user's input is wrong. The message is one sentence: what was found, where, and what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.splitlines()))  # user input in the message may contain line breaks


def shortened(text: str) -> str:
    """The text, or its first and last characters if it has more than LONGEST, for messages with paths of any length."""
    half = LONGEST // 2
    return text if len(text) <= LONGEST else f"{text[:half]}…{text[-half:]}"


@contextmanager
def reading(source: Path) -> Iterator[None]:
    """Context manager that turns an OSError into BadInput, such as that of `Path.is_dir` below a folder without
    permission.

    source: for the message about an error that names no file.
    """
    try:
        yield
    except OSError as error:
        raise BadInput(f"can't read {shortened(str(error.filename or source))}: {error.strerror or error}") from error


def read_error(file: Path, error: OSError) -> BadInput | OSError:
    """The exception for a run that can't read `file`: BadInput if there is no such file or no permission, otherwise
    OSError, as a fault of the machine, with the file's name, which an error of a read lacks."""
    if isinstance(error, FileNotFoundError | PermissionError | IsADirectoryError | NotADirectoryError):
        return BadInput(f"can't read {file}: {error.strerror}")
    return OSError(error.errno, error.strerror, str(file))


@contextmanager
def interrupts_first() -> Iterator[None]:
    """Context manager and decorator that raises KeyboardInterrupt instead of any error that followed from one.

    Where Ctrl-C interrupts Hydra and OmegaConf, their handlers and `finally` blocks fail with errors of their own.
    """
    try:
        yield
    except Exception as error:
        found: list[BaseException | None] = [error]
        for each in found:  # the loop appends the causes of each error to `found`
            if isinstance(each, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            found += [before for before in (each.__cause__, each.__context__) if before not in found] if each else []
        raise


class Interrupted(Exception):
    """A signal stopped the run, which the same command resumes, as at INTERRUPTED."""


class Diverged(ArithmeticError):
    """Metrics or weights are no longer finite. The message names the step, its images and the last good checkpoint."""


class Busy(Exception):
    """Another living process holds the lock."""


class Done(Exception):
    """Another process has completed the run in the meantime."""
