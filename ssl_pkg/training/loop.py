"""The training loop of every stage that trains a network."""

import time
from collections.abc import Mapping
from typing import Any, NoReturn, Protocol, cast

import torch
from pydantic import NonNegativeInt
from torch import nn

from ssl_pkg.config.schema import Config
from ssl_pkg.errors import Diverged, Interrupted
from ssl_pkg.hardware.prepare import Hardware
from ssl_pkg.run.resume import PhaseCheckpoint, Resume
from ssl_pkg.training.metrics import AveragerState, MetricAverager
from ssl_pkg.training.step import Step, Task


class TrainingSession(Protocol):
    """What the loop needs of a session. Session provides it on rank 0, WorkerSession on the other ranks."""

    config: Config
    hardware: Hardware
    resume: Resume

    def seconds(self) -> float: ...  # noqa: D102 - see Session, also for the other methods
    def report(self, phase: str, step: int, steps: int) -> None: ...  # noqa: D102
    def log(self, line: dict[str, Any]) -> None: ...  # noqa: D102
    def save(self, metrics_step: int, state: Mapping[str, Any]) -> None: ...  # noqa: D102
    def decide(self, checkpoint_due: bool) -> tuple[bool, bool]: ...  # noqa: D102
    def stop(self, reason: str) -> NoReturn: ...  # noqa: D102
    def last_good_checkpoint(self) -> str: ...  # noqa: D102


class TrainingCheckpoint(PhaseCheckpoint):
    """The fields of a checkpoint of a training."""

    step: NonNegativeInt  # the number of finished steps
    model: dict[str, Any]
    optimizer: dict[str, Any]  # not read after the last step, and then saved empty
    scaler: dict[str, Any]
    averager: AveragerState
    log_pending: bool  # whether the last step's line is not logged yet, because a signal interrupted its validation


def fit(session: TrainingSession, task: Task, extra_state: Any) -> None:
    """Trains `task.model`, from the session's checkpoint if that is one of this training.

    extra_state: what the stage needs beside this training to resume, such as the results of earlier trainings. Each
    checkpoint contains it.

    Raises Interrupted if a signal arrived, when a checkpoint is on disk; OSError if that checkpoint can't be written;
    Diverged if the metrics or the weights are no longer finite.
    """
    cast(nn.Module, task.model).train()
    run_step = Step(task, session.hardware)
    first_step, averager, log_pending = _restore(session, task, run_step)
    config = session.config.checkpoint
    saved_at, due = time.monotonic(), False
    for step in range(first_step - log_pending, task.steps):
        session.report(task.phase, step, task.steps)
        if step >= first_step:
            averager.add(step, run_step(step))
        done = step + 1
        epoch_ended = done % task.steps_per_epoch == 0
        if epoch_ended or done % session.config.log_every == 0 or done == task.steps:
            _raise_if_metrics_diverged(session, task, averager)
            try:
                validation = task.validate(done // task.steps_per_epoch) if epoch_ended else {}
                _log(session, task, step, averager.mean() | validation)
                averager, log_pending = MetricAverager(), False
            except Interrupted:  # during the validation, which the resumed run repeats
                log_pending = True
        due = due or (epoch_ended and (done // task.steps_per_epoch) % config.epochs == 0)
        due = due or time.monotonic() - saved_at > 60 * config.minutes
        stop, save = session.decide(due)
        if save or stop or done == task.steps:
            _raise_if_metrics_diverged(session, task, averager)
            _raise_if_weights_diverged(session, task, step)
            state = _state(task, run_step, done, averager, log_pending)
            session.save(task.step_offset + done - log_pending, {**state, "extra_state": extra_state})
            saved_at, due = time.monotonic(), False
        if stop:
            session.stop(f"stopped after step {done} of {task.steps}")
    session.report(task.phase, task.steps, task.steps)


def _state(task: Task, run_step: Step, done: int, averager: MetricAverager, log_pending: bool) -> dict[str, Any]:
    """The fields of TrainingCheckpoint after `done` steps, from which `_restore` continues."""
    return {
        "phase": task.phase,
        "step": done,
        "model": cast(nn.Module, task.model).state_dict(),
        # No step will read it after the last one. AdamW's state is twice as large as the weights.
        "optimizer": task.optimizer.state_dict() if done < task.steps else {},
        "scaler": run_step.scaler.state_dict(),
        "averager": averager.state(),
        "log_pending": log_pending,
    }


def _restore(session: TrainingSession, task: Task, run_step: Step) -> tuple[int, MetricAverager, bool]:
    """Loads the checkpoint, if there is one of this training. Returns the first step to run, the averager, and whether
    the line of the step before is still to be logged."""
    checkpoint = session.resume.take(TrainingCheckpoint, task.phase, task.step_offset)
    if checkpoint is None:
        task.on_start()
        return 0, MetricAverager(), False
    try:
        cast(nn.Module, task.model).load_state_dict(checkpoint.model)
        if checkpoint.step < task.steps:
            task.optimizer.load_state_dict(checkpoint.optimizer)
        run_step.scaler.load_state_dict(checkpoint.scaler)
    except Exception as error:  # the fields' contents are not validated, so that loading them can raise anything
        raise session.resume.mismatch(error) from error
    return checkpoint.step, MetricAverager(checkpoint.averager), checkpoint.log_pending


def _raise_if_metrics_diverged(session: TrainingSession, task: Task, averager: MetricAverager) -> None:
    step = averager.first_nonfinite_step()
    if step is not None:
        names = [name for name, total in averager.total.items() if not total.isfinite()]
        raise Diverged(
            f"{', '.join(names)} stopped being finite at step {step + 1} of {task.phase}, on images "
            f"{task.indices(step).tolist()}: {session.last_good_checkpoint()}"
        )


def _raise_if_weights_diverged(session: TrainingSession, task: Task, step: int) -> None:
    """A step with a finite loss can still leave weights that are not finite. These must not get into a checkpoint."""
    tensors = [t for t in cast(nn.Module, task.model).state_dict().values() if t.is_floating_point()]
    if not torch.stack([tensor.isfinite().all() for tensor in tensors]).all():
        raise Diverged(
            f"the weights stopped being finite by step {step + 1} of {task.phase}, on images "
            f"{task.indices(step).tolist()}: {session.last_good_checkpoint()}"
        )


def _log(session: TrainingSession, task: Task, step: int, metrics: dict[str, float]) -> None:
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
