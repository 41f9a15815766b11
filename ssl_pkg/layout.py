"""The folders of a data set below `data.root`, and how many images it has. Imports no torch."""

import shlex
from itertools import islice
from pathlib import Path
from typing import Final

from ssl_pkg.errors import BadInput, reading
from ssl_pkg.messages.program import console_command

STL10: Final = "stl10_binary"
CLASS_NAMES: Final = "class_names.txt"  # in a folder STL10, a line for each class
CIFAR10_PYTHON: Final = "cifar-10-batches-py"
CIFAR10_BINARY: Final = "cifar-10-batches-bin"
# A folder in STL-10's layout, of which only the test split is read. It is used instead of CIFAR-10.
OOD: Final = "ood"
# Of files that look like photographs. `pack` looks at the contents of each, and says why it can't use some, like HEIC.
# fmt: off
PHOTOGRAPHS: Final = (
    ".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2", ".avif",
    ".heic", ".heif",
)
# fmt: on
LOOKED_AT: Final = 10_000  # entries of a folder that is not a data set
SIDE: Final = 96  # pixels, of an image in a file in STL-10's format
IMAGE_BYTES: Final = 3 * SIDE * SIDE  # of an image in a file in STL-10's format
PUBLISHED: Final = {"train": 5_000, "unlabeled": 100_000}  # images of STL-10's splits
CLASSES: Final = 10  # of STL-10 and of the synthetic set
SYNTHETIC_IMAGES: Final = {"train": 1_000, "unlabeled": 5_000}  # likewise of the synthetic set


def refuse_no_data_set(root: Path) -> None:
    """Raises BadInput, which says what to do, if there is no data set in the folder, or if it can't be read."""
    with reading(root):
        if not root.is_dir():
            raise BadInput(f"there is no data folder {root}: give the folder that holds {STL10}/")
        if (root / STL10).is_dir():
            return
        if _has_photographs(root):
            packed = f"data/{root.resolve().name}"
            packed += "-packed" if Path(packed).exists() else ""
            line = shlex.join([console_command(), "pack", str(root), packed])
            raise BadInput(f"{root} has photographs and no {STL10}/: pack them by `{line}`, then give {packed}")
        if (root / "train_X.bin").is_file():
            place = root.resolve()
            rename = "" if place.name == STL10 else f"rename it to {STL10}, then "
            raise BadInput(f"{root} has the files themselves: {rename}give the folder that holds it, {place.parent}")
        raise BadInput(
            f"{root} has no {STL10}/: give the folder that holds it, or pack photographs: see `ssl-study pack --help`"
        )


def _has_photographs(folder: Path) -> bool:
    """Whether there are image files in the folder, in its folders, like classes, or in theirs, like train/CLASS/."""
    entries = (entry for depth in ("*", "*/*", "*/*/*") for entry in folder.glob(depth))
    return any(entry.suffix.lower() in PHOTOGRAPHS for entry in islice(entries, LOOKED_AT))


def has_ood(root: Path) -> bool:
    """Whether the folder has an out-of-distribution set: `ood` or CIFAR-10. Raises BadInput if it can't be read."""
    with reading(root):
        return any((root / name).is_dir() for name in (OOD, CIFAR10_PYTHON, CIFAR10_BINARY))


def images_in(root: Path, split: str) -> int:
    """The number of images that the file of a split has, by its size; 0 if there is no such file."""
    try:
        return (root / STL10 / f"{split}_X.bin").stat().st_size // IMAGE_BYTES
    except OSError:
        return 0


def classes_in(root: Path) -> int:
    """The number of classes that the file of their names has; that of STL-10 if there is no such file."""
    try:
        names = (root / STL10 / CLASS_NAMES).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return CLASSES
    return len(names.splitlines())
