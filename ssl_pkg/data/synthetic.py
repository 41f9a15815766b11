"""The synthetic set, the default data: generated on first use in the published file layouts, without a download.

    ROOT/stl10_binary/            {train,test,unlabeled}_X.bin, {train,test}_y.bin, class_names.txt, fold_indices.txt
    ROOT/cifar-10-batches-bin/    test_batch.bin, batches.meta.txt: the same classes, coarser, other colours, 32×32
    ROOT/synthetic.json           generator version, sizes and md5 of each file, by which a reader recognises the set

An image shows copies of one of ten motifs (`shapes.py`) on a smooth background (`scenes.py`). The same numpy version on
the same machine generates the same bytes.
"""

import hashlib
import json
import sys
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from ssl_pkg.cache import SYNTHETIC_MANIFEST, SYNTHETIC_VERSION, is_synthetic_set, synthetic_set
from ssl_pkg.data import scenes
from ssl_pkg.data.scratch import new_parents, scratch_folder
from ssl_pkg.data.shapes import CLASSES
from ssl_pkg.errors import BadInput, Busy
from ssl_pkg.hardware.machine import cores
from ssl_pkg.layout import CIFAR10_BINARY, CLASS_NAMES, STL10, SYNTHETIC_IMAGES
from ssl_pkg.run.file_lock import locked

CHUNK: Final = 50  # images rendered by one thread at a time
THREADS: Final = 8  # at most, because each needs 70 MB
WAIT_SECONDS: Final = 600.0  # for another process that generates the same set, which takes some seconds
# The classes of the OOD set. Their order differs from that of CLASSES, so that labels must be mapped by name.
OOD_CLASSES: Final = tuple(CLASSES[(3 * i + 3) % 10] for i in range(10))


@dataclass(frozen=True)
class Sizes:
    """Numbers of images in the set, each at least 1."""

    train_per_class: int = SYNTHETIC_IMAGES["train"] // len(CLASSES)
    test_per_class: int = 60
    unlabeled: int = SYNTHETIC_IMAGES["unlabeled"]
    ood_per_class: int = 60


DEFAULT: Final = Sizes()


def generate_cached() -> Path:
    """Returns the set's folder in the user's cache. Generates the set on first use, which takes some seconds."""
    folder = synthetic_set()
    if is_synthetic_set(folder):
        return folder
    print(f"Generating the synthetic data set into {folder} (once).", file=sys.stderr)
    generate(folder, DEFAULT)
    return folder


def generate(root: Path, sizes: Sizes = DEFAULT) -> None:
    """Writes the set to `root`, completely or not at all. If another process wrote `root` first, its set is kept.

    What a killed process has left of the same set is removed. Raises OSError (disk full, no permission, `root` exists
    and is not empty) after deleting the partial set, BadInput if another process needs more than WAIT_SECONDS.
    """
    try:
        with new_parents(root), locked(root.parent / f".{root.name}.lock", WAIT_SECONDS):
            if not is_synthetic_set(root):  # another process may have generated it meanwhile
                with scratch_folder(root) as work:
                    _write_set(work, sizes)
                    _move(work, root)
    except Busy as error:
        raise BadInput(str(error)) from error


def _write_set(folder: Path, sizes: Sizes) -> None:
    md5 = {name: _write(folder / name, parts) for name, parts in _files(sizes)}
    manifest = {"generator": SYNTHETIC_VERSION, "sizes": asdict(sizes), "md5": md5}
    (folder / SYNTHETIC_MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")


def _move(work: Path, root: Path) -> None:
    try:
        work.rename(root)
    except OSError:
        if not (root / SYNTHETIC_MANIFEST).is_file():
            raise


def _files(sizes: Sizes) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yields each file's name and its content in parts."""
    train, test = 10 * sizes.train_per_class, 10 * sizes.test_per_class
    for split, count in (("train", train), ("test", test), ("unlabeled", sizes.unlabeled)):
        yield f"{STL10}/{split}_X.bin", _columns_first(split, count)
        if split != "unlabeled":
            labels = scenes.labels_of(split, np.arange(count)) + 1
            yield f"{STL10}/{split}_y.bin", iter([labels.astype(np.uint8).tobytes()])
    yield f"{STL10}/{CLASS_NAMES}", iter([_lines(CLASSES)])
    yield f"{STL10}/fold_indices.txt", iter([_folds(sizes.train_per_class)])
    yield f"{CIFAR10_BINARY}/test_batch.bin", _rows_with_label("ood", 10 * sizes.ood_per_class)
    yield f"{CIFAR10_BINARY}/batches.meta.txt", iter([_lines(OOD_CLASSES)])


def _columns_first(split: str, count: int) -> Iterator[bytes]:
    for _, images in _rendered(split, count):
        yield images.transpose(0, 1, 3, 2).tobytes()


def _rows_with_label(split: str, count: int) -> Iterator[bytes]:
    code = np.array([OOD_CLASSES.index(name) for name in CLASSES], np.uint8)
    for indices, images in _rendered(split, count):
        yield np.column_stack([code[scenes.labels_of(split, indices)], images.reshape(len(indices), -1)]).tobytes()


def _rendered(split: str, count: int) -> Iterator[tuple[NDArray[np.intp], scenes.Pixels]]:
    """The images of a split in order, a part at a time.

    Threads render the next parts, because numpy releases the GIL in its loops. Without the limit each call of BLAS
    would wait for the same pool of threads.
    """
    parts = [np.arange(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    threads = min(cores(), THREADS)
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        ahead: deque[tuple[NDArray[np.intp], Future[scenes.Pixels]]] = deque()
        for indices in parts:
            ahead.append((indices, pool.submit(scenes.render, split, indices)))
            if len(ahead) > threads:
                first, images = ahead.popleft()
                yield first, images.result()
        for first, images in ahead:
            yield first, images.result()


def _folds(train_per_class: int) -> bytes:
    """Ten lines, each with the indices of a random fifth of train, stratified by class."""
    words = np.random.Philox(key=len(scenes.SPLITS)).random_raw(10 * 10 * train_per_class)
    order = words.reshape(10, train_per_class, 10).argsort(1)[:, : max(1, train_per_class // 5)]
    return _lines([" ".join(map(str, np.sort((fold * 10 + np.arange(10)).ravel()))) for fold in order])


def _lines(lines: tuple[str, ...] | list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _write(path: Path, parts: Iterator[bytes]) -> str:
    """Writes the parts to one file and returns its md5."""
    digest = hashlib.md5(usedforsecurity=False)
    path.parent.mkdir(exist_ok=True)
    with path.open("wb") as out:
        for part in parts:
            digest.update(part)
            out.write(part)
    return digest.hexdigest()
