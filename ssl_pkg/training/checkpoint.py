"""Checkpoints: whole or not there at all, and known to be intact when read.

A file is a line `ssl-checkpoint <sha256 of the rest>` and then what torch.save wrote. It appears under its name only
when complete; the last two are kept; a reader takes the newest whose digest holds.
"""

import hashlib
import io
import sys
from pathlib import Path
from typing import Any, Final

import torch

from ssl_pkg.runs import write_atomic

MAGIC: Final = b"ssl-checkpoint "
KEPT: Final = 2


def save_checkpoint(folder: Path, step: int, state: dict[str, Any]) -> Path:
    """Writes `state` as of `step` finished steps and deletes all but the newest two.

    Raises OSError (disk full); what was there is then still there.
    """
    folder.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getvalue()
    path = folder / f"step-{step:09d}.ckpt"
    write_atomic(path, MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
    for old in _newest_first(folder)[KEPT:]:
        old.unlink(missing_ok=True)
    return path


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The newest intact state, on the CPU, or None. Says on stderr which damaged files it passed over."""
    for path in _newest_first(folder):
        try:
            return _read(path)
        except Exception as error:  # a damaged file can raise almost anything while it is read
            print(f"{path} is damaged ({error}): trying the one before", file=sys.stderr)
    return None


def _read(path: Path) -> dict[str, Any]:
    header, _, payload = path.read_bytes().partition(b"\n")
    if header != MAGIC + hashlib.sha256(payload).hexdigest().encode():
        raise ValueError("its checksum does not hold")
    state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    if not isinstance(state, dict):
        raise TypeError("it holds no state")
    return state


def _newest_first(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.ckpt"), reverse=True)
