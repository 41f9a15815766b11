"""The folders of a data set below `data.root`, and how many images it has. Imports no torch."""

from pathlib import Path
from typing import Final

STL10: Final = "stl10_binary"
CIFAR10_PYTHON: Final = "cifar-10-batches-py"
CIFAR10_BINARY: Final = "cifar-10-batches-bin"
# A folder in STL-10's layout, of which only the test split is read. It is used instead of CIFAR-10.
OOD: Final = "ood"
SIDE: Final = 96  # pixels, of an image in a file in STL-10's format
IMAGE_BYTES: Final = 3 * SIDE * SIDE  # of an image in a file in STL-10's format
PUBLISHED: Final = {"train": 5_000, "unlabeled": 100_000}  # images of STL-10's splits
SYNTHETIC: Final = {"train": 1_000, "unlabeled": 5_000}  # likewise of the synthetic set


def has_ood(root: Path) -> bool:
    """Whether the folder has an out-of-distribution set: `ood` or CIFAR-10."""
    return any((root / name).is_dir() for name in (OOD, CIFAR10_PYTHON, CIFAR10_BINARY))


def images_in(root: Path, split: str) -> int:
    """The number of images that the file of a split has, by its size; 0 if there is no such file."""
    try:
        return (root / STL10 / f"{split}_X.bin").stat().st_size // IMAGE_BYTES
    except OSError:
        return 0
