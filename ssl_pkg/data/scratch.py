"""A temporary folder beside the target. The next run of the same command removes what a killed run left."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from ssl_pkg.errors import BadInput, Busy
from ssl_pkg.run.file_lock import FileLock, describe, locked

LOCK: Final = "lock"


@contextmanager
def new_parents(path: Path) -> Iterator[None]:
    """Context manager that creates the folders above `path`, and at its end removes those of them that are empty."""
    missing = [folder for folder in path.parents if not os.path.lexists(folder)]  # the innermost first
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        with suppress(OSError):  # the first that is not empty
            for folder in missing:
                folder.rmdir()


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """Context manager that yields an empty folder on the file system of `target`, and removes it at the end.

    What a killed process has left of its own scratch folder for the same target is removed first. Raises BadInput if
    another process has one now, or if its place is taken by anything else; OSError if it can't be written.
    """
    folder = target.parent / f".{target.name}.unfinished"
    with new_parents(folder):
        folder.mkdir(exist_ok=True)
        with _locked_folder(folder, target) as work:
            yield work


@contextmanager
def _locked_folder(folder: Path, target: Path) -> Iterator[Path]:
    lock, work = FileLock(folder / LOCK), folder / "files"
    strange = [entry.name for entry in folder.iterdir() if not entry.name.startswith(lock.draft_prefix)]
    if strange and not lock.holder():  # a process removes its files before it releases the lock
        raise BadInput(f"{folder} has files of unknown origin ({strange[0]}), but its name is needed: move it away")
    try:
        with locked(lock.path):
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            try:
                yield work
            finally:
                shutil.rmtree(work, ignore_errors=True)
    except Busy as error:
        raise BadInput(f"{describe(lock.holder())} is writing {target}: wait until it ends, or stop it") from error
    finally:
        with suppress(OSError):  # another process may use the folder now
            folder.rmdir()
