"""The lock of a run directory: only the process that holds it writes there. Imports no torch."""

import contextlib
import shutil
from pathlib import Path
from typing import Final

from ssl_pkg.errors import BadInput, Busy
from ssl_pkg.run.file_lock import FileLock, describe

LOCK: Final = "lock"
TRIES: Final = 100  # to acquire a directory that other processes create and remove


class RunLock(FileLock):
    """The file `lock` of a run directory.

    removable: whether `release(remove=True)` may remove the directory, because this process created it and no run has
    begun in it.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / LOCK)
        self.folder, self.removable = folder, False

    def acquire(self) -> None:
        """Creates the run directory if it is missing, and acquires its lock.

        Raises Busy and OSError as FileLock does, BadInput if the directory holds something else than a run.
        """
        for tries_left in reversed(range(TRIES)):
            created = self._create_folder()
            try:
                super().acquire()
                break
            except FileNotFoundError:  # the process that created the directory has failed and removed it
                if not tries_left:
                    raise
        self.removable = created and not (self.folder / "config.yaml").exists()  # written by another process meanwhile

    def verify(self) -> None:
        """Must be called before each write to the run directory.

        Raises Busy if another process has taken it over, OSError if it can't be read who holds it.
        """
        if self.is_lost():
            if not self.folder.is_dir():
                raise Busy(f"{self.folder} is gone: it was moved or removed while this process worked in it")
            raise Busy(
                f"{self.folder} was taken over by {describe(self.holder())} while this process was suspended or cut "
                "off: this process stops, and writes nothing more"
            )

    def remove_unfinished_files(self) -> None:
        """Removes the temporary files of a process that was killed while it wrote.

        A process that waits for the lock may lose its draft of a lock file here. It writes another one.
        """
        for pattern in (".*.tmp", "checkpoints/.*.tmp", f"{self.draft_prefix}*"):
            for unfinished in self.folder.glob(pattern):
                unfinished.unlink(missing_ok=True)

    def release(self, remove: bool = False) -> None:
        """Releases the lock, unless another process has taken it over. remove: also the directory, if `removable`."""
        if not (remove and self.removable and self.is_held()):
            super().release()
            return
        for entry in self.folder.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry != self.path and not entry.name.startswith(self.draft_prefix):
                entry.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)  # last, so that no other process begins in a directory that is being removed
        with contextlib.suppress(OSError):  # another process is acquiring the lock already
            self.folder.rmdir()

    def _create_folder(self) -> bool:
        """Creates the run directory. Returns whether it is new."""
        try:
            self.folder.mkdir(parents=True)
        except FileExistsError:
            names: list[str] = []
            with contextlib.suppress(FileNotFoundError):
                names = [entry.name for entry in self.folder.iterdir()]
            is_run = not {"config.yaml", LOCK}.isdisjoint(names)
            if not is_run and not all(name.startswith(self.draft_prefix) for name in names):
                raise BadInput(
                    f"run_dir={self.folder} holds something that is not a run: give another folder, or empty this one"
                ) from None
            return False
        return True
