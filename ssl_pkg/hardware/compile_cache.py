"""What torch.compile makes for a run: that it can, where it lies, and that it gives the same bits each time."""

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

_FOLDER: Final = "TORCHINDUCTOR_CACHE_DIR"
_PYTORCHS_OWN: Final = f"{tempfile.gettempdir()}/torchinductor_"  # set by torchvision's import, not by the user


def prepare_compiler(run_dir: str, rank: int) -> None:
    """Sets torch.compile's switches, and has it keep what it makes where the run's next start finds it again.

    Raises BadInput if it would fail: to leave it out on some nodes of a cluster would change the bits.
    """
    compiler = os.environ.get("CC") or any(map(shutil.which, ("gcc", "clang")))
    headers = Path(get_paths()["include"], "Python.h")
    if not compiler or not headers.is_file():
        what = f"Python's headers ({headers})" if compiler else "a C compiler (gcc or clang)"
        raise BadInput(f"torch.compile needs {what}, which is not there: install it, or give compile=never")
    _fix_kernels()
    if os.environ.get(_FOLDER, _PYTORCHS_OWN).startswith((_PYTORCHS_OWN, str(_folder()))):
        os.environ[_FOLDER] = str(_of_run(run_dir) / str(rank))


def has_cached_kernels() -> bool:
    """Whether the kernels of an earlier start lie where `prepare_compiler` has this one look for them."""
    return Path(os.environ[_FOLDER], "fxgraph").exists()


def remove_kernels(run_dir: str) -> None:
    """Those of a run that is complete."""
    shutil.rmtree(_of_run(run_dir), ignore_errors=True)


def _of_run(run_dir: str) -> Path:
    """Each run's own: made anew, or by another run at the same time, some kernels round otherwise (seen on an H100).

    Not in the run directory, for they are code, which a directory that somebody else made must not bring along.
    """
    return _folder() / hashlib.sha256(os.fsencode(Path(run_dir).resolve())).hexdigest()[:16]


@lru_cache
def _folder() -> Path:
    """In the user's cache or, if its file system has no flock, in the temporary folder: torch.compile locks its files.

    Raises BadInput if neither has it.
    """
    for cache in (user_cache(), temporary_cache()):
        with suppress(OSError), tempfile.TemporaryFile(dir=cache) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return cache / "compiled"
    raise BadInput(
        f"torch.compile needs locks, which the file systems of {user_cache()} and {tempfile.gettempdir()} don't have: "
        "set XDG_CACHE_HOME to a folder on another one, or give compile=never"
    )


def _fix_kernels() -> None:
    """Has torch.compile make kernels that give the same bits each time.

    By itself it sums max pooling's gradient by atomic additions, and chooses some reductions by timing them.
    """
    from torch._inductor import config as inductor  # noqa: PLC0415 - seconds, and most stages don't compile
    from torch._inductor.decomposition import decompositions  # noqa: PLC0415 - likewise

    inductor.deterministic = True
    decompositions.pop(torch.ops.aten.max_pool2d_with_indices_backward.default, None)
