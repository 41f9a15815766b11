"""The training loop: every stage that trains a network runs this one."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from ssl_pkg.errors import Interrupted
from ssl_pkg.methods.base import Method
from ssl_pkg.training.precision import Hardware
from ssl_pkg.training.session import Session

Batch = tuple[list[Tensor], Tensor]


@dataclass(frozen=True)
class Task:
    """One training: what moves, by what rate, on which batches, for how long. All are functions of the step."""

    phase: str
    model: Method
    optimizer: torch.optim.Optimizer
    rate: Callable[[int], float]
    batch: Callable[[int], Batch]
    steps: int
    steps_per_epoch: int
    # after each epoch, by its number from 1: more to log, or nothing
    validate: Callable[[int], dict[str, float]] = lambda epoch: {}
    first_journal_step: int = 0  # where this training starts in the journal of a run that has several


def fit(session: Session, task: Task, checkpoint: dict[str, Any] | None, carried: dict[str, Any]) -> None:
    """Trains `task.model`, from `checkpoint` if there is one of this phase.

    carried: what the run needs beside this training to go on (results of earlier phases); kept in each checkpoint.
    Raises Interrupted after writing a checkpoint if a signal came; ArithmeticError if the loss stops being finite.
    """
    module = cast(nn.Module, task.model)
    module.train()
    scaler = session.hardware.scaler()
    start, window = 0, _Window()
    if checkpoint is not None and checkpoint["phase"] == task.phase:
        module.load_state_dict(checkpoint["model"])
        task.optimizer.load_state_dict(checkpoint["optimizer"])
        scaler.load_state_dict(checkpoint["scaler"])
        start, window = checkpoint["step"], _Window(**checkpoint["window"])
    saved_at = time.monotonic()
    for step in range(start, task.steps):
        session.reporter.at(task.phase, step, task.steps)
        window.add(advance(task, scaler, session.hardware, step))
        done = step + 1
        epoch_ended = done % task.steps_per_epoch == 0
        validation = task.validate(done // task.steps_per_epoch) if epoch_ended else {}
        if validation or done % session.config.log_every == 0 or done == task.steps:
            _log(session, task, step, window.mean() | validation)
            window = _Window()
        config = session.config.checkpoint
        due = epoch_ended and (done // task.steps_per_epoch) % config.epochs == 0
        due = due or time.monotonic() - saved_at > 60 * config.minutes
        if due or session.interrupted or done == task.steps:
            session.save(
                task.first_journal_step + done,
                {
                    "phase": task.phase,
                    "step": done,
                    "model": module.state_dict(),
                    "optimizer": task.optimizer.state_dict(),
                    "scaler": scaler.state_dict(),
                    "window": {"total": window.total, "count": window.count},
                    "carried": carried,
                },
            )
            saved_at = time.monotonic()
        if session.interrupted:
            raise Interrupted(f"stopped after step {done} of {task.steps}")
    session.reporter.at(task.phase, task.steps, task.steps)


def advance(task: Task, scaler: torch.amp.GradScaler, hardware: Hardware, step: int) -> dict[str, Tensor]:
    """Step `step` of the training. Returns the loss and what else is to be logged; nothing waits for the device."""
    views, labels = task.batch(step)
    for group in task.optimizer.param_groups:
        group["lr"] = task.rate(step) * group["rate"]
    with hardware.autocast():
        loss, metrics = task.model.loss(views, labels, step, task.steps)
    torch.autograd.backward(scaler.scale(loss))
    scaler.step(task.optimizer)
    scaler.update()
    task.optimizer.zero_grad(set_to_none=True)
    task.model.after_step(step, task.steps)
    return {"loss": loss.detach(), **metrics}


class _Window:
    """Means of the metrics since the last log line, summed on the device: reading a value there would wait for it."""

    def __init__(self, total: dict[str, Tensor] | None = None, count: int = 0) -> None:
        self.total, self.count = total or {}, count

    def add(self, metrics: dict[str, Tensor]) -> None:
        for name, value in metrics.items():
            addend = value.detach().double()
            self.total[name] = self.total[name].to(addend.device) + addend if name in self.total else addend
        self.count += 1

    def mean(self) -> dict[str, float]:
        return {name: float(value) / self.count for name, value in self.total.items()}


def _log(session: Session, task: Task, step: int, metrics: dict[str, float]) -> None:
    done = step + 1
    wrong = [name for name, value in metrics.items() if not abs(value) < float("inf")]
    if wrong:
        raise ArithmeticError(
            f"{', '.join(wrong)} stopped being finite in the {session.config.log_every} steps before step {done} of "
            f"{task.phase}; {session.run.path / 'checkpoints'} holds the last good state"
        )
    session.journal.write(
        {
            "step": task.first_journal_step + done,
            "epoch": round(done / task.steps_per_epoch, 4),
            "phase": task.phase,
            "seconds": round(session.seconds(), 3),
            "lr": task.rate(step),
        }
        | metrics
    )
    session.reporter.note(f"loss {metrics['loss']:.3f}")
