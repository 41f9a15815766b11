"""The lock of a study: one process at a time runs or submits it, and records itself as the lock's holder."""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from jobs.ledger import jobs_command
from ssl_pkg.errors import BadInput, Busy
from ssl_pkg.processes import start_time_of
from ssl_pkg.run.directory import read_json, write_json
from ssl_pkg.run.file_lock import locked

LOCK_SECONDS: Final = 120.0  # how long `submit` and `cancel` wait for another `submit`


@contextmanager
def study_lock(folder: Path, timeout: float = 0, *, named: bool = False) -> Iterator[None]:
    """Context manager that holds the lock of the study in `folder`.

    timeout: seconds to wait for another holder, but not for a `study`, which may run for hours. named: record this
    process as the holder, for `status` and `cancel`.

    Raises BadInput if another process still holds the lock after `timeout` seconds, or if `folder` is not writable.
    """
    holder = read_lock_holder(folder)
    if holder and holder.alive:  # a `submit` leaves no record
        timeout = 0
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            held.enter_context(locked(folder / ".lock", timeout))
            if named:
                held.callback(remove_lock_holder, folder)
                write_lock_holder(folder)
        except Busy as error:
            raise BadInput(locked_message(folder)) from error
        except OSError as error:
            raise BadInput(
                f"{folder} can't be written: {error.strerror}; give another folder with --runs (make: RUNS=)"
            ) from error
        yield


def locked_message(folder: Path) -> str:
    """A sentence that names the process that holds the lock."""
    holder = read_lock_holder(folder)
    who = f"process {holder.pid} on {holder.host}" if holder else "another process"
    return (
        f"study {folder.name} is being run by {who}: {jobs_command('status', folder)} shows it, "
        f"{jobs_command('cancel', folder)} stops it"
    )


@dataclass(frozen=True)
class LockHolder:
    """The process that holds a study's lock."""

    pid: int
    host: str
    start_time: str  # the process's, as `start_time_of` returns it; a process id can be reused

    @property
    def on_this_host(self) -> bool:
        """Whether the process was started on this machine."""
        return self.host == socket.gethostname()

    @property
    def alive(self) -> bool:
        """Whether the process is still running, on this machine."""
        return self.on_this_host and start_time_of(self.pid) == self.start_time


def write_lock_holder(folder: Path) -> None:
    """Records this process as the lock's holder."""
    holder = LockHolder(os.getpid(), socket.gethostname(), start_time_of(os.getpid()) or "")
    write_json(folder / ".runner", asdict(holder))


def read_lock_holder(folder: Path) -> LockHolder | None:
    """The process that was recorded last, running or not; None if there is no record."""
    try:
        return LockHolder(**(read_json(folder / ".runner") or {}))
    except TypeError:
        return None


def remove_lock_holder(folder: Path) -> None:
    """Removes the record."""
    (folder / ".runner").unlink(missing_ok=True)
