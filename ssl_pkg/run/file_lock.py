"""A lock on a file, for file systems with and without flock. Imports no torch.

filelock's FileLock needs flock, which Lustre and some home directories don't have. Its SoftFileLock keeps the lock of a
killed process for ever where the file system can't exchange two names, as NFS and Lustre can't.
"""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ssl_pkg.errors import Busy
from ssl_pkg.run.lock import Owner

BEAT_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 0.1


@contextmanager
def locked(file: Path, patience: float = 0.0) -> Iterator[None]:
    """Context manager that holds the lock `file`, on any file system.

    Raises Busy if a living process still holds it after `patience` seconds, OSError if it can't be written.
    """
    end = time.monotonic() + patience
    while True:
        try:
            owner = Owner(file.parent, file.name)
            break
        except Busy:
            if time.monotonic() >= end:
                raise
            time.sleep(LOOK_SECONDS)
    stopped = threading.Event()

    def beat() -> None:
        while not stopped.wait(BEAT_SECONDS):
            owner.beat()

    thread = threading.Thread(target=beat, daemon=True)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # signals are for the main thread
    thread.start()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        owner.give_free()
