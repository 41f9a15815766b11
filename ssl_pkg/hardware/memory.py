"""Which malloc hands out the memory of a step's tensors, and that it keeps what is freed.

Else each step gets its memory anew from the kernel, page by page and zeroed: 1,200,000 page faults in a step of
SimCLR's 256 pairs of 96 px in float32, which takes 1.4 times as long.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

# Where distributions have it. Loading it would not tell, for it can only be the first of all libraries.
_PLACES: Final = (f"/usr/lib/{getattr(sys.implementation, '_multiarch', '')}", "/usr/lib64")
# What is freed stays. Blocks from 8 MB on have an arena to themselves, which is jemalloc's default: in one with all
# others BYOL grew to 3.1 GB instead of 2.3 over its first ten steps, and SimCLR to 3.0 instead of 2.2 in some starts.
_KEEPS: Final = "dirty_decay_ms:-1,muzzy_decay_ms:-1"
_BEGUN: Final = "SSL_STUDY_BEGUN_ANEW"  # ends it where LD_PRELOAD gets lost on the way
_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_MAX: Final = -4


def prefer_jemalloc(held: Iterable[signal.Signals]) -> None:
    """Begins this process anew with jemalloc in the place of glibc's malloc, where the system has it and LD_PRELOAD is
    not set: LD_PRELOAD= in front of a command line leaves it out.

    glibc puts small objects between large blocks, so that what is free is in pieces too small for the next tensor:
    docs/performance.md has what that takes. The results are the same to the bit.

    held: signals that are blocked until the new program handles them.
    """
    library = jemalloc()
    if library is None or not sys.executable or {"LD_PRELOAD", _BEGUN} & os.environ.keys():
        return
    settings = {"LD_PRELOAD": str(library), "MALLOC_CONF": os.environ.get("MALLOC_CONF", _KEEPS), _BEGUN: "1"}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, held)
    with suppress(OSError):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], os.environ | settings)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)


def jemalloc() -> Path | None:
    """Where this system has it, if it does."""
    return next((file for place in _PLACES if (file := Path(place, "libjemalloc.so.2")).exists()), None)


def keep_freed_memory() -> None:
    """Has glibc, too, keep what is freed for the next step's activations."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # other C libraries have no such switch
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, -1)
