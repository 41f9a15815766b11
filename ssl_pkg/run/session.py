"""One stage's life in its run directory: from the owner's lock to result.json."""

import contextlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from ssl_pkg.compose import describe
from ssl_pkg.config import Config
from ssl_pkg.distributed.collectives import any_rank, broadcast, world_size
from ssl_pkg.errors import NO_ROOM, BadInput, Busy, Done, Interrupted
from ssl_pkg.hardware.compile_cache import kernels_are_kept, remove_kernels
from ssl_pkg.hardware.prepare import Hardware
from ssl_pkg.rows import Row
from ssl_pkg.run.checkpoint import CheckpointWriter, load_checkpoint, newest_intact
from ssl_pkg.run.directory import RunDirectory, metrics_sha256, model_name, write_atomic, write_json
from ssl_pkg.run.lock import RunLock
from ssl_pkg.run.metrics_log import Journal
from ssl_pkg.run.progress import Reporter
from ssl_pkg.run.provenance import changed, provenance, starts_of
from ssl_pkg.run.resume import FREE, content_of, refuse_difference
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.run.source import other_source_data
from ssl_pkg.run.weights import weights_sha256


class SoFar(BaseModel):
    """What every checkpoint holds beside its stage's own state."""

    model_config = ConfigDict(strict=True, frozen=True, arbitrary_types_allowed=True)

    journal_step: int = 0
    metrics_sha256: str = metrics_sha256([])  # of the metric lines up to there
    seconds: float = 0.0


StateT = TypeVar("StateT", bound=SoFar)


class Session:
    """A context: entering it takes the run directory and reads the newest checkpoint, leaving it gives it free.

    Raises BadInput if the directory can't be written, is no run directory, or holds a run with another configuration;
    Busy if another process holds it; Done if another has completed the run meanwhile.
    """

    def __init__(self, config: Config, hardware: Hardware, interrupt_flag: InterruptFlag, data: dict[str, Any]) -> None:
        self.config, self.hardware, self._interrupt_flag, self._data = config, hardware, interrupt_flag, data
        self.run = RunDirectory(Path(config.run_dir))
        self._started, self._seconds_before = time.monotonic(), 0.0

    def __enter__(self) -> Self:
        try:
            self._take()
        except (BadInput, Busy, Done) as error:
            broadcast(error)
            raise
        broadcast(self.checkpoint)
        return self

    def _take(self) -> None:
        try:
            self._lock = RunLock(self.run.path)
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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            failure = self._writer.wait()
        finally:
            self.reporter.stop()
            with contextlib.suppress(OSError):  # what it had no room for was raised when it was written
                self.journal.close()
            self._lock.release(remove=isinstance(error, BadInput))
        if failure and isinstance(error, Interrupted):  # which promises a checkpoint
            raise failure

    def _open(self) -> None:
        content = content_of(
            self.config,
            self._data,
            threads=self.hardware.threads,
            precision=str(self.hardware.dtype).removeprefix("torch."),
            device=self.hardware.device.type,
            world_size=world_size(),
        )
        earlier = (self.run.config() or content).get("world_size")
        # with another number of processes the bits differ anyhow, and each has another share of the cores
        refuse_difference(self.run, content, FREE if earlier == world_size() else (*FREE, "threads"))
        self.checkpoint = load_checkpoint(self.run.path / "checkpoints", self._fits)
        verify = self._lock.verify  # a process that stood still while it read has a successor
        verify()
        self._lock.remove_unfinished_files()
        write_atomic(self.run.path / "config.yaml", yaml.safe_dump(content, sort_keys=False).encode(), verify=verify)
        earlier_starts = starts_of(self.run.provenance()) if self.checkpoint is not None else []
        made_with = provenance(self.hardware, self._data, earlier_starts)
        write_json(self.run.path / "provenance.json", made_with, verify=verify)
        so_far = self.state(SoFar) or SoFar()
        self.journal = Journal(self.run, so_far.journal_step, so_far.metrics_sha256, verify)
        self._seconds_before = so_far.seconds
        self.reporter = Reporter(self.run, self._lock, self.run.name)
        self._writer = CheckpointWriter(self.run.path / "checkpoints", self._lock.verify, self.reporter.say)
        self.reporter.start()
        self.reporter.say(f"runs on {self.hardware}")
        if self.checkpoint is not None:
            self.reporter.say(f"goes on from the checkpoint of step {so_far.journal_step}")
            if self.hardware.compiles and not kernels_are_kept():
                self.reporter.say(
                    "what torch.compile made for this run's earlier starts is not in this user's cache "
                    "(XDG_CACHE_HOME) any more: made anew, the result may not be the same to the bit"
                )
        elif any((self.run.path / "checkpoints").glob("*.ckpt")):
            self.reporter.say("none of the run's checkpoints is intact: it begins anew")
        if earlier != world_size():
            self.reporter.say(
                f"the number of processes is {world_size()} instead of {earlier}: the same images, views and batches, "
                "but sums in another order, so not the same bits"
            )
        if earlier_starts and (changes := changed(earlier_starts[-1], made_with)):
            self.reporter.say(f"goes on with {changes}: the result may not be the same to the bit")

    def _fits(self, state: dict[str, Any]) -> bool:
        """Whether the metric lines up to the checkpoint are those that it was written with: one that a stale copy
        wrote at the last moment knows of lines that are no more."""
        step = state.get("journal_step")
        if not isinstance(step, int):
            return False
        lines = [line for line in self.run.metrics() if line["step"] <= step]
        return metrics_sha256(lines) == state.get("metrics_sha256")

    def state(self, kind: type[StateT]) -> StateT | None:
        """The checkpoint's fields that `kind` names, or None without a checkpoint.

        Raises BadInput if they are not there or of another type: another program's, or another version's.
        """
        if self.checkpoint is None:
            return None
        try:
            return kind.model_validate(self.checkpoint)
        except ValidationError as error:
            raise self.foreign(describe(error)) from error

    def foreign(self, reason: object) -> BadInput:
        """What to raise where the checkpoint is whole, but not this run's."""
        return BadInput(
            f"{self.run.path / 'checkpoints'} holds a state that is not this run's ({reason}): "
            "remove it to begin anew, or give another run_dir"
        )

    def seconds(self) -> float:
        """Time spent on this run, over all its interruptions."""
        return float(self._seconds_before + time.monotonic() - self._started)

    @property
    def interrupted(self) -> bool:
        """Whether a signal asks the run to stop."""
        return self._interrupt_flag.received is not None

    def file(self, name: str) -> Path:
        """Where the run's file `name` is to be written, now. Raises Busy if another process has taken the run over."""
        self._lock.verify()
        return self.run.path / name

    def report(self, phase: str, step: int, steps: int) -> None:
        """`step` of `steps` are done in `phase`."""
        self.reporter.at(phase, step, steps)

    def at(self, phase: str, step: int, steps: int) -> None:
        """Between two pieces of work that no checkpoint holds: reports, and stops here if a signal came."""
        self.report(phase, step, steps)
        if self.interrupted:
            raise Interrupted(f"stopped by {self._interrupt_flag.received}")

    def agree(self, due: bool) -> tuple[bool, bool]:
        """Whether a signal asks any rank to stop, and whether a checkpoint is `due` and none is being written.

        Every rank gets the same answers, so that all stop after the same step.
        """
        stop, save = any_rank(self.interrupted, due and not self._writer.busy)
        return stop, save

    def log(self, line: dict[str, Any]) -> None:
        """Appends a line to metrics.jsonl. Raises Busy as `file` does, OSError if the disk is full."""
        self._lock.verify()
        self._lock.removable = False
        self.journal.write(line)
        self.reporter.note(f"loss {line['loss']:.3f}")

    def save(self, journal_step: int, state: Mapping[str, Any]) -> None:
        """Has a checkpoint written: `state` as of `journal_step` finished steps."""
        began = time.monotonic()
        self._lock.removable = False
        self.journal.sync()
        digest = metrics_sha256(self.journal.lines)
        so_far = SoFar(journal_step=journal_step, metrics_sha256=digest, seconds=self.seconds())
        content = dict(state) | so_far.model_dump()
        self._writer.save(journal_step, content, began)

    def stop(self, reason: str) -> NoReturn:
        """Ends the run by Interrupted when its checkpoint is on disk; by OSError, on every rank, if it can't be."""
        raise broadcast(self._writer.wait()) or Interrupted(reason)

    def last_good(self) -> str:
        """What to say of the newest checkpoint."""
        self._writer.wait()
        path, _ = newest_intact(self.run.path / "checkpoints")
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
        """Writes result.json: the run is complete."""
        self._writer.wait()
        self.journal.sync()  # a run that is complete is never opened again
        other = other_source_data(self.config)
        write_json(
            self.run.path / "result.json",
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
                "metrics_sha256": metrics_sha256(self.journal.lines),
                "rows": list(rows),
            }
            | ({"source_data": other} if other else {})
            | more,
            verify=self._lock.verify,
        )
        if self.hardware.compiles:
            remove_kernels(self.config.run_dir)


class Follower(Session):
    """A session of a rank other than 0: the run directory is rank 0's alone, and its checkpoint comes from there."""

    def __enter__(self) -> Self:
        answer = broadcast(None)
        if isinstance(answer, Exception):
            raise answer
        self.checkpoint = answer
        return self

    def __exit__(self, *error: object) -> None:
        """There is nothing to give free."""

    def report(self, phase: str, step: int, steps: int) -> None:
        """Rank 0 says it."""

    def agree(self, due: bool) -> tuple[bool, bool]:
        """As rank 0's, which alone knows whether a checkpoint can be written."""
        stop, save = any_rank(self.interrupted, False)
        return stop, save

    def log(self, line: dict[str, Any]) -> None:
        """Rank 0 writes it."""

    def save(self, journal_step: int, state: Mapping[str, Any]) -> None:
        """Rank 0 writes it."""

    def last_good(self) -> str:
        """Rank 0 names it."""
        return "rank 0 names the last good checkpoint"

    def stop(self, reason: str) -> NoReturn:
        """As rank 0."""
        raise broadcast(None) or Interrupted(reason)
