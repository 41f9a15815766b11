"""metrics.jsonl and TensorBoard: each step once, also after a resume."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

from ssl_pkg.errors import BadInput
from ssl_pkg.run.directory import CLOCK_FIELDS, RunDirectory, metrics_sha256, write_atomic


class Journal:
    """The metric lines of a run, up to `step` finished steps; what an abandoned future wrote after that is removed.

    TensorBoard's files can't be shortened, so they are written anew from the lines that are left.
    """

    def __init__(
        self, run: RunDirectory, step: int, digest: str, verify: Callable[[], None] = lambda: None
    ) -> None:  # fmt: skip
        """Raises, before anything is written, BadInput if `digest` is not metrics_sha256 of the lines up to `step`, and
        what `verify` raises."""
        self._path = run.path / "metrics.jsonl"
        self.lines = [line for line in run.metrics() if line["step"] <= step]
        if metrics_sha256(self.lines) != digest:
            raise BadInput(
                f"{self._path} is not as this run has written it up to step {step}: put it right, or give another "
                "run_dir"
            )
        write_atomic(self._path, b"".join(_encode(line) for line in self.lines), verify=verify)
        self._board = _Board(run.path / "tensorboard")
        for line in self.lines:
            self._board.draw(line)

    def write(self, line: dict[str, Any]) -> None:
        """Appends one line; `line` has step, epoch, phase, seconds, and numbers by name."""
        with self._path.open("ab") as out:
            out.write(_encode(line))
        self.lines.append(line)
        self._board.draw(line)

    def sync(self) -> None:
        """Sees to it that what is written survives a loss of power."""
        with self._path.open("rb") as file:
            os.fsync(file.fileno())

    def close(self) -> None:
        """Closes TensorBoard's file."""
        self._board.close()


class _Board:
    """A file of TensorBoard's, each line in it as soon as it is drawn.

    Not torch's SummaryWriter, whose thread writes later: a full disk ends it by a traceback of its own, and what it had
    not written yet is lost with the process.
    """

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        self._file = (folder / f"events.out.tfevents.{int(time.time())}.{os.getpid()}").open("wb")
        self._records = RecordWriter(self._file)
        self._write(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def draw(self, line: dict[str, Any]) -> None:
        numbers = {name: value for name, value in line.items() if name not in ("step", "epoch", "phase", *CLOCK_FIELDS)}
        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._write(Event(wall_time=time.time(), step=line["step"], summary=Summary(value=values)))

    def close(self) -> None:
        self._file.close()

    def _write(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
        self._file.flush()


def _encode(line: dict[str, Any]) -> bytes:
    return (json.dumps(line, allow_nan=False) + "\n").encode()
