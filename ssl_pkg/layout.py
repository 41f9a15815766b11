"""The folders of a data set below `data.root`, and whether it has an out-of-distribution set. Imports no torch."""

from pathlib import Path
from typing import Final

STL10: Final = "stl10_binary"
CIFAR10_PYTHON: Final = "cifar-10-batches-py"
CIFAR10_BINARY: Final = "cifar-10-batches-bin"
# A folder in STL-10's layout, of which only the test split is read. It is used instead of CIFAR-10.
OOD: Final = "ood"


def has_ood(root: Path) -> bool:
    """Whether the folder has an out-of-distribution set: `ood` or CIFAR-10."""
    return any((root / name).is_dir() for name in (OOD, CIFAR10_PYTHON, CIFAR10_BINARY))
