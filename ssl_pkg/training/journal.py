"""metrics.jsonl and TensorBoard: each step once, also after a resume."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from ssl_pkg.errors import BadInput
from ssl_pkg.runs import CLOCK_FIELDS, RunDirectory, metrics_sha256, write_atomic


class Journal:
    """The metric lines of a run, up to `step` finished steps; what an abandoned future wrote after that is removed.

    TensorBoard's files can't be shortened, so they are written anew from the lines that are left.
    """

    def __init__(self, run: RunDirectory, step: int, digest: str) -> None:
        """Raises BadInput, before anything is written, if `digest` is not metrics_sha256 of the lines up to `step`."""
        self._path = run.path / "metrics.jsonl"
        self.lines = [line for line in run.metrics() if line["step"] <= step]
        if metrics_sha256(self.lines) != digest:
            raise BadInput(
                f"{self._path} is not as this run has written it up to step {step}: put it right, or give another "
                "run_dir"
            )
        write_atomic(self._path, b"".join(_encode(line) for line in self.lines))
        self._board_folder: Path = run.path / "tensorboard"
        shutil.rmtree(self._board_folder, ignore_errors=True)
        self._board = SummaryWriter(str(self._board_folder))
        for line in self.lines:
            self._draw(line)

    def write(self, line: dict[str, Any]) -> None:
        """Appends one line; `line` has step, epoch, phase, seconds, and numbers by name."""
        with self._path.open("ab") as out:
            out.write(_encode(line))
        self.lines.append(line)
        self._draw(line)

    def sync(self) -> None:
        """Sees to it that what is written survives a loss of power."""
        with self._path.open("rb") as file:
            os.fsync(file.fileno())

    def close(self) -> None:
        """Flushes TensorBoard's file."""
        self._board.close()

    def _draw(self, line: dict[str, Any]) -> None:
        for name, value in line.items():
            if name not in ("step", "epoch", "phase", *CLOCK_FIELDS):
                self._board.add_scalar(name, value, line["step"])


def _encode(line: dict[str, Any]) -> bytes:
    return (json.dumps(line, allow_nan=False) + "\n").encode()
