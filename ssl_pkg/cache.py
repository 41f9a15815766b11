"""The cache folder: the synthetic set, the md5 digests of large files, and compiled code."""

import os
import stat
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Final

from ssl_pkg.errors import BadInput

SYNTHETIC_MANIFEST: Final = "synthetic.json"  # in the folder of a synthetic set; written last
SYNTHETIC_VERSION: Final = 4  # to be increased when the bytes of the synthetic set change


@lru_cache
def user_cache() -> Path:
    """`configured_cache`, or `temporary_cache` if the configured folder is not writable."""
    folder = configured_cache()
    return folder if folder is not None and _writable(folder) else temporary_cache()


def configured_cache() -> Path | None:
    """`$XDG_CACHE_HOME/ssl-study` or `~/.cache/ssl-study`, writable or not; None without a home directory."""
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        return (given if given.is_absolute() else Path("~/.cache").expanduser()) / "ssl-study"
    except RuntimeError:  # neither HOME nor an entry in passwd
        return None


def temporary_cache() -> Path:
    """A cache folder below the temporary folder.

    Raises BadInput if another user owns the folder or can write to it, because its content is trusted.
    """
    folder = Path(tempfile.gettempdir()) / f"ssl-study-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise BadInput(f"{folder} is another user's, or others can write to it: set XDG_CACHE_HOME to your own folder")
    return folder


def synthetic_set() -> Path:
    """The folder of the synthetic set, which may not exist yet."""
    name = f"synthetic-v{SYNTHETIC_VERSION}"
    cache = configured_cache() or temporary_cache()
    folder = cache / name
    if not is_synthetic_set(folder) and (os.path.lexists(folder) or not _writable(cache)):
        folder = temporary_cache() / name
    return folder


def is_synthetic_set(folder: Path) -> bool:
    """Whether the folder has a complete and readable synthetic set."""
    # unlike Path.is_file, os.access raises no error for a folder without permission
    return os.access(folder / SYNTHETIC_MANIFEST, os.R_OK)


def _writable(folder: Path) -> bool:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)
