"""Copies the images to a node's own disk."""

import hashlib
import math
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Final

from ssl_pkg.cache import SYNTHETIC_MANIFEST
from ssl_pkg.layout import CIFAR10_BINARY, CIFAR10_PYTHON, OOD, STL10
from ssl_pkg.run.file_lock import locked
from ssl_pkg.run.manifest import PACKED

_FOLDERS: Final = (STL10, CIFAR10_PYTHON, CIFAR10_BINARY, f"{OOD}/{STL10}")
# The files by which a reader recognises the images.
_MANIFESTS: Final = (PACKED, f"{OOD}/{PACKED}", SYNTHETIC_MANIFEST)


def copy_data(source: Path, target: Path) -> Path:
    """Copies the data set in `source` into a subfolder of `target`, which it returns. Raises OSError.

    Files of an earlier copy that the source no longer has are removed. If several processes of a node call it, one
    copies and the others wait.
    """
    copied = target / hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:12]  # a subfolder for each data set
    copied.mkdir(parents=True, exist_ok=True)
    with locked(copied / ".copying", timeout=math.inf):
        if (source / STL10).is_dir():  # otherwise the source is out of reach, and the earlier copy stays
            _remove_files_without_source(copied, source)
        for file in _files(source):
            copy = copied / file.relative_to(source)
            if copy.is_file() and _size_and_mtime(copy) == _size_and_mtime(file):
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            partial = copy.with_name(f".{copy.name}.copying")
            try:
                shutil.copy2(file, partial)
                partial.replace(copy)
            finally:
                partial.unlink(missing_ok=True)  # left if the disk is full
    return copied


def _files(folder: Path) -> list[Path]:
    """The files of the data set in `folder`."""
    found = [*(folder / name for name in _MANIFESTS), *(f for name in _FOLDERS for f in (folder / name).glob("*"))]
    return sorted(file for file in found if file.is_file())


def _remove_files_without_source(copied: Path, source: Path) -> None:
    """Removes the files that the source lacks from its copy, then empty folders, because a reader looks for `ood`."""
    for copy in _files(copied):
        if not (source / copy.relative_to(copied)).is_file():
            copy.unlink()
    for name in (*_FOLDERS, OOD):
        with suppress(OSError):  # the folder does not exist, or has files
            (copied / name).rmdir()


def _size_and_mtime(file: Path) -> tuple[int, int]:
    """Identifies the content of a file: its size in bytes, and the second of its last modification."""
    found = file.stat()
    return found.st_size, int(found.st_mtime)
