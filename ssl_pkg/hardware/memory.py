"""A malloc that keeps freed memory for the next training step.

Otherwise each step gets its memory from the kernel again, page by page and zeroed: 1,200,000 page faults in a step of
SimCLR with 256 pairs of 96 px in float32, which then takes 1.4 times as long.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

# Where distributions install it. Found by path, because malloc can only be replaced when a program starts.
_LIBRARY_FOLDERS: Final = (f"/usr/lib/{getattr(sys.implementation, '_multiarch', '')}", "/usr/lib64")
# Freed memory is kept. jemalloc's default of a separate arena for blocks from 8 MB on stays: with one arena for all
# blocks, BYOL grew to 3.1 GB instead of 2.3 GB in its first ten steps, and SimCLR to 3.0 GB instead of 2.2 GB.
_MALLOC_CONF: Final = "dirty_decay_ms:-1,muzzy_decay_ms:-1"
_RESTARTED: Final = "SSL_STUDY_RESTARTED"  # prevents an endless loop if LD_PRELOAD gets lost
_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_MAX: Final = -4


def restart_with_jemalloc(blocked: Iterable[signal.Signals]) -> None:
    """Executes this program again in the same process, with jemalloc instead of glibc's malloc.

    Does nothing if the system has no jemalloc, or if LD_PRELOAD is set: `LD_PRELOAD= command` runs without jemalloc.
    glibc puts small objects between large blocks, which leaves free pieces that are too small for the next tensor;
    docs/performance.md has the costs. The results are the same to the bit.

    blocked: signals to block until the new program handles them, so that none is lost in between.
    """
    library = find_jemalloc()
    if library is None or not sys.executable or {"LD_PRELOAD", _RESTARTED} & os.environ.keys():
        return
    settings = {"LD_PRELOAD": str(library), "MALLOC_CONF": os.environ.get("MALLOC_CONF", _MALLOC_CONF), _RESTARTED: "1"}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    with suppress(OSError):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | settings)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def find_jemalloc() -> Path | None:
    """The path of the system's jemalloc, or None."""
    return next((file for folder in _LIBRARY_FOLDERS if (file := Path(folder, "libjemalloc.so.2")).exists()), None)


def keep_freed_memory() -> None:
    """Makes glibc keep freed memory for the next step's activations."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # other C libraries lack this function
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)
