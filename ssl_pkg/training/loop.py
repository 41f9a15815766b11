"""The training loop: every stage that trains a network runs this one."""

import time
from collections.abc import Mapping
from typing import Any, cast

import torch
from pydantic import BaseModel, NonNegativeInt
from torch import Tensor, nn

from ssl_pkg.errors import Diverged, Interrupted
from ssl_pkg.run.session import Session, SoFar
from ssl_pkg.training.step import Step, Task


class Sums(BaseModel):
    """A window's state."""

    model_config = SoFar.model_config

    total: dict[str, Tensor]
    count: int


class State(SoFar):
    """What a checkpoint of a training holds."""

    phase: str
    step: NonNegativeInt
    model: dict[str, Any]
    optimizer: dict[str, Any]
    scaler: dict[str, Any]
    unlogged: bool  # whether the line of the last step is still to be written
    window: Sums
    carried: Any  # what fit was given; the stage knows what it is


def fit(session: Session, task: Task, carried: Mapping[str, Any]) -> None:
    """Trains `task.model`, from the session's checkpoint if there is one of this phase.

    carried: what the run needs beside this training to go on (results of earlier phases); kept in each checkpoint.
    Raises Interrupted after writing a checkpoint if a signal came, OSError if that can't be written; Diverged if
    the loss stops being finite.
    """
    module = cast(nn.Module, task.model)
    module.train()
    advance = Step(task, session.hardware)
    start, window, unlogged = 0, _Window(), False
    state = session.state(State)
    if state is not None and state.phase == task.phase:
        try:
            module.load_state_dict(state.model)
            task.optimizer.load_state_dict(state.optimizer)
            advance.scaler.load_state_dict(state.scaler)
        except Exception as error:  # what is in it may be anything, and so what its loading raises
            raise session.foreign(error) from error
        start, window, unlogged = state.step, _Window(state.window.total, state.window.count), state.unlogged
        # the model has it now; a second one would take its room for the whole run
        session.checkpoint = state = None
    elif state is not None and state.journal_step > task.step_offset:
        raise session.foreign(f"phase {state.phase}")
    config = session.config.checkpoint
    saved_at, due = time.monotonic(), False
    for step in range(start - unlogged, task.steps):
        session.report(task.phase, step, task.steps)
        if step >= start:
            window.add(step, advance(step))
        done = step + 1
        epoch_ended = done % task.steps_per_epoch == 0
        if epoch_ended or done % session.config.log_every == 0 or done == task.steps:
            _refuse_infinite(session, task, window)
            try:
                validation = task.validate(done // task.steps_per_epoch) if epoch_ended else {}
                _log(session, task, step, window.mean() | validation)
                window, unlogged = _Window(), False
            except Interrupted:  # in the middle of a long validation, which is made again
                unlogged = True
        due = due or (epoch_ended and (done // task.steps_per_epoch) % config.epochs == 0)
        due = due or time.monotonic() - saved_at > 60 * config.minutes
        stop, save = session.agree(due)
        if save or stop or done == task.steps:
            _refuse_infinite(session, task, window)
            _refuse_infinite_weights(session, task, step)
            session.save(
                task.step_offset + done - unlogged,
                {
                    "phase": task.phase,
                    "step": done,
                    "model": module.state_dict(),
                    "optimizer": task.optimizer.state_dict(),
                    "scaler": advance.scaler.state_dict(),
                    "unlogged": unlogged,
                    "window": {"total": window.total, "count": window.count},
                    "carried": carried,
                },
            )
            saved_at, due = time.monotonic(), False
        if stop:
            session.stop(f"stopped after step {done} of {task.steps}")
    session.report(task.phase, task.steps, task.steps)


class _Window:
    """Means of the metrics since the last log line, summed on the device: reading a value there would wait for it."""

    def __init__(self, total: dict[str, Tensor] | None = None, count: int = 0) -> None:
        self.total, self.count = total or {}, count
        self._wrong: Tensor | None = None
        self._last = -1

    def add(self, step: int, metrics: dict[str, Tensor]) -> None:
        for name, value in metrics.items():
            addend = value.detach().double()
            self.total[name] = self.total[name].to(addend.device) + addend if name in self.total else addend
        self.count += 1
        # steps since the first whose sum is not finite: sums stay so
        wrong = torch.stack([total.isfinite() for total in self.total.values()]).all().logical_not()
        self._wrong = wrong.int() if self._wrong is None else self._wrong + wrong
        self._last = step

    def first_infinite(self) -> int | None:
        """The first step whose metrics are not all finite. Waits for the device."""
        steps = 0 if self._wrong is None else int(self._wrong)
        return self._last - steps + 1 if steps else None

    def mean(self) -> dict[str, float]:
        return {name: float(value) / self.count for name, value in self.total.items()}


def _refuse_infinite(session: Session, task: Task, window: _Window) -> None:
    step = window.first_infinite()
    if step is not None:
        names = [name for name, total in window.total.items() if not total.isfinite()]
        raise Diverged(
            f"{', '.join(names)} stopped being finite at step {step + 1} of {task.phase}, on images "
            f"{task.indices(step).tolist()}: {session.last_good()}"
        )


def _refuse_infinite_weights(session: Session, task: Task, step: int) -> None:
    """A step can ruin the weights whose loss was still finite: they are no checkpoint to go on from."""
    tensors = [t for t in cast(nn.Module, task.model).state_dict().values() if t.is_floating_point()]
    if not torch.stack([tensor.isfinite().all() for tensor in tensors]).all():
        raise Diverged(
            f"the weights stopped being finite by step {step + 1} of {task.phase}, on images "
            f"{task.indices(step).tolist()}: {session.last_good()}"
        )


def _log(session: Session, task: Task, step: int, metrics: dict[str, float]) -> None:
    done = step + 1
    session.log(
        {
            "step": task.step_offset + done,
            "epoch": round(done / task.steps_per_epoch, 4),
            "phase": task.phase,
            "seconds": round(session.seconds(), 3),
            "lr": task.lr(step),
        }
        | metrics
    )
