"""One stage's work in its run directory, from acquiring the lock to writing result.json."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self

import yaml
from torch import Tensor

from ssl_pkg.catalogue import headline_of
from ssl_pkg.config.schema import Config
from ssl_pkg.distributed.collectives import any_rank, broadcast, world_size
from ssl_pkg.errors import NO_ROOM, BadInput, Busy, Done, Interrupted
from ssl_pkg.hardware.compile_cache import has_cached_kernels, remove_kernels
from ssl_pkg.hardware.prepare import Hardware
from ssl_pkg.rows import Row
from ssl_pkg.run.checkpoint import CheckpointWriter, newest_intact
from ssl_pkg.run.compatibility import FREE, recorded_config, refuse_difference
from ssl_pkg.run.directory import RESULT, RunDirectory, metrics_sha256, model_name, write_atomic, write_json
from ssl_pkg.run.lock import RunLock
from ssl_pkg.run.metrics_log import MetricsLog
from ssl_pkg.run.progress import Reporter
from ssl_pkg.run.provenance import Start, differences, provenance, resumes_of, starts_of
from ssl_pkg.run.resume import Resume
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.run.source import other_source_data
from ssl_pkg.run.weights import weights_sha256


class Session:
    """Context manager that holds the run directory's lock and reads the checkpoint to resume from.

    Entering raises BadInput if the directory can't be written, is not a run directory or holds a run with another
    configuration, Busy if another process holds the lock, and Done if another process has completed the run meanwhile.
    In a process group, only rank 0 has a Session. The other ranks have a WorkerSession, which receives `resume` or the
    exception from here.
    """

    resume: Resume
    reporter: Reporter
    made_with: dict[str, Any]  # the content of provenance.json

    def __init__(self, config: Config, hardware: Hardware, interrupt_flag: InterruptFlag, data: dict[str, Any]) -> None:
        """data: the manifest of the images."""
        self.config, self.hardware, self._interrupt_flag, self._data = config, hardware, interrupt_flag, data
        self.run = RunDirectory(Path(config.run_dir))
        self._lock = RunLock(self.run.path)
        self._started = time.monotonic()

    def __enter__(self) -> Self:
        try:
            self._acquire()
        except (BadInput, Busy, Done) as error:
            broadcast(error)
            raise
        broadcast(self.resume)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            failure = self._writer.wait()
        finally:
            self.reporter.stop()
            with contextlib.suppress(OSError):  # write() has already raised the error of a full disk
                self._metrics_log.close()
            self._lock.release(remove=isinstance(error, BadInput))
        if failure and isinstance(error, Interrupted):  # Interrupted promises a checkpoint on disk
            raise failure

    def _acquire(self) -> None:
        try:
            self._lock.acquire()
        except OSError as error:
            if error.errno in NO_ROOM:
                raise
            raise BadInput(f"can't write run_dir={self.run.path}: {error.strerror}") from error
        try:
            if self.run.complete:
                raise Done
            self._open()
        except BaseException:
            self._lock.release(remove=True)
            raise

    def _open(self) -> None:
        """Reads the checkpoint, then writes config.yaml, provenance.json and the metrics up to the checkpoint."""
        config = recorded_config(
            self.config,
            self._data,
            threads=self.hardware.threads,
            precision=str(self.hardware.dtype).removeprefix("torch."),
            device=self.hardware.device.type,
            world_size=world_size(),
        )
        earlier_size = (self.run.config() or config).get("world_size")
        # Another world size gives other bits in any case, and each process another number of threads.
        refuse_difference(self.run, config, FREE if earlier_size == world_size() else (*FREE, "threads"))
        self.resume = Resume.load(self.run)
        verify = self._lock.verify
        verify()  # another process may have taken over, if this one was suspended while it read the checkpoint
        self._lock.remove_unfinished_files()
        write_atomic(self.run.path / "config.yaml", yaml.safe_dump(config, sort_keys=False).encode(), verify=verify)
        earlier = self.run.provenance() if self.resume.resumed else None
        earlier_starts, resumes = starts_of(earlier), resumes_of(earlier) + self.resume.resumed
        self.made_with = provenance(self.hardware, self._data, earlier_starts, resumes)
        write_json(self.run.path / "provenance.json", self.made_with, verify=verify)
        metadata = self.resume.metadata
        self._metrics_log = MetricsLog(self.run, metadata.metrics_step, metadata.metrics_sha256, verify)
        self.reporter = Reporter(self.run, self._lock, self.run.name, metadata.seconds)
        self._writer = CheckpointWriter(self.run.checkpoints, verify, self.reporter.message)
        self.reporter.start()
        self._announce(earlier_size, earlier_starts)

    def _announce(self, earlier_size: int | None, earlier_starts: list[Start]) -> None:
        """Prints what the run computes on, what it resumes from, and what may change its bits."""
        message = self.reporter.message
        message(f"runs on {self.hardware}")
        if self.resume.resumed:
            message(f"resumes from the checkpoint of step {self.resume.metadata.metrics_step}")
            self.report(f"resuming from step {self.resume.metadata.metrics_step}", 0, 1)
            if self.hardware.compiles and not has_cached_kernels():
                message(
                    "the kernels that torch.compile made for this run are no longer in this user's cache "
                    "(XDG_CACHE_HOME): compiled again, the result may not be the same to the bit"
                )
        elif self.run.has_checkpoint:
            message("none of the run's checkpoints is intact: the run starts again from the beginning")
        if earlier_size != world_size():
            message(
                f"the world size is {world_size()} instead of {earlier_size}: images, views and batches are the same, "
                "but sums are taken in another order, so the result is not the same to the bit"
            )
        if earlier_starts and (changes := differences(earlier_starts[-1], self.made_with)):
            message(f"resumes with {changes}: the result may not be the same to the bit")

    def seconds(self) -> float:
        """Time spent on this run in seconds, over all its starts."""
        return self.resume.metadata.seconds + time.monotonic() - self._started

    def verify(self) -> None:
        """Raises Busy if another process has taken the run over."""
        self._lock.verify()

    def file(self, name: str) -> Path:
        """The path of the run's file `name`, to be written now. Raises Busy as `verify` does."""
        self.verify()
        return self.run.path / name

    def report(self, phase: str, step: int, steps: int) -> None:
        """Reports that `step` of `steps` are done in `phase`."""
        self.reporter.update(phase, step, steps)

    def report_or_stop(self, phase: str, step: int, steps: int) -> None:
        """Reports, and raises Interrupted if a signal has arrived. For work that no checkpoint covers."""
        self.report(phase, step, steps)
        if self._interrupted:
            raise Interrupted(f"stopped by {self._interrupt_flag.received}")

    def decide(self, checkpoint_due: bool) -> tuple[bool, bool]:
        """Whether to stop, because any rank received a signal, and whether to save a checkpoint, because one is due and
        none is being written. The same on every rank, so that all ranks stop after the same step."""
        stop, save = any_rank(self._interrupted, checkpoint_due and not self._writer.busy)
        return stop, save

    @property
    def _interrupted(self) -> bool:
        return self._interrupt_flag.received is not None

    def log(self, line: dict[str, Any]) -> None:
        """Appends a line to metrics.jsonl. Raises Busy as `verify` does, OSError if the disk is full."""
        self.verify()
        self._lock.removable = False
        self._metrics_log.write(line)
        self.reporter.note(f"loss {line['loss']:.3f}")

    def save(self, metrics_step: int, state: Mapping[str, Any]) -> None:
        """Starts writing a checkpoint of `state`.

        metrics_step: the last step whose metrics belong to it; without metrics, the number of finished parts.
        """
        began = time.monotonic()
        self._lock.removable = False
        self._metrics_log.sync()
        metadata = {
            "metrics_step": metrics_step,
            "metrics_sha256": metrics_sha256(self._metrics_log.lines),
            "seconds": self.seconds(),
        }
        self._writer.save(metrics_step, {**state, **metadata}, began)

    def stop(self, reason: str) -> NoReturn:
        """Raises Interrupted when the checkpoint is on disk, or OSError on every rank if it can't be written."""
        raise broadcast(self._writer.wait()) or Interrupted(reason)

    def last_good_checkpoint(self) -> str:
        """The newest intact checkpoint, as a part of a message."""
        self._writer.wait()
        path, _ = newest_intact(self.run.checkpoints)
        return f"the last good checkpoint is {path}" if path else "there is no checkpoint yet"

    def finish(
        self,
        *,
        method: str,
        adaptation: str | None,
        classes: Sequence[str],
        resolution: int,
        rows: Sequence[Row],
        weights: Mapping[str, Tensor] | None = None,
        **more: Any,
    ) -> None:
        """Writes result.json, which completes the run."""
        self._writer.wait()
        self._metrics_log.sync()  # a complete run is not resumed, so nothing would restore lost lines
        other = other_source_data(self.config)
        write_json(
            self.run.path / RESULT,
            {
                "stage": self.config.stage,
                "model": model_name(method, adaptation),
                "method": method,
                "adaptation": adaptation,
                "seed": self.config.seed,
                "data": self._data["name"],
                "resolution": resolution,
                "classes": list(classes),
                "seconds": round(self.seconds(), 3),
                "weights_sha256": None if weights is None else weights_sha256(weights),
                "metrics_sha256": metrics_sha256(self._metrics_log.lines),
                "headline": headline_of(self.config.stage, rows),
                "rows": list(rows),
            }
            | ({"source_data": other} if other else {})
            | more,
            verify=self._lock.verify,
        )
        if self.hardware.compiles:
            remove_kernels(self.config.run_dir)
