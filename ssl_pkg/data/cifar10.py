"""CIFAR-10's test set (Krizhevsky 2009) as out-of-distribution images, read from either of its published layouts."""

import io
import pickle
import pickletools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ssl_pkg.data.images import Indices, Split
from ssl_pkg.data.names import listed, read_names
from ssl_pkg.errors import BadInput, read_error, reading
from ssl_pkg.layout import CIFAR10_BINARY as BINARY
from ssl_pkg.layout import CIFAR10_PYTHON as PYTHON
from ssl_pkg.messages.nearest import hint
from ssl_pkg.run.manifest import CIFAR10_NAME, OFFICIAL_CLASSES, identify

SIDE: Final = 32
IMAGE_BYTES: Final = 3 * SIDE * SIDE
CLASSES: Final = 10  # labels 0 to 9 as published
SAME_CLASS: Final = {"automobile": "car"}  # CIFAR-10's name -> STL-10's name
# STL-10 has no frogs. For an image of a frog, "monkey" counts as correct; metrics of the shared classes exclude frogs.
COUNTED_AS: Final = {"frog": "monkey"}
PICKLE_GLOBALS: Final = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


@dataclass(frozen=True)
class OutOfDistribution:
    """A test set whose labels are indices into the evaluated model's classes.

    substituted: labels that COUNTED_AS assigns to a class unknown to the model; empty if the model knows all classes.
    shared: the labels of the other classes, sorted: those that the test set and the model have in common.
    """

    test: Split
    substituted: tuple[int, ...]
    shared: tuple[int, ...]
    manifest: dict[str, Any]


def open_cifar10(root: Path, classes: tuple[str, ...]) -> OutOfDistribution:
    """Opens the test set in folder `root` and maps its labels by name to `classes`, the model's class names.

    Raises BadInput if the test set is missing or damaged, or if one of its classes has no counterpart in `classes`.
    """
    with reading(root):
        pickled = (root / PYTHON / "test_batch").is_file()
        binary = not pickled and (root / BINARY / "test_batch.bin").is_file()
        named = binary and (root / BINARY / "batches.meta.txt").exists()
    if pickled:
        folder, (pixels, labels, names) = PYTHON, _read_python(root / PYTHON)
        files = [f"{PYTHON}/test_batch", f"{PYTHON}/batches.meta"]
    elif binary:
        folder, (pixels, labels, names) = BINARY, _read_binary(root / BINARY, named)
        files = [f"{BINARY}/test_batch.bin", *([f"{BINARY}/batches.meta.txt"] if named else [])]
    else:
        raise BadInput(
            f"{root} has neither {PYTHON}/test_batch nor {BINARY}/test_batch.bin: put CIFAR-10's test set there"
        )
    if len(set(names)) != len(names):
        raise BadInput(f"{root / folder} names a class twice: it is not CIFAR-10")
    if len(labels) == 0 or labels.min() < 0 or labels.max() >= len(names):
        raise BadInput(f"{root / files[0]} has labels outside 0..{len(names) - 1}: it is not CIFAR-10")
    table = np.array([_class_index(name, classes, root / folder) for name in names])
    substituted = tuple(int(table[i]) for i, name in enumerate(names) if name in COUNTED_AS and name not in classes)
    shared = tuple(sorted({int(label) for label in table} - set(substituted)))
    manifest = identify(root, files, CIFAR10_NAME, class_names=names)
    return OutOfDistribution(Split("ood", pixels, table[labels]), substituted, shared, manifest)


def _class_index(name: str, classes: tuple[str, ...], folder: Path) -> int:
    for candidate in (name, SAME_CLASS.get(name), COUNTED_AS.get(name)):
        if candidate in classes:
            return classes.index(candidate)
    raise BadInput(
        f"{folder} has a class {name!r}{hint(name, classes)}, which the model doesn't know "
        f"(its classes: {listed(classes)}): use the same name in stl10_binary/class_names.txt and in "
        f"{BINARY}/batches.meta.txt, or put images of the model's classes into {folder.parent / BINARY}"
    )


def _read_python(folder: Path) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], Indices, list[str]]:
    batch = _unpickle(folder / "test_batch")
    names = _unpickle(folder / "batches.meta").get("label_names")
    pixels, labels = batch.get("data"), batch.get("labels")
    fits = (
        isinstance(pixels, np.ndarray)
        and pixels.dtype == np.uint8
        and isinstance(labels, list)
        and pixels.shape == (len(labels), IMAGE_BYTES)
        and all(type(label) is int and 0 <= label < CLASSES for label in labels)
        and isinstance(names, list)
        and all(isinstance(name, str) for name in names)
    )
    if not fits:
        raise BadInput(f"{folder} does not hold CIFAR-10's fields data, labels and label_names: download it again")
    assert isinstance(pixels, np.ndarray) and isinstance(names, list)
    return pixels.reshape(-1, 3, SIDE, SIDE), np.array(labels, dtype=np.int64), names


def _read_binary(folder: Path, named: bool) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], Indices, list[str]]:
    """named: whether the folder has a file of class names, which is used instead of the official names."""
    file, meta = folder / "test_batch.bin", folder / "batches.meta.txt"
    try:
        # not np.fromfile, as in stl10.py; a bytearray, because an array of bytes can't be written to
        content = np.frombuffer(bytearray(file.read_bytes()), np.uint8)
    except OSError as error:
        raise read_error(file, error) from error
    if content.size == 0 or content.size % (1 + IMAGE_BYTES):
        raise BadInput(
            f"{file} has {content.size:,} bytes, not a multiple of {1 + IMAGE_BYTES:,} (a label and an image): "
            "it is truncated, download it again"
        )
    records = content.reshape(-1, 1 + IMAGE_BYTES)
    names = list(read_names(meta)) if named else list(OFFICIAL_CLASSES[CIFAR10_NAME])
    return records[:, 1:].reshape(-1, 3, SIDE, SIDE), records[:, 0].astype(np.int64), names


class _ArraysOnly(pickle.Unpickler):
    """Unpickles only dicts, lists, numbers, strings and numpy arrays, because a pickle can run arbitrary code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in PICKLE_GLOBALS:
            raise pickle.UnpicklingError(f"it refers to {module}.{name}")
        return super().find_class(module, name)


def _refuse_large_memo(pickled: bytes) -> None:
    """Raises UnpicklingError if a memo index exceeds the number of memo entries.

    The unpickler allocates memory for all indices up to the highest one, so a large index could exhaust memory.
    """
    numbered = 0
    for operation, argument, _ in pickletools.genops(pickled):
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            numbered += 1
            if (argument or 0) > numbered:
                raise pickle.UnpicklingError(f"its memo entry {numbered} has index {argument}")


def _unpickle(file: Path) -> dict[str, Any]:
    try:
        pickled = file.read_bytes()
        _refuse_large_memo(pickled)
        content = _ArraysOnly(io.BytesIO(pickled), encoding="latin1").load()
    except OSError as error:
        raise read_error(file, error) from error
    except Exception as error:  # a damaged pickle can raise almost anything
        raise BadInput(f"{file} is not a CIFAR-10 pickle ({error}): download it again") from error
    if not isinstance(content, dict):
        raise BadInput(f"{file} is not a CIFAR-10 pickle: download it again")
    return content
