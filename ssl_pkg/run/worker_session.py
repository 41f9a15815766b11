"""The session of a rank other than 0, which neither reads nor writes the run directory."""

from collections.abc import Mapping
from typing import Any, NoReturn

from ssl_pkg.config.schema import Config
from ssl_pkg.distributed.collectives import any_rank, broadcast
from ssl_pkg.errors import Interrupted
from ssl_pkg.hardware.prepare import Hardware
from ssl_pkg.run.resume import Resume
from ssl_pkg.run.signals import InterruptFlag


class WorkerSession:
    """The part of a session that the training loop needs. Rank 0's Session does what this one leaves out."""

    resume: Resume

    def __init__(self, config: Config, hardware: Hardware, interrupt_flag: InterruptFlag) -> None:
        """Waits for rank 0 to enter its session, and receives the checkpoint. Raises what rank 0 raises there."""
        self.config, self.hardware, self._interrupt_flag = config, hardware, interrupt_flag
        resume = broadcast(None)
        if isinstance(resume, Exception):
            raise resume
        self.resume = resume

    def seconds(self) -> float:
        """0.0, because only rank 0 measures the time."""
        return 0.0

    def report(self, phase: str, step: int, steps: int) -> None:
        """Does nothing: rank 0 reports."""

    def log(self, line: dict[str, Any]) -> None:
        """Does nothing: rank 0 logs."""

    def save(self, metrics_step: int, state: Mapping[str, Any]) -> None:
        """Does nothing: rank 0 writes the checkpoints."""

    def decide(self, checkpoint_due: bool) -> tuple[bool, bool]:
        """Whether to stop and whether to save a checkpoint, the same on every rank. Rank 0 decides on the checkpoint,
        because only rank 0 knows whether its writer is busy."""
        stop, save = any_rank(self._interrupt_flag.received is not None, False)
        return stop, save

    def stop(self, reason: str) -> NoReturn:
        """Raises what rank 0 raises: Interrupted, or OSError if the checkpoint can't be written."""
        raise broadcast(None) or Interrupted(reason)

    def last_good_checkpoint(self) -> str:
        """A part of a message, in the place of the path that rank 0 prints."""
        return "rank 0 names the last good checkpoint"
