"""The folder for what can be made again: the synthetic set, the md5 of large files, compiled code."""

import os
import stat
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final

from ssl_pkg.errors import BadInput

SYNTHETIC_VERSION: Final = 3  # raised whenever the bytes of the synthetic set change


@lru_cache
def user_cache() -> Path:
    """`$XDG_CACHE_HOME/ssl-study`, or `~/.cache/ssl-study`, or if those can't be written `temporary_cache`."""
    folder = configured_cache()
    if folder is None:
        return temporary_cache()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return temporary_cache()
    return folder if os.access(folder, os.W_OK) else temporary_cache()


def configured_cache() -> Path | None:
    """The first two of these, whether they can be written or not; None for a user without a home directory."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (given if given.is_absolute() else Path("~/.cache").expanduser()) / "ssl-study"
    except RuntimeError:  # neither HOME nor an entry in passwd
        return None


def temporary_cache() -> Path:
    """The one below the temporary folder. Raises BadInput where others have made it, or can write to it: what lies
    there is trusted."""
    folder = Path(tempfile.gettempdir()) / f"ssl-study-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise BadInput(f"{folder} is not this user's alone: set XDG_CACHE_HOME to a folder of your own")
    return folder


def synthetic_set(sizes: Sequence[int] = ()) -> Path:
    """The folder that holds the synthetic set, or will hold it. sizes: the numbers of images where they are not the
    default ones."""
    name = "-".join((f"synthetic-v{SYNTHETIC_VERSION}", *map(str, sizes)))
    cache = configured_cache() or temporary_cache()
    folder = cache / name
    if not is_synthetic_set(folder) and (os.path.lexists(folder) or not _writable(cache)):
        folder = temporary_cache() / name
    return folder


def is_synthetic_set(folder: Path) -> bool:
    """Whether the folder holds a complete synthetic set that can be read."""
    # Path.is_file raises an error if the folder may not be entered
    return os.access(folder / "synthetic.json", os.R_OK)


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)
