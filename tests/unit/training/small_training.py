"""Trains a network of four numbers, which fits a line to noise, with interruptions and infinite losses on demand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ssl_pkg.config.compose import load_config
from ssl_pkg.hardware.prepare import Hardware
from ssl_pkg.run.checkpoint import load_checkpoint
from ssl_pkg.run.directory import CLOCK_FIELDS, RunDirectory
from ssl_pkg.run.session import Session
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.training.loop import fit
from ssl_pkg.training.step import Task

STEPS, EPOCH = 12, 4
DATA: dict[str, Any] = {"name": "stand-in", "root": "-", "files": {}}
CPU = Hardware(torch.device("cpu"), torch.float32, threads=1, compiles=False)


class Line(nn.Module):
    """A method that fits a line to noise, and that keeps an average of its weights."""

    views: ClassVar[int] = 1
    sync_batch_norm: ClassVar[bool] = True
    average: Tensor

    def __init__(self, broken: int | None) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.broken = broken
        self.encoder: nn.Module = nn.Linear(3, 1)
        self.register_buffer("average", torch.zeros(3))

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.parameters())}]

    def loss(self, views: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        error = (self.encoder(views[0]) - 1).square().mean()
        return error, {"size": self.average.norm()}

    def after_step(self, step: int, steps: int) -> None:
        with torch.no_grad():
            self.average.lerp_(next(self.encoder.parameters())[0], 0.1)
            if step == self.broken:
                next(self.encoder.parameters()).fill_(torch.inf)


class Stop(NamedTuple):
    """When a signal arrives: in step `after`, or in the validation of epoch `within`. crash: the step that fails."""

    after: int | None = None
    within: int | None = None
    crash: int | None = None


NEVER = Stop()


def train(folder: Path, stop: Stop = NEVER, bad: int | None = None, broken: int | None = None, epochs: int = 1) -> Line:
    """Starts or resumes the run until `stop`. The loss of step `bad` and the weights after `broken` are infinite."""
    line = ["stage=pretrain", "method=simclr", "budget=tiny", f"run_dir={folder}", "log_every=3"]
    config = load_config([*line, f"checkpoint.epochs={epochs}"])
    interrupt_flag, model = InterruptFlag(), Line(broken)

    def batch(step: int) -> tuple[list[Tensor], Tensor]:
        if step == stop.crash:
            raise RuntimeError("a crash")
        if step == stop.after:
            interrupt_flag.received = "SIGTERM"
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(step))
        return [x * float("inf") if step == bad else x], torch.zeros(5)

    with Session(config, CPU, interrupt_flag, DATA) as session:

        def validate(epoch: int) -> dict[str, float]:
            if epoch == stop.within:
                interrupt_flag.received = "SIGTERM"
            session.report_or_stop("validate", 0, 1)
            return {"validation": float(model.average.sum())}

        optimizer = torch.optim.SGD([{"params": model.parameters(), "lr_multiplier": 1.0}], lr=0.0, momentum=0.9)
        task = Task(
            "train", model, model.loss, optimizer, lambda step: 0.1 / (1 + step), batch,
            lambda step: np.arange(5) + step, STEPS, EPOCH, validate,
        )  # fmt: skip
        fit(session, task, extra_state=None)
    return model


def left(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The metric lines and the last checkpoint, without clock times."""
    lines = [{k: v for k, v in line.items() if k not in CLOCK_FIELDS} for line in RunDirectory(folder).metrics()]
    checkpoint = load_checkpoint(folder / "checkpoints") or {}
    return lines, {key: value for key, value in checkpoint.items() if key != "seconds"}


def assert_equal(one: Any, other: Any) -> None:
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_equal(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for entry, counterpart in zip(one, other, strict=True):
            assert_equal(entry, counterpart)
    else:
        assert one == other
