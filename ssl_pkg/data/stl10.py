"""Reads and checks STL-10's published binary files (Coates, Lee and Ng 2011).

Images are uint8, 3 x 96 x 96, with rows and columns swapped; labels are uint8, 1 to 10.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ssl_pkg.data.images import UNLABELED, Indices, Split, StoredImages
from ssl_pkg.data.names import read_names
from ssl_pkg.errors import BadInput
from ssl_pkg.run.manifest import identify

SIDE: Final = 96
IMAGE_BYTES: Final = 3 * SIDE * SIDE
FOLDER: Final = "stl10_binary"
CLASSES: Final = 10


@dataclass(frozen=True)
class STL10:
    """The three splits, the class names, and a manifest that says whether the files are the official ones.

    folds: the predefined folds, as indices into train; empty if the set has no fold_indices.txt.
    """

    train: Split
    test: Split
    unlabeled: Split
    classes: tuple[str, ...]
    folds: tuple[Indices, ...]
    manifest: dict[str, Any]


def open_stl10(root: Path) -> STL10:
    """Opens `root`/stl10_binary. Raises BadInput if a file is missing or truncated, or if two files disagree."""
    folder = root / FOLDER
    if not root.is_dir():
        raise BadInput(f"data.root={root} is not a folder: give the folder that holds {FOLDER}/")
    if not folder.is_dir():
        raise BadInput(f"{root} has no {FOLDER}/: give data.root= the folder that holds STL-10's binary files")
    classes = _class_names(folder / "class_names.txt")
    train = _labelled(folder, "train")
    test = _labelled(folder, "test")
    for label, name in enumerate(classes):
        if (count := int((train.labels == label).sum())) < 2:  # one to train on, one to hold out
            raise BadInput(
                f"{folder / 'train_y.bin'} has {count} images of class {label + 1} ({name}): at least two are needed"
            )
    pixels = _pixels(folder / "unlabeled_X.bin")
    unlabeled = Split("unlabeled", pixels, np.full(len(pixels), UNLABELED, dtype=np.int64), columns_first=True)
    files = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "unlabeled_X.bin", "class_names.txt")
    manifest = identify(root, [f"{FOLDER}/{file}" for file in files], "STL-10", class_names=classes)
    return STL10(train, test, unlabeled, classes, _folds(folder / "fold_indices.txt", len(train)), manifest)


def _pixels(file: Path) -> StoredImages:
    size = _size(file)
    if size == 0 or size % IMAGE_BYTES:
        raise BadInput(
            f"{file} has {size:,} bytes, which is not a multiple of {IMAGE_BYTES:,} (one image of 3x96x96): "
            "it is truncated or not part of STL-10, download it again"
        )
    return StoredImages(file, (size // IMAGE_BYTES, 3, SIDE, SIDE))


def _labelled(folder: Path, name: str) -> Split:
    pixels = _pixels(folder / f"{name}_X.bin")
    file = folder / f"{name}_y.bin"
    _size(file)
    labels = np.fromfile(file, dtype=np.uint8)
    if len(labels) != len(pixels):
        raise BadInput(
            f"{file} has {len(labels):,} labels for {len(pixels):,} images: the two files don't belong together"
        )
    if labels.min() < 1 or labels.max() > CLASSES:
        wrong = labels[(labels < 1) | (labels > CLASSES)]
        raise BadInput(
            f"{file} has {len(wrong):,} labels outside 1..{CLASSES} (such as {wrong[0]}): it is not part of STL-10"
        )
    return Split(name, pixels, labels.astype(np.int64) - 1, columns_first=True)


def _class_names(file: Path) -> tuple[str, ...]:
    names = read_names(file)
    if len(names) != CLASSES or len(set(names)) != CLASSES:
        twice = next((name for name in names if names.count(name) > 1), None)
        found = f"names {twice} twice" if twice else f"has {len(names)}"
        raise BadInput(f"{file} should name {CLASSES} different classes, one per line, but {found}")
    return names


def _folds(file: Path, count: int) -> tuple[Indices, ...]:
    """STL-10's predefined folds of train; empty if the file does not exist, because reduced sets may omit it."""
    if not file.exists():
        return ()
    try:
        folds = tuple(
            np.array(line.split(), dtype=np.int64)
            for line in file.read_text(encoding="utf-8").splitlines()
            if line.strip()
        )
    except (ValueError, OverflowError, OSError):
        raise BadInput(f"{file} should have one fold per line, as indices into train") from None
    if any(fold.min() < 0 or fold.max() >= count for fold in folds):
        raise BadInput(f"{file} has indices outside train's {count:,} images: it belongs to another set")
    return folds


def _size(file: Path) -> int:
    """Size of the file in bytes. Raises BadInput if the file can't be read."""
    try:
        with file.open("rb"):
            return file.stat().st_size
    except OSError as error:
        raise BadInput(f"can't read {file}: {error.strerror}") from error
