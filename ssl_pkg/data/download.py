"""`ssl-study data`: downloads STL-10 and CIFAR-10 from their authors' servers, or generates the synthetic set.

An archive is unpacked only if its md5 is the published one (torchvision lists the same values). Running the command
again resumes an interrupted download. A set's folder appears only when it is complete. torchvision and pooch check md5
too, but restart STL-10's 2.6 GB from the beginning after an interruption.
"""

from ssl_pkg import safe_path

if __name__ == "__main__":
    safe_path.protect()

import argparse
import hashlib
import http.client
import os
import sys
import tarfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from rich.console import Console
from rich.progress import Progress

from ssl_pkg.config.overrides import expand_path
from ssl_pkg.console import Parser, run_command
from ssl_pkg.data.scratch import scratch_folder
from ssl_pkg.errors import NO_ROOM, BadInput, Busy
from ssl_pkg.layout import CIFAR10_PYTHON, STL10
from ssl_pkg.messages.streams import prepare_streams
from ssl_pkg.run.file_lock import locked
from ssl_pkg.run.manifest import OFFICIAL, md5

TIMEOUT: Final = 60.0  # seconds without any data received
CHUNK: Final = 1 << 20  # bytes


@dataclass(frozen=True)
class Archive:
    """A .tar.gz file: its URL, its published md5, and the folder that it contains."""

    url: str
    md5: str
    folder: str


class _NetworkError(Exception):
    """The server can't be reached, or the connection was lost. Not an OSError, because errors of the disk are."""


ARCHIVES: Final = (
    Archive("http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz", "91f7769df0f17e558f3565bffb0c7dfb", STL10),
    Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        CIFAR10_PYTHON,
    ),
)


def fetch(archive: Archive, root: Path) -> None:
    """Downloads the archive and unpacks it to `root/archive.folder`; does nothing if that folder is complete.

    Raises BadInput if the download fails, if the archive's md5 is wrong, or if the folder holds files that are not the
    published ones. Raises OSError if a file can't be written.
    """
    if (root / archive.folder).is_dir():
        _check_official(root, archive.folder)
        print(f"{root / archive.folder} exists already", file=sys.stderr)
        return
    root.mkdir(parents=True, exist_ok=True)
    part = root / f"{archive.folder}.tar.gz.part"
    try:
        with locked(root / f".{archive.folder}.lock"):
            _fetch(archive, root, part)
    except Busy as error:
        raise BadInput(f"another process is downloading {part}: wait until it has finished") from error


def _check_official(root: Path, folder: str) -> None:
    """Raises BadInput if the files in `root/folder` are not the published ones."""
    for name, wanted in OFFICIAL.items():
        file = root / name
        if name.startswith(f"{folder}/") and (not file.is_file() or md5(file) != wanted):
            raise BadInput(
                f"{root / folder} exists, but its {file.name} is not the published one: move {root / folder} away, "
                "or give another folder (make: DATA=)"
            )


def _fetch(archive: Archive, root: Path, part: Path) -> None:
    if (root / archive.folder).is_dir():
        return  # another process has just unpacked it
    with part.open("a+b") as file:
        try:
            _download(archive.url, file)
        except _NetworkError as error:
            raise BadInput(
                f"can't download {archive.url} ({error}): run the same command again to resume, or unpack the archive "
                f"into {root} yourself"
            ) from error
        file.seek(0)
        found = hashlib.file_digest(file, "md5").hexdigest()
        if found != archive.md5:
            part.unlink()
            raise BadInput(
                f"{archive.url} has md5 {found} instead of {archive.md5}: the file was deleted, download it again"
            )
        file.seek(0)
        _unpack(file, archive, root)
    part.unlink()


def _download(url: str, file: BinaryIO) -> None:
    """Appends the missing rest of the content of `url` to `file`. Raises OSError only if `file` can't be written."""
    have = file.seek(0, 2)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT)
    except (OSError, http.client.HTTPException) as error:
        if have and getattr(error, "code", None) == http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # the file is complete
        raise _NetworkError(str(error)) from error
    with response, Progress(console=Console(stderr=True)) as progress:
        if have and response.status != http.client.PARTIAL_CONTENT:  # the server ignores Range and sends the whole file
            file.truncate(have := 0)
        rest = response.headers.get("Content-Length")
        bar = progress.add_task(Path(url).name, total=have + int(rest) if rest else None, completed=have)
        while block := _read(response):
            file.write(block)
            progress.advance(bar, len(block))
        file.flush()
    if rest and (missing := have + int(rest) - file.seek(0, 2)) > 0:
        raise _NetworkError(f"the connection was closed {missing:,} bytes before the end")


def _read(response: BinaryIO) -> bytes:
    try:
        return response.read(CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise _NetworkError(str(error)) from error


def _unpack(file: BinaryIO, archive: Archive, root: Path) -> None:
    """Unpacks into a temporary folder and renames it, so that the final folder is complete whenever it exists.

    Members with paths outside the folder are refused (PEP 706).
    """
    with scratch_folder(root / archive.folder) as work:
        try:
            with tarfile.open(fileobj=file, mode="r:gz") as content:
                content.extractall(work, filter="data")
            (work / archive.folder).rename(root / archive.folder)
        except (tarfile.TarError, FileNotFoundError) as error:
            raise BadInput(f"{archive.url} does not unpack to {archive.folder} ({error})") from error


def main(arguments: Sequence[str], archives: Sequence[Archive] = ARCHIVES) -> int:
    """Downloads and unpacks all archives, or generates the synthetic set; returns the exit status."""
    parser = Parser(
        prog="ssl-study data",
        description="Downloads STL-10 and CIFAR-10 from their authors' servers (3 GB), and checks their md5. Running "
        "it again resumes an interrupted download.",
        epilog="example: ssl-study data ~/images",
    )
    parser.add_argument("folder", metavar="DIR", help="folder for stl10_binary/ and cifar-10-batches-py/")
    parser.add_argument(
        "--synthetic", action="store_true", help="instead, generate the synthetic set in DIR, which must not exist yet"
    )

    def make(options: argparse.Namespace) -> None:
        root = Path(expand_path("DIR", options.folder))
        if options.synthetic:
            from ssl_pkg.data import synthetic  # noqa: PLC0415 # a download needs no package of `train`

            if os.path.lexists(root):
                raise BadInput(f"{root} exists: give a folder that does not exist yet")
            synthetic.generate(root, synthetic.DEFAULT)
            return
        try:
            for archive in archives:
                fetch(archive, root)
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            raise BadInput(f"can't write {root} ({error.strerror or error}): give another folder") from error

    left = "nothing was generated" if "--synthetic" in arguments else "run the same command again to resume"
    return run_command(parser, arguments, make, target="folder", left=left)


if __name__ == "__main__":
    prepare_streams()
    sys.exit(main(sys.argv[1:]))
