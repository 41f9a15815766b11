"""torch.compile for a run: its requirements, the cache of its kernels, and deterministic kernels."""

import fcntl
import hashlib
import os
import shutil
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from sysconfig import get_paths
from typing import Final

import torch

from ssl_pkg.cache import temporary_cache, user_cache
from ssl_pkg.errors import BadInput

_VARIABLE: Final = "TORCHINDUCTOR_CACHE_DIR"
_PYTORCH_DEFAULT: Final = f"{tempfile.gettempdir()}/torchinductor_"  # importing torchvision sets the variable to this


def prepare_compiler(run_dir: str, rank: int) -> None:
    """Configures torch.compile, with a cache folder in which the run's next start finds the kernels again.

    Raises BadInput if compiling would fail. To train without torch.compile instead would change the bits of a run that
    moves from one cluster node to another.
    """
    if missing := missing_compiler():
        raise BadInput(f"torch.compile needs {missing}, which is missing: install it, or give compile=never")
    _make_kernels_deterministic()
    # a folder that the user has chosen is kept
    if os.environ.get(_VARIABLE, _PYTORCH_DEFAULT).startswith((_PYTORCH_DEFAULT, str(_cache_folder()))):
        os.environ[_VARIABLE] = str(_run_folder(run_dir) / str(rank))


def missing_compiler() -> str | None:
    """What torch.compile needs and this machine lacks, in words; None if it lacks nothing."""
    if not os.environ.get("CC") and not any(map(shutil.which, ("gcc", "clang"))):
        return "a C compiler (gcc or clang)"
    headers = Path(get_paths()["include"], "Python.h")
    return None if headers.is_file() else f"Python's headers ({headers})"


def has_cached_kernels() -> bool:
    """Whether the cache folder that `prepare_compiler` has chosen contains kernels of an earlier start."""
    return Path(os.environ[_VARIABLE], "fxgraph").exists()


def remove_kernels(run_dir: str) -> None:
    """Removes the cached kernels of a run."""
    shutil.rmtree(_run_folder(run_dir), ignore_errors=True)


def _run_folder(run_dir: str) -> Path:
    """A cache folder for one run, because kernels that another run compiles can round differently (seen on an H100).

    Not in the run directory, because kernels are code, and a run directory from another user must not bring code.
    """
    return _cache_folder() / hashlib.sha256(os.fsencode(Path(run_dir).resolve())).hexdigest()[:16]


@lru_cache
def _cache_folder() -> Path:
    """In the user's cache, or in the temporary folder if the user's cache has no flock, which torch.compile needs.

    Raises BadInput if neither has flock.
    """
    for cache in (user_cache(), temporary_cache()):
        with suppress(OSError), tempfile.TemporaryFile(dir=cache) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cache / "compiled"
    raise BadInput(
        f"torch.compile needs locks, and the file systems of {user_cache()} and {tempfile.gettempdir()} have none: "
        "set XDG_CACHE_HOME to a folder on another file system, or give compile=never"
    )


def _make_kernels_deterministic() -> None:
    """Makes torch.compile generate kernels that give the same bits each time.

    By default its gradient of max pooling uses atomic additions, and it chooses some reductions by measuring them.
    """
    from torch._inductor import config as inductor  # noqa: PLC0415 - takes seconds, and most stages don't compile
    from torch._inductor.decomposition import decompositions  # noqa: PLC0415 - likewise

    inductor.deterministic = True
    decompositions.pop(torch.ops.aten.max_pool2d_with_indices_backward.default, None)
