"""Checkpoints: whole or not there at all, and known to be intact when read.

A file is a line `ssl-checkpoint <sha256 of the rest>` and then what torch.save wrote. It appears under its name only
when complete; the last two are kept; a reader takes the newest whose digest holds.
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

from ssl_pkg.errors import BadInput
from ssl_pkg.run.directory import write_atomic

MAGIC: Final = b"ssl-checkpoint "
KEPT: Final = 2


class CheckpointWriter:
    """Writes behind the training's back: it waits only while the state is copied in memory."""

    def __init__(self, folder: Path, verify: Callable[[], None], say: Callable[[str], None]) -> None:
        """verify: raises if nothing may be written any more. say: tells a person."""
        self._folder, self._verify, self._say = folder, verify, say
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: Future[OSError | None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a file is being written: another `save` would wait for it."""
        return self._writing is not None and not self._writing.done()

    def save(self, step: int, state: dict[str, Any], began: float) -> None:
        """Copies `state` as of `step` finished steps and has it written. Raises what `verify` raised.

        began: since when, by time.monotonic, the training waits.
        """
        self.wait()
        snapshot = copy.deepcopy(state)
        self._writing = self._thread.submit(self._write, step, snapshot, time.monotonic() - began)

    def wait(self) -> OSError | None:
        """Until the last file is on disk; returns why it isn't there, if so. Raises what `verify` raised."""
        return None if self._writing is None else self._writing.result()

    def _write(self, step: int, state: dict[str, Any], stall: float) -> OSError | None:
        self._verify()
        began = time.monotonic()
        try:
            path = save_checkpoint(self._folder, step, state, self._verify)
        except OSError as error:
            self._say(f"no checkpoint of step {step} ({error.strerror}): what was there before stays")
            return error
        megabytes, seconds = path.stat().st_size / 1e6, time.monotonic() - began
        self._say(f"checkpoint of step {step}: {megabytes:.0f} MB in {seconds:.1f} s, training waited {stall:.2f} s")
        return None


def save_checkpoint(folder: Path, step: int, state: dict[str, Any], verify: Callable[[], None] = lambda: None) -> Path:
    """Writes `state` as of `step` finished steps and deletes all but this file and the one before.

    Raises OSError (disk full), and what `verify` raises between writing and deleting; what was there is then still
    there.
    """
    folder.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    path = folder / f"step-{step:09d}.ckpt"
    header = MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n"
    # a process that stood still while it wrote must neither add to its successor's files nor delete any
    write_atomic(path, header, payload, verify=verify)
    files = _newest_first(folder)
    # later steps' files were damaged when this run was read, or they would have been gone on from
    for file in [*(f for f in files if f > path), *[f for f in files if f <= path][KEPT:]]:
        file.unlink(missing_ok=True)
    return path


def load_checkpoint(folder: Path, fits: Callable[[dict[str, Any]], bool] = lambda state: True) -> dict[str, Any] | None:
    """The newest intact state that fits, on the CPU; else the newest intact one, or None. Says on stderr which files it
    passed over."""
    return newest_intact(folder, fits)[1]


def newest_intact(
    folder: Path, fits: Callable[[dict[str, Any]], bool] = lambda state: True
) -> tuple[Path, dict[str, Any]] | tuple[None, None]:
    """The file of that state, and the state. Raises BadInput if the disk gives no answer: that is no damage."""
    other = None
    for path in _newest_first(folder):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise BadInput(
                f"can't read {path} ({error.strerror}): when it can be read, run the same line again"
            ) from error
        try:
            state = _decode(content)
        except MemoryError:
            raise
        except Exception as error:  # what is damaged can raise almost anything while it is read
            print(f"{path} is damaged ({error}): passed over", file=sys.stderr)
            continue
        if fits(state):
            return path, state
        print(f"{path} does not fit what the run has written since: passed over", file=sys.stderr)
        other = other or (path, state)
    return other or (None, None)


def _decode(content: bytes) -> dict[str, Any]:
    header, _, payload = content.partition(b"\n")
    if header != MAGIC + hashlib.sha256(payload).hexdigest().encode():
        raise ValueError("its checksum does not hold")
    state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise TypeError("it holds no state")
    return state


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.ckpt"), reverse=True)
