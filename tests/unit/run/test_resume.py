"""The checkpoint as an object: validated, handed out once, and refused if it is not one of this run."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from ssl_pkg.errors import BadInput
from ssl_pkg.run.checkpoint import save_checkpoint
from ssl_pkg.run.directory import RunDirectory, metrics_sha256
from ssl_pkg.run.resume import CheckpointMetadata, PhaseCheckpoint, Resume

LINES = [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.25}]
METADATA = {"metrics_step": 0, "metrics_sha256": metrics_sha256([]), "seconds": 1.5}
TRAINING = METADATA | {"phase": "select", "extra_state": {"a": 0.5}, "weight": torch.ones(3)}


class Checkpoint(PhaseCheckpoint):
    weight: Tensor


def resume(folder: Path, content: dict[str, Any]) -> Resume:
    save_checkpoint(folder / "checkpoints", 1, content)
    return Resume.load(RunDirectory(folder))


def test_a_new_run_has_nothing_to_resume_from(tmp_path: Path) -> None:
    new = Resume.load(RunDirectory(tmp_path))
    assert not new.resumed
    assert new.metadata == CheckpointMetadata(metrics_step=0, metrics_sha256=metrics_sha256([]), seconds=0.0)
    assert new.read(Checkpoint) is None
    assert new.take(Checkpoint, "select", 0) is None


def test_the_state_of_a_training_is_handed_out_once(tmp_path: Path) -> None:
    resumed = resume(tmp_path, TRAINING)
    read = resumed.read(PhaseCheckpoint)
    assert read is not None and read.extra_state == {"a": 0.5}
    taken = resumed.take(Checkpoint, "select", 0)
    assert taken is not None and torch.equal(taken.weight, torch.ones(3))
    assert resumed.take(Checkpoint, "select", 0) is None
    assert resumed.resumed and resumed.metadata.seconds == 1.5


def test_a_later_training_gets_nothing_from_the_checkpoint_of_an_earlier_one(tmp_path: Path) -> None:
    assert resume(tmp_path, TRAINING).take(Checkpoint, "final", 4) is None
    at_the_end = resume(tmp_path, TRAINING | {"metrics_step": 4})  # saved after the last step of the earlier training
    assert at_the_end.take(Checkpoint, "final", 4) is None


def test_a_checkpoint_of_an_unknown_training_is_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "checkpoints", 1, TRAINING | {"metrics_step": 5, "phase": "other"})
    with pytest.raises(BadInput, match=r"holds a checkpoint of another run \(phase other\): remove it to start again"):
        Resume.load(RunDirectory(tmp_path)).take(Checkpoint, "final", 4)


def test_a_checkpoint_that_contradicts_the_metrics_log_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    other = [LINES[0], LINES[1] | {"loss": 9.0}]
    for step, lines in ((1, LINES[:1]), (2, other)):
        metadata = {"metrics_step": step, "metrics_sha256": metrics_sha256(lines)}
        save_checkpoint(tmp_path / "checkpoints", step, TRAINING | metadata)
    assert Resume.load(RunDirectory(tmp_path)).metadata.metrics_step == 1
    metadata = {"metrics_step": 2, "metrics_sha256": metrics_sha256(LINES)}
    save_checkpoint(tmp_path / "checkpoints", 2, TRAINING | metadata)
    assert Resume.load(RunDirectory(tmp_path)).metadata.metrics_step == 2


@pytest.mark.parametrize("field", [*METADATA, "phase", "extra_state", "weight"])
def test_a_checkpoint_without_a_field_is_refused(tmp_path: Path, field: str) -> None:
    content = {name: value for name, value in TRAINING.items() if name != field}
    with pytest.raises(BadInput, match=f"holds a checkpoint of another run .*{field}"):
        resume(tmp_path, content).read(Checkpoint)
