"""Copies the images to a node's own disk."""

import hashlib
import math
import os
import shutil
from pathlib import Path

from ssl_pkg.layout import OOD
from ssl_pkg.run.file_lock import locked


def copy_data(source: Path, target: Path) -> Path:
    """Copies the image files below `source` into a subfolder of `target`, which it returns. Raises OSError.

    If several processes of a node call it, one copies and the others wait.
    """
    copied = target / hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:12]  # a subfolder for each data set
    copied.mkdir(parents=True, exist_ok=True)
    with locked(copied / ".copying", timeout=math.inf):
        for file in sorted([*source.glob("*/*"), *source.glob(f"{OOD}/*/*")]):
            copy = copied / file.relative_to(source)
            if not file.is_file() or (copy.is_file() and _size_and_mtime(copy) == _size_and_mtime(file)):
                continue
            copy.parent.mkdir(parents=True, exist_ok=True)
            partial = copy.with_name(f".{copy.name}.copying")
            try:
                shutil.copy2(file, partial)
                partial.replace(copy)
            finally:
                partial.unlink(missing_ok=True)  # left if the disk is full
    return copied


def _size_and_mtime(file: Path) -> tuple[int, int]:
    """Identifies the content of a file: its size in bytes, and the second of its last modification."""
    found = file.stat()
    return found.st_size, int(found.st_mtime)
