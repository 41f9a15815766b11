"""The lock of a study: one process at a time runs it or sends it, and leaves its process number for others."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from jobs.ledger import advice, read_json
from ssl_pkg.errors import BadInput, Busy
from ssl_pkg.processes import start_time_of
from ssl_pkg.run.directory import write_json
from ssl_pkg.run.file_lock import locked

LOCK_SECONDS: Final = 120.0  # that another one who types the same may take


@contextmanager
def study_lock(folder: Path, patience: float = 0, *, named: bool = False) -> Iterator[None]:
    """One at a time runs the study in `folder`, or sends it; the one who runs it leaves its name.

    Raises BadInput if another one is still there after `patience` seconds, or if `folder` can't be written.
    """
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(folder / ".lock", patience))
            if named:
                held.callback(remove_lock_holder, folder)
                write_lock_holder(folder)
        except Busy as error:
            raise BadInput(locked_message(folder)) from error
        except OSError as error:
            raise BadInput(
                f"{folder} can't be written: {error.strerror}; give another folder by --runs (make: RUNS=)"
            ) from error
        yield


def locked_message(folder: Path) -> str:
    """Who is at the study in `folder`, in a sentence."""
    owner = read_lock_holder(folder)
    who = f"process {owner.pid} on {owner.host}" if owner else "another process"
    return (
        f"study {folder.name} is being run by {who}: {advice('status', folder)} shows it, "
        f"{advice('cancel', folder)} stops it"
    )


@dataclass(frozen=True)
class LockHolder:
    """The process that runs a study."""

    pid: int
    host: str
    birth: str

    @property
    def here(self) -> bool:
        """Whether it was started on this machine."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether it is a living process of this machine, that very one."""
        return self.here and start_time_of(self.pid) == self.birth


def write_lock_holder(folder: Path) -> None:
    """Says that this process runs the study in `folder`."""
    owner = LockHolder(os.getpid(), socket.gethostname(), start_time_of(os.getpid()) or "")
    write_json(folder / ".runner", asdict(owner))


def read_lock_holder(folder: Path) -> LockHolder | None:
    """The process that said so last."""
    try:
        return LockHolder(**read_json(folder / ".runner"))
    except TypeError:
        return None


def remove_lock_holder(folder: Path) -> None:
    """Takes the word back."""
    (folder / ".runner").unlink(missing_ok=True)
