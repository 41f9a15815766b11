"""metrics.jsonl and TensorBoard: each step once, also after a resume."""

import json
import shutil
from pathlib import Path
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from ssl_pkg.runs import CLOCK_FIELDS, RunDirectory, write_atomic


class Journal:
    """The metric lines of a run, up to `step` finished steps; what an abandoned future wrote after that is removed.

    TensorBoard's files can't be shortened, so they are written anew from the lines that are left.
    """

    def __init__(self, run: RunDirectory, step: int) -> None:
        self._path = run.path / "metrics.jsonl"
        self.lines = [line for line in run.metrics() if line["step"] <= step]
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

    def seconds(self) -> float:
        """The time that the run had taken when its last line was written."""
        return float(self.lines[-1]["seconds"]) if self.lines else 0.0

    def close(self) -> None:
        """Flushes TensorBoard's file."""
        self._board.close()

    def _draw(self, line: dict[str, Any]) -> None:
        for name, value in line.items():
            if name not in ("step", "epoch", "phase", *CLOCK_FIELDS):
                self._board.add_scalar(name, value, line["step"])


def _encode(line: dict[str, Any]) -> bytes:
    return (json.dumps(line, allow_nan=False) + "\n").encode()
