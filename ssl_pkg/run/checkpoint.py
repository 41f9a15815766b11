"""Checkpoint files: written atomically, and verified by a checksum when they are read.

A file is a line `ssl-checkpoint <sha256 of the rest>`, followed by what torch.save writes. The last two files are kept.
A reader takes the newest file whose checksum matches.
"""

import copy
import hashlib
import io
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import torch

from ssl_pkg.errors import read_error
from ssl_pkg.run.directory import write_atomic

MAGIC: Final = b"ssl-checkpoint "
KEPT: Final = 2


class CheckpointWriter:
    """Writes checkpoints in a thread. Training waits only while the state is copied in memory."""

    def __init__(self, folder: Path, verify: Callable[[], None], message: Callable[[str], None]) -> None:
        """verify: raises an exception if this process may no longer write. message: prints a line for people."""
        self._folder, self._verify, self._message = folder, verify, message
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[OSError | None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a file is being written, so that `save` would wait for it."""
        return self._writing is not None and not self._writing.done()

    def save(self, step: int, state: dict[str, Any], began: float) -> None:
        """Copies `state` as of `step` finished steps, and starts writing it. Raises what an earlier `verify` raised.

        began: when training began to wait for this checkpoint, by time.monotonic.
        """
        self.wait()
        snapshot = copy.deepcopy(state)
        self._writing = self._thread.submit(self._write, step, snapshot, time.monotonic() - began)

    def wait(self) -> OSError | None:
        """Waits until the last file is on disk, or returns the error that prevented it. Raises what `verify` raised."""
        return None if self._writing is None else self._writing.result()

    def _write(self, step: int, state: dict[str, Any], waited: float) -> OSError | None:
        self._verify()
        began = time.monotonic()
        try:
            path = save_checkpoint(self._folder, step, state, self._verify)
        except OSError as error:
            self._message(f"no checkpoint of step {step} ({error.strerror}): earlier checkpoints are kept")
            return error
        megabytes, seconds = path.stat().st_size / 1e6, time.monotonic() - began
        self._message(
            f"checkpoint of step {step}: {megabytes:.0f} MB in {seconds:.1f} s, the run waited {waited:.2f} s"
        )
        return None


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], verify: Callable[[], None] = lambda: None) -> Path:
    """Writes `state` as of `step` finished steps, and deletes all files but this one and the one before.

    Raises OSError if the disk is full, and what `verify` raises. Then nothing is deleted.
    """
    folder.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    path = folder / f"step-{step:09d}.ckpt"
    header = MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n"
    # Listed before `verify`: files that appear later are those of a process that has taken the run over.
    files = _newest_first(folder)
    # verified after the slow part, because another process takes the run over if this one is suspended meanwhile
    write_atomic(path, header, payload, verify=verify)
    # Files of later steps are damaged: otherwise the run would have resumed from them.
    for file in [*(f for f in files if f > path), *[f for f in files if f < path][KEPT - 1 :]]:
        file.unlink(missing_ok=True)
    return path


def load_checkpoint(
    folder: Path, accept: Callable[[dict[str, Any]], bool] = lambda state: True
) -> dict[str, Any] | None:
    """The state in the newest intact file that `accept` accepts, on the CPU.

    Without such a file, the newest intact state; without an intact file, None. Prints the skipped files on stderr.
    """
    return newest_intact(folder, accept)[1]


def newest_intact(
    folder: Path, accept: Callable[[dict[str, Any]], bool] = lambda state: True
) -> tuple[Path, dict[str, Any]] | tuple[None, None]:
    """The file that `load_checkpoint` takes, and its state.

    Raises BadInput or OSError (errors.read_error) if a file can't be read, because such a file isn't damaged.
    """
    other = None
    for path in _newest_first(folder):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise read_error(path, error) from error
        try:
            state = _decode(content)
        except MemoryError:
            raise
        except Exception as error:  # unpickling damaged bytes can raise almost anything
            print(f"{path} is damaged ({error}): skipped", file=sys.stderr)
            continue
        if accept(state):
            return path, state
        print(f"{path} does not match the run's metrics: skipped", file=sys.stderr)
        other = other or (path, state)
    return other or (None, None)


def _decode(content: bytes) -> dict[str, Any]:
    header, _, payload = content.partition(b"\n")
    if header != MAGIC + hashlib.sha256(payload).hexdigest().encode():
        raise ValueError("its checksum does not match")
    state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise TypeError("it is not a mapping")
    return state


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.ckpt"), reverse=True)
