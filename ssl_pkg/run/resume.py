"""The checkpoint that a run resumes from: validated, and handed once to the training that it belongs to."""

from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from ssl_pkg.config.compose import describe_error
from ssl_pkg.errors import BadInput
from ssl_pkg.run.checkpoint import load_checkpoint
from ssl_pkg.run.directory import RunDirectory, metrics_sha256


class CheckpointMetadata(BaseModel):
    """The fields of every checkpoint. A stage's own fields are those of a subclass."""

    model_config = ConfigDict(strict=True, frozen=True, arbitrary_types_allowed=True)

    metrics_step: int  # the last step whose metrics belong to the checkpoint
    metrics_sha256: str  # of the metric lines up to that step
    seconds: float  # of training, over all starts of the run


class PhaseCheckpoint(CheckpointMetadata):
    """The fields of a checkpoint of one training. A run can consist of several trainings, its phases."""

    phase: str
    extra_state: Any  # what the stage keeps beside the training, such as the results of earlier phases


CheckpointT = TypeVar("CheckpointT", bound=CheckpointMetadata)
PhaseT = TypeVar("PhaseT", bound=PhaseCheckpoint)
_NEW: Final = CheckpointMetadata(metrics_step=0, metrics_sha256=metrics_sha256([]), seconds=0.0)


class Resume:
    """What a run resumes from: its newest intact checkpoint, or nothing.

    resumed: whether there is a checkpoint. metadata: its metadata, or that of a new run.
    """

    def __init__(self, run: RunDirectory, content: dict[str, Any] | None) -> None:
        """Raises BadInput if the checkpoint lacks the metadata."""
        self._run, self._content = run, content
        self.resumed = content is not None
        self.metadata = self.read(CheckpointMetadata) or _NEW

    @classmethod
    def load(cls, run: RunDirectory) -> "Resume":
        """Reads the run's newest intact checkpoint that matches its metrics log. Raises BadInput on a read error."""

        def matches_metrics(content: dict[str, Any]) -> bool:
            """Another process may have taken the run over after this checkpoint, and shortened the metrics log."""
            step = content.get("metrics_step")
            if not isinstance(step, int):
                return False
            lines = [line for line in run.metrics() if line["step"] <= step]
            return metrics_sha256(lines) == content.get("metrics_sha256")

        return cls(run, load_checkpoint(run.checkpoints, matches_metrics))

    def read(self, kind: type[CheckpointT]) -> CheckpointT | None:
        """The checkpoint's fields that `kind` declares. None if there is no checkpoint, or if it was taken.

        Raises BadInput if a field is missing or has another type.
        """
        if self._content is None:
            return None
        try:
            return kind.model_validate(self._content)
        except ValidationError as error:
            raise self.mismatch(describe_error(error)) from error

    def take(self, kind: type[PhaseT], phase: str, step_offset: int) -> PhaseT | None:
        """The checkpoint of training `phase`, which starts after `step_offset` steps of the run's earlier trainings.

        None if the checkpoint is of an earlier phase, or if there is none. A checkpoint is handed out once and not kept
        here, because the caller copies it into the model and a second copy would need its memory for the whole run.
        Raises BadInput if the checkpoint is of an unknown phase.
        """
        state = self.read(PhaseCheckpoint)
        if state is None:
            return None
        if state.phase == phase:
            taken = self.read(kind)
            self._content = None
            return taken
        if state.metrics_step > step_offset:
            raise self.mismatch(f"phase {state.phase}")
        return None

    def mismatch(self, reason: object) -> BadInput:
        """The exception to raise if the checkpoint is intact, but not a checkpoint of this run."""
        return BadInput(
            f"{self._run.checkpoints} holds a checkpoint of another run ({reason}): "
            "remove it to start again, or give another run_dir"
        )
