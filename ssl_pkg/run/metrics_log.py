"""metrics.jsonl and TensorBoard: each step appears once, also after a resume."""

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


class MetricsLog:
    """The metric lines of a run. Opening it removes the lines after `step`, which a resumed run writes again.

    TensorBoard's files can't be shortened, so they are written again from the remaining lines.

    lines: all lines of the log, in order.
    """

    def __init__(self, run: RunDirectory, step: int, digest: str, verify: Callable[[], None] = lambda: None) -> None:
        """digest: metrics_sha256 of the lines up to `step`. verify: called before the first write.

        Raises BadInput if the lines have another digest, and what `verify` raises. Then nothing is written.
        """
        self._path = run.path / "metrics.jsonl"
        self.lines = [line for line in run.metrics() if line["step"] <= step]
        if metrics_sha256(self.lines) != digest:
            raise BadInput(
                f"{self._path} was changed after this run wrote it, at or before step {step}: restore it, or give "
                "another run_dir"
            )
        write_atomic(self._path, b"".join(_encode(line) for line in self.lines), verify=verify)
        self._tensorboard = _TensorBoard(run.path / "tensorboard")
        for line in self.lines:
            self._tensorboard.write(line)

    def write(self, line: dict[str, Any]) -> None:
        """Appends a line with step, epoch, phase, seconds and metrics by name. Raises OSError if the disk is full."""
        with self._path.open("ab") as out:
            out.write(_encode(line))
        self.lines.append(line)
        self._tensorboard.write(line)

    def sync(self) -> None:
        """Flushes metrics.jsonl to the disk, so that its lines survive a power failure."""
        with self._path.open("rb") as file:
            os.fsync(file.fileno())

    def close(self) -> None:
        """Closes TensorBoard's file."""
        self._tensorboard.close()


class _TensorBoard:
    """A TensorBoard event file that is flushed after each event.

    Not torch's SummaryWriter, whose background thread loses unwritten events when the process is killed, and prints a
    traceback when the disk is full.
    """

    def __init__(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(exist_ok=True)
        self._file = (folder / f"events.out.tfevents.{int(time.time())}.{os.getpid()}").open("wb")
        self._records = RecordWriter(self._file)
        self._append(Event(wall_time=time.time(), file_version="brain.Event:2"))

    def write(self, line: dict[str, Any]) -> None:
        metrics = {name: value for name, value in line.items() if name not in ("step", "epoch", "phase", *CLOCK_FIELDS)}
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._append(Event(wall_time=time.time(), step=line["step"], summary=Summary(value=values)))

    def close(self) -> None:
        self._file.close()

    def _append(self, event: Event) -> None:
        self._records.write(event.SerializeToString())
        self._file.flush()


def _encode(line: dict[str, Any]) -> bytes:
    return (json.dumps(line, allow_nan=False) + "\n").encode()
