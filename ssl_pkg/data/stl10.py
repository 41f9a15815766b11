"""Reads and checks STL-10's published binary files (Coates, Lee and Ng 2011).

Images are uint8, 3 x 96 x 96, with rows and columns swapped; labels are uint8, 1 to 10.

Sets with another number of classes, from 2 to 1,000, have the same files: class_names.txt has a line for each class,
and labels are 1 to that number. With more than 255 classes, labels are little-endian uint16.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from ssl_pkg.data.images import FEWEST, UNLABELED, Indices, Split, StoredImages
from ssl_pkg.data.names import read_names
from ssl_pkg.errors import BadInput, read_error
from ssl_pkg.layout import CLASS_NAMES, IMAGE_BYTES, SIDE, refuse_no_data_set
from ssl_pkg.layout import STL10 as FOLDER
from ssl_pkg.messages.counted import counted
from ssl_pkg.run.manifest import STL10_NAME, identify

MAX_CLASSES: Final = 1000


def label_type(classes: int) -> np.dtype[Any]:
    """The type of the labels in a file of a set with this number of classes."""
    return np.dtype("u1" if classes <= 255 else "<u2")


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
    refuse_no_data_set(root)
    classes = read_classes(folder / CLASS_NAMES)
    train = read_labelled(folder, "train", classes)
    test = read_labelled(folder, "test", classes)
    for label, name in enumerate(classes):
        if (count := int((train.labels == label).sum())) < FEWEST:
            raise BadInput(
                f"{folder / 'train_y.bin'} has {counted(count, 'image')} of class {label + 1} ({name}): "
                f"at least {FEWEST} are needed"
            )
    pixels = _pixels(folder / "unlabeled_X.bin")
    unlabeled = Split("unlabeled", pixels, np.full(len(pixels), UNLABELED, dtype=np.int64), columns_first=True)
    folds = _folds(folder / "fold_indices.txt", len(train))
    files = ["train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "unlabeled_X.bin", CLASS_NAMES]
    files += ["fold_indices.txt"] if folds else []
    manifest = identify(root, [f"{FOLDER}/{file}" for file in files], STL10_NAME, class_names=classes)
    return STL10(train, test, unlabeled, classes, folds, manifest)


def _pixels(file: Path) -> StoredImages:
    size = _size(file)
    if size == 0 or size % IMAGE_BYTES:
        raise BadInput(
            f"{file} has {size:,} bytes, which is not a multiple of {IMAGE_BYTES:,} (one image of 3x96x96): "
            "it is truncated or not part of STL-10, download it again"
        )
    return StoredImages(file, (size // IMAGE_BYTES, 3, SIDE, SIDE))


def read_labelled(folder: Path, name: str, classes: tuple[str, ...]) -> Split:
    """A split with labels. Raises BadInput if its files are missing or damaged, or don't fit the classes."""
    pixels = _pixels(folder / f"{name}_X.bin")
    file = folder / f"{name}_y.bin"
    size, kind = _size(file), label_type(len(classes))
    if size != len(pixels) * kind.itemsize:
        raise BadInput(
            f"{file} has {counted(size // kind.itemsize, 'label')} for {counted(len(pixels), 'image')}: "
            "the two files don't belong together"
        )
    try:
        # not np.fromfile, which returns values that were never read after an error of the disk
        labels = np.frombuffer(file.read_bytes(), kind).astype(np.int64)
    except OSError as error:
        raise read_error(file, error) from error
    if labels.min() < 1 or labels.max() > len(classes):
        wrong = labels[(labels < 1) | (labels > len(classes))]
        raise BadInput(
            f"{file} has {counted(len(wrong), 'label')} outside 1..{len(classes)} (such as {wrong[0]}), the classes in "
            "class_names.txt: the two files don't belong together"
        )
    return Split(name, pixels, labels - 1, columns_first=True)


def read_classes(file: Path) -> tuple[str, ...]:
    """The class names in class_names.txt. Raises BadInput if they are too few, too many or not different."""
    names = read_names(file)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None or not 2 <= len(names) <= MAX_CLASSES:
        found = f"names {twice} twice" if twice else f"has {len(names)}"
        raise BadInput(f"{file} should name 2 to {MAX_CLASSES} different classes, one per line, but {found}")
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
    except OSError as error:
        raise read_error(file, error) from error
    except (ValueError, OverflowError):
        raise BadInput(f"{file} should have one fold per line, as indices into train") from None
    if any(fold.min() < 0 or fold.max() >= count for fold in folds):
        raise BadInput(f"{file} has indices outside train's {count:,} images: it belongs to another set")
    for number, fold in enumerate(folds, start=1):
        if len(np.unique(fold)) < len(fold):  # an image could be fitted and held out at the same time
            raise BadInput(f"{file} has an index twice in fold {number}: the indices of a fold must all differ")
    return folds


def _size(file: Path) -> int:
    """Size of the file in bytes. Raises BadInput if the file can't be read."""
    try:
        with file.open("rb"):
            return file.stat().st_size
    except OSError as error:
        raise BadInput(f"can't read {file}: {error.strerror}") from error
