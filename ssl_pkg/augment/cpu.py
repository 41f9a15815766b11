"""Makes views on a CPU: runs the compiled loops of `loops.py` in several Python threads."""

import hashlib
import math
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, cast

import numba
import numpy as np
import torch
from llvmlite import binding
from torch import Tensor

from ssl_pkg.augment import loops
from ssl_pkg.augment.loops import Floats32, Records
from ssl_pkg.augment.operations import blur_kernel_size
from ssl_pkg.augment.parameters import Integers, Parameters
from ssl_pkg.cache import user_cache

# the parameters of one view, as numba reads them
_RECORD = np.dtype([(field.name, np.float64, 4 if field.name == "order" else ()) for field in fields(Parameters)])


def make_view(images: Tensor, parameters: Parameters, resolution: int) -> Tensor:
    """`views.make_view` for images (B, 3, H, W) uint8 on a CPU.

    Raises ValueError if images, parameters and resolution are inconsistent, because the loops don't check bounds.
    """
    radius = blur_kernel_size(resolution) // 2
    _check(images, parameters, resolution, radius)
    stored = images.mT.contiguous().numpy()  # columns first, as in STL-10's files
    weights, firsts = resampling_tables(max(stored.shape[2:]), resolution)
    views = torch.empty((len(images), 3, resolution, resolution), memory_format=torch.channels_last)
    pixels = views.permute(0, 2, 3, 1).flatten(1).numpy()
    records, make_views, threads = _records(parameters), _compiled(), torch.get_num_threads()

    def work(number: int) -> None:
        make_views(stored, records, weights, firsts, radius, number, threads, pixels)

    list(_thread_pool(threads).map(work, range(threads)))
    return views


def _check(images: Tensor, p: Parameters, resolution: int, radius: int) -> None:
    batch, channels, height, width = images.shape
    if channels != 3 or batch != len(p) or resolution <= radius:
        raise ValueError(f"{batch} images of {channels} channels, {len(p)} views, {resolution} pixels")
    inside = (p.top >= 0) & (p.left >= 0) & (p.height > 0) & (p.width > 0)
    if not (inside & (p.top + p.height <= height) & (p.left + p.width <= width)).all():
        raise ValueError(f"a crop lies outside images of {height} x {width} pixels")


def _records(parameters: Parameters) -> Records:
    records = np.empty(len(parameters), _RECORD)
    for name in _RECORD.names or ():
        records[name] = getattr(parameters, name)
    return records


@lru_cache(maxsize=1)
def _thread_pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="views")


@lru_cache(maxsize=1)
def _compiled() -> Callable[..., None]:
    """`loops.make_views`, compiled. Compiling takes seconds, so the code is kept in the user's cache."""
    folder, switches = user_cache() / "views" / version(), cast(Any, numba.config)
    switches.CACHE_DIR, switches.CACHE_LOCATOR_CLASSES = str(folder), "UserProvidedCacheLocator"
    integer, records = numba.int64, numba.from_dtype(_RECORD)[::1]
    tables = numba.float32[:, :, ::1], numba.int64[:, ::1]
    signature = numba.void(
        numba.uint8[:, :, :, ::1], records, *tables, integer, integer, integer, numba.float32[:, ::1]
    )
    is_cached = folder.exists()
    if not is_cached:
        print("Compiling the code for the views (some seconds, once).", file=sys.stderr)
    for _ in range(2 if is_cached else 1):
        try:
            return cast(Callable[..., None], numba.njit(signature, nogil=True, cache=True)(loops.make_views))
        except Exception as error:  # a damaged entry can raise anything, a full disk OSError
            print(f"{folder} is damaged or can't be written ({error!r}): compiling again", file=sys.stderr)
            shutil.rmtree(folder, ignore_errors=True)
    return cast(Callable[..., None], numba.njit(signature, nogil=True)(loops.make_views))


@cache
def version() -> str:
    """A hash of this package's sources at this process's first call, numba's version and the processor.

    numba's own cache key is not enough: it covers only the file of the loops, although they use constants from other
    files, and machines of different processors that share a home directory would overwrite each other's code.
    """
    sources = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    processor = binding.get_host_cpu_name() + binding.get_host_cpu_features().flatten()
    return hashlib.sha256(b"".join([*sources, numba.__version__.encode(), processor.encode()])).hexdigest()[:16]


@lru_cache(maxsize=8)
def resampling_tables(size: int, side: int) -> tuple[Floats32, Integers]:
    """Weights for resampling rows of any length from 1 to `size` pixels to `side` pixels, bilinear with antialiasing.

    Returns weights (size + 1, side, taps), indexed by the row's length, and the index (size + 1, side) of the source
    pixel of each first tap. The filter is a triangle around the new pixel's centre that extends to either side by one
    pixel of the coarser grid. The weights of a pixel are scaled to sum 1 and rounded to multiples of the smallest power
    of two for which the largest weight has 15 bits, so that float32 holds a row's sums exactly for reductions by a
    factor of up to 3.
    """
    taps = 2 * math.ceil(max(size / side, 1.0)) + 1
    weights, firsts = np.zeros((size + 1, side, taps)), np.zeros((size + 1, side), np.int64)
    for length in range(1, size + 1):
        step = length / side
        support, centres = max(step, 1.0), step * (np.arange(side) + 0.5)
        firsts[length] = np.maximum(centres - support + 0.5, 0)
        pixels = firsts[length, :, np.newaxis] + np.arange(taps)
        inside = pixels < np.minimum((centres + support + 0.5).astype(np.int64), length)[:, np.newaxis]
        exact = inside * np.maximum(1 - np.abs((pixels - centres[:, np.newaxis] + 0.5) / support), 0)
        exact /= exact.sum(axis=1, keepdims=True)
        fineness = 2.0 ** min(math.ceil(math.log2((2**15 - 0.5) / exact.max())) - 1, 22)
        weights[length] = np.floor(exact * fineness + 0.5) / fineness
    return weights.astype(np.float32), firsts
