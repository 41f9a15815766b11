"""The folder for what can be made again: the drawn data set, the md5 of large files."""

import os
import tempfile
from functools import lru_cache
from pathlib import Path


@lru_cache
def user_cache() -> Path:
    """`$XDG_CACHE_HOME/ssl-study`, or `~/.cache/ssl-study`, or below the temporary folder if those can't be written."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "ssl-study"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = Path(tempfile.gettempdir()) / f"ssl-study-{os.getuid()}"
        folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        folder = Path(tempfile.gettempdir()) / f"ssl-study-{os.getuid()}"
        folder.mkdir(parents=True, exist_ok=True)
    return folder
