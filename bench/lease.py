"""Runs a study on a machine that is lent for minutes, and copies the results of each run as soon as it is complete.

    python -m bench.lease SECONDS OUT STUDY [--with PATTERN]... [options and settings of `ssl-study study`]

After SECONDS, or at a SIGTERM, the study is stopped, as by Ctrl-C; the same command resumes it if the machine is still
there. OUT gets results.tar.0000, .0001, ... in pieces of --piece-mb, each file appended when its run is complete, so
that they are of use wherever the machine is taken away. Elsewhere, `cat OUT/results.tar.* | tar --extract --directory
RUNS` restores RUNS/STUDY, of which `ssl-study report STUDY` makes the report.

Weights and embeddings, which the report does not need, are copied if JOB/FILE matches a pattern, like
'pretrain-*/encoder.safetensors'. Matrices of weights are rounded to float16, with which `ssl-study predict` works too.
"""

from ssl_pkg.extras import require_or_exit

if __name__ == "__main__":
    require_or_exit("train", "submit", "report")

import io
import json
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Final

from safetensors.torch import save
from torch import float16

from bench.timing import positive
from ssl_pkg.console import Parser
from ssl_pkg.errors import BAD_INPUT, FAULT, BadInput
from ssl_pkg.run.directory import RESULT, RunDirectory
from ssl_pkg.run.study_plan import PLAN, read_plan
from ssl_pkg.run.weights import DIGEST, FACTS, load_facts, load_weights, weights_sha256

POLL_SECONDS: Final = 1.0
LARGE: Final = ("*.safetensors", "embeddings.npz")  # copied only on request
LEFT_OUT: Final = (".*", "lock", "status")


class Pieces(io.RawIOBase):
    """A new file for writing, stored as PATH.0000, PATH.0001, ..., each of `size` bytes except for the last one."""

    def __init__(self, path: Path, size: int) -> None:
        self._path, self._size, self._written = path, size, 0

    def writable(self) -> bool:
        """As in RawIOBase."""
        return True

    def tell(self) -> int:
        """The number of bytes written."""
        return self._written

    def write(self, data: bytes) -> int:  # type: ignore[override] # tarfile writes only bytes
        """Appends the bytes, which are in the files when this returns. The first ones replace an earlier file."""
        rest = memoryview(data)
        if rest and not self._written:
            for old in self._path.parent.glob(f"{self._path.name}.*"):
                old.unlink()
        while rest:
            number, used = divmod(self._written, self._size)
            part = rest[: self._size - used]
            with self._path.with_name(f"{self._path.name}.{number:04}").open("ab") as piece:
                piece.write(part)
            self._written += len(part)
            rest = rest[len(part) :]
        return len(data)


class Archive:
    """Copies the runs of a study into a tar archive."""

    def __init__(self, study: Path, out: Path, piece_bytes: int, wanted: list[str]) -> None:
        self._study, self._wanted = study, wanted
        self._tar = tarfile.open(fileobj=Pieces(out / "results.tar", piece_bytes), mode="w")  # noqa: SIM115 # closed by `close`
        self._packed: set[str] = set()

    def add_complete(self) -> None:
        """Appends the plan and the runs that have become complete, each with its result.json last."""
        plan = read_plan(self._study)
        if plan is None:
            return
        if not self._packed:
            self._add(self._study / PLAN)
        self._packed.add(PLAN)
        for run in plan.runs:
            folder = self._study / run.name
            if run.name not in self._packed and RunDirectory(folder).complete:
                self._packed.add(run.name)
                for file in self._files(folder):
                    self._add(file)
                self._add(folder / RESULT)
                print(f"{run.name} is in the archive", flush=True)

    def close(self) -> None:
        """Appends the logs and the files of incomplete runs, and ends the archive."""
        self.add_complete()
        folders = sorted(folder for folder in self._study.iterdir() if folder.is_dir() and folder.name[0] != ".")
        for folder in folders:
            if folder.name not in self._packed:
                for file in self._files(folder):
                    self._add(file)
        self._tar.close()

    def _files(self, folder: Path) -> Iterator[Path]:
        """The files of a run directory that are copied, without result.json."""
        for file in sorted(folder.iterdir()):
            large = any(fnmatch(file.name, pattern) for pattern in LARGE)
            wanted = not large or any(fnmatch(f"{folder.name}/{file.name}", pattern) for pattern in self._wanted)
            left_out = file.name == RESULT or any(fnmatch(file.name, pattern) for pattern in LEFT_OUT)
            if file.is_file() and wanted and not left_out:
                yield file

    def _add(self, file: Path) -> None:
        content = _rounded(file) if file.suffix == ".safetensors" else file.read_bytes()
        member = tarfile.TarInfo(str(file.relative_to(self._study.parent)))
        member.size, member.mtime = len(content), int(file.stat().st_mtime)
        self._tar.addfile(member, io.BytesIO(content))


def _rounded(file: Path) -> bytes:
    """The weights with all matrices in float16; vectors, as of batch normalisation, stay as they are."""
    weights = {name: each.to(float16) if each.dim() > 1 else each for name, each in load_weights(file).items()}
    facts = {**load_facts(file), DIGEST: weights_sha256(weights)}
    return save(weights, metadata={"format": "pt", FACTS: json.dumps(facts)})


def main(arguments: list[str] | None = None) -> int:
    """Runs the study and returns its exit status."""
    parser = Parser(prog="python -m bench.lease", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("seconds", metavar="SECONDS", type=positive)
    parser.add_argument("out", metavar="OUT", type=Path)
    parser.add_argument("study", metavar="STUDY")
    parser.add_argument("--with", metavar="PATTERN", action="append", default=[], dest="wanted")
    parser.add_argument("--piece-mb", metavar="MB", type=positive, default=15)
    parser.add_argument("--runs", metavar="DIR", type=Path, default=Path("runs"))
    try:
        options, rest = parser.parse_known_args(arguments)
        options.out.mkdir(parents=True, exist_ok=True)
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    archive = Archive(options.runs / options.study, options.out, options.piece_mb * 2**20, options.wanted)
    command = [sys.executable, "-P", "-m", "jobs", "study", options.study, "--runs", str(options.runs), *rest]
    try:
        status = _run(command, options.seconds, archive)
        if (options.runs / options.study).is_dir():
            archive.close()
    except OSError as error:
        print(f"the results can't be copied to {options.out}, so the study is stopped: {error}", file=sys.stderr)
        return FAULT
    return status


def _run(command: Sequence[str], seconds: float, archive: Archive) -> int:
    """Runs the study until `seconds` have passed or SIGTERM arrives, and copies its runs. Returns its exit status.

    Raises OSError if a run can't be copied. The study has ended in any case, and its runs have checkpoints.
    """
    end, stopped, terminated = time.monotonic() + seconds, False, threading.Event()
    previous = signal.signal(signal.SIGTERM, lambda number, frame: terminated.set())
    try:
        with subprocess.Popen(command) as study:
            try:
                while study.poll() is None:
                    time.sleep(POLL_SECONDS)
                    archive.add_complete()
                    if not stopped and (terminated.is_set() or time.monotonic() > end):
                        study.terminate()
                        stopped = True
            finally:
                study.terminate()  # does nothing if the study has ended
                study.wait()
    finally:
        signal.signal(signal.SIGTERM, previous)
    return study.returncode


if __name__ == "__main__":
    sys.exit(main())
