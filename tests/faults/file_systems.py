"""File systems without certain features, faked by failing.c, which LD_PRELOAD loads into a command."""

import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).with_name("failing.c")
# the features that FUSE, SMB, exFAT, Lustre or GlusterFS lack, all at once
MINIMAL = {
    "flock": errno.ENOSYS, "fcntl": errno.ENOSYS, "link": errno.EPERM, "symlink": errno.EPERM, "exchange": errno.EINVAL,
    "fsync_folder": errno.EINVAL, "mmap": errno.ENODEV, "chmod": errno.EPERM, "utime": errno.EPERM,
}  # fmt: skip


@dataclass(frozen=True)
class FileSystem:
    """A folder. For files in it, the system calls in `failing` fail with their errno."""

    library: Path
    folder: Path
    failing: dict[str, int]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a command on this file system."""
        words = " ".join(f"{call}={number}" for call, number in self.failing.items())
        return os.environ | {
            "LD_PRELOAD": str(self.library),
            "FAILING": words,
            "FAILING_BELOW": str(self.folder),
            "FAILING_LOG": str(self.log),
        }

    @property
    def log(self) -> Path:
        """A file with the names of the calls that have failed."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def failed(self) -> set[str]:
        """The calls that have failed up to now."""
        return set(self.log.read_text(encoding="utf-8").split()) if self.log.exists() else set()

    def run(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        """Runs Python with these arguments on this file system."""
        return subprocess.run(
            [sys.executable, *map(str, arguments)], env=self.environment, capture_output=True, text=True,
            encoding="utf-8", timeout=240, check=False, cwd=SOURCE.parents[2],
        )  # fmt: skip

    def start(self, *arguments: str | Path) -> "subprocess.Popen[str]":
        """Starts Python with these arguments on this file system."""
        return subprocess.Popen(
            [sys.executable, *map(str, arguments)], env=self.environment, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, encoding="utf-8", cwd=SOURCE.parents[2],
        )  # fmt: skip


def compiled(folder: Path) -> Path:
    """Compiles failing.c. Returns the library."""
    library = folder / "failing.so"
    command: Sequence[str] = ("cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl")
    subprocess.run(command, check=True)
    return library
