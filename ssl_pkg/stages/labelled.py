"""Trainings on labelled images: a classifier from an encoder, and the search of its hyperparameters on a holdout split.

Fine-tuning, the supervised baseline and the few-label runs share this module, so that they differ only in the encoder
that they start from and in the images.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any, NamedTuple, NotRequired, TypeVar

import torch
from torch import Tensor, nn
from typing_extensions import TypedDict

from ssl_pkg.config.schema import View
from ssl_pkg.config.stage_settings import Finetune, InitialHead
from ssl_pkg.config.training_length import labelled_batch_size
from ssl_pkg.data.images import Split
from ssl_pkg.errors import Diverged
from ssl_pkg.evaluation.accuracy import log_loss, not_finite
from ssl_pkg.evaluation.forward import outputs
from ssl_pkg.methods.supervised import Supervised
from ssl_pkg.models.encoder import to_device
from ssl_pkg.run.resume import PhaseCheckpoint
from ssl_pkg.run.session import Session
from ssl_pkg.training.batches import ViewBatches
from ssl_pkg.training.loop import fit
from ssl_pkg.training.optimizers import build_optimizer, lr_schedule
from ssl_pkg.training.step import Task

Head = dict[str, Tensor]  # the state dict of a linear layer: weight (C, 512) and bias (C,)
Result = TypeVar("Result")


class Candidate(NamedTuple):
    """One point of the grid.

    jitter: whether the views have colour jitter. head: what the last layer starts from, the weights of a linear probe
    (LP-FT, Kumar et al. 2202.10054, section 3.4) or random weights.
    """

    lr: float
    weight_decay: float
    jitter: bool
    head: InitialHead

    def __str__(self) -> str:
        jitter = "on" if self.jitter else "off"
        return f"lr {self.lr:g}, weight decay {self.weight_decay:g}, jitter {jitter}, {self.head} head"


class Trial(TypedDict):
    """A candidate and its result on the holdout split, as in result.json."""

    phase: str  # of the trial's lines in the metrics log
    lr: float
    weight_decay: float
    jitter: bool
    head: InitialHead
    accuracy: float | None  # None if the trial has no result
    log_loss: float | None
    n: int  # held-out images
    reason: NotRequired[str]  # why there is no result


class _LabelledState(TypedDict):
    """What the checkpoints of LabelledTrainings hold beside the model of the current training."""

    finished: dict[str, Any]
    steps: int


class LabelledCheckpoint(PhaseCheckpoint):
    """The fields of a checkpoint of LabelledTrainings."""

    extra_state: _LabelledState


@dataclass(frozen=True)
class Labelled:
    """What a labelled training starts from, and its images.

    encoder: stays unchanged, because each training copies it. split: the images to train on. classes: their number.
    resolution: in pixels. passes: over the split in an epoch.
    head: the initial last layer of a candidate with `head="probe"`; None if no probe could be fitted. It must come from
    these images only: a head that was fitted on held-out images would make their accuracy meaningless.
    """

    encoder: nn.Module
    split: Split
    classes: int
    resolution: int
    head: Head | None = None
    passes: int = 1


@dataclass
class LabelledTrainings:
    """The labelled trainings of one run, one after another. Each is a phase of the run, and can be resumed.

    A stage calls `once`, `train` and `search` in a fixed order. A resumed run makes the same calls: finished units
    return their results from the checkpoint, and the training that was interrupted continues.
    """

    session: Session
    _finished: dict[str, Any] = field(init=False)  # results of finished units, by name
    _steps: int = field(init=False)  # of the trainings up to now

    def __post_init__(self) -> None:
        checkpoint = self.session.resume.read(LabelledCheckpoint)
        self._finished = dict(checkpoint.extra_state["finished"]) if checkpoint else {}
        self._steps = checkpoint.extra_state["steps"] if checkpoint else 0

    def once(self, name: str, compute: Callable[[], Result]) -> Result:
        """The result of the unit `name`: computed and saved in a checkpoint, or read from one.

        compute: calls `train` at most once; its result consists of numbers, texts, tensors, lists and dicts.
        """
        if name not in self._finished:
            self._finished[name] = compute()
            self.session.save(self._steps, {"phase": name, "extra_state": self._state()})
        result: Result = self._finished[name]
        return result

    def train(
        self,
        name: str,
        start: Labelled,
        candidate: Candidate,
        *,
        epochs: int,
        epoch_steps: int | None = None,
        after_epoch: Callable[[Supervised, int], dict[str, float]] = lambda model, epoch: {},
        on_start: Callable[[Supervised], object] = lambda model: None,
    ) -> Supervised:
        """Trains a copy of the encoder with a last layer on `start.split`, with the settings `finetune`.

        name: of the phase. epoch_steps: the number of steps in an epoch; by default, `start.passes` passes over the
        split. Warm-up, checkpoints and the length are counted in epochs. after_epoch: gets the model and the number of
        finished epochs, and returns metrics to log. on_start: called with the model before the first step. Raises
        Diverged as `fit` does.
        """
        session, settings = self.session, self.session.config.finetune
        batches = _batches(session, start, candidate)
        model = _classifier(session, start, candidate)
        steps_per_epoch = epoch_steps or batches.steps_per_epoch
        steps = epochs * steps_per_epoch
        task = Task(
            phase=name,
            model=model,
            loss=model.loss,
            optimizer=build_optimizer("adamw", model.parameter_groups(), weight_decay=candidate.weight_decay),
            lr=lr_schedule(candidate.lr, settings.warmup_epochs, steps, steps_per_epoch),
            batch=batches,
            indices=batches.indices,
            steps=steps,
            steps_per_epoch=steps_per_epoch,
            validate=lambda epoch: after_epoch(model, epoch),
            on_start=lambda: on_start(model),
            step_offset=self._steps,
        )
        state = self._state()
        self._steps += steps  # also if the training diverges, so that each step number occurs once in the log
        fit(session, task, extra_state=state)
        return model

    def search(
        self,
        start: Labelled,
        held: Split,
        grid: Sequence[Candidate],
        *,
        epochs: int,
        epoch_steps: int | None = None,
        name: str = "trial",
        on_trial: Callable[[int], object] = lambda number: None,
    ) -> list[Trial]:
        """Trains each candidate on `start.split` and measures it on the images `held`, also after each epoch.

        epoch_steps: as for `train`. name: of the search; the trial of candidate k is the phase `NAME K`, from 1.
        on_trial: called with k before it.
        """
        trials = []
        for number, candidate in enumerate(grid, start=1):
            on_trial(number)
            phase = f"{name} {number}"
            trial = partial(self._trial, phase, start, held, candidate, epochs=epochs, epoch_steps=epoch_steps)
            trials.append(self.once(phase, trial))
        return trials

    def _trial(
        self, phase: str, start: Labelled, held: Split, candidate: Candidate, *, epochs: int, epoch_steps: int | None
    ) -> Trial:
        trial = _without_result(phase, candidate, len(held))

        def measured(model: Supervised) -> Trial:
            logits = outputs(
                model, held, start.resolution, self.session.hardware.device,
                partial(self.session.report_or_stop, "validate"),
            )  # fmt: skip
            if reason := not_finite("logits", logits):
                return {**trial, "reason": reason}
            accuracy = float((logits.argmax(axis=1) == held.labels).mean())
            return {**trial, "accuracy": accuracy, "log_loss": log_loss(logits, held.labels)}

        def validate(model: Supervised, epoch: int) -> dict[str, float]:
            found = measured(model)
            values = {"val_accuracy": found["accuracy"], "val_loss": found["log_loss"]}
            return {name: value for name, value in values.items() if value is not None}

        if candidate.head == "probe" and start.head is None:
            return {**trial, "reason": "no probe could be fitted"}
        try:
            model = self.train(phase, start, candidate, epochs=epochs, epoch_steps=epoch_steps, after_epoch=validate)
            return measured(model)
        except Diverged as error:  # another candidate may converge
            self.session.reporter.message(f"{candidate} is skipped: {error}")
            return {**trial, "reason": "it diverged"}

    def _state(self) -> _LabelledState:
        return {"finished": self._finished, "steps": self._steps}


def grid_of(settings: Finetune) -> list[Candidate]:
    """All candidates of the grid, in the order in which they are tried."""
    return [
        Candidate(*point)
        for point in product(settings.base_lrs, settings.weight_decays, settings.jitters, settings.heads)
    ]


def best(trials: Sequence[Trial]) -> tuple[Candidate, Trial]:
    """The trial with the highest accuracy on the holdout split, of equal ones the one with the smallest log loss.

    Raises Diverged if no trial has a result.
    """
    measured = [trial for trial in trials if trial["accuracy"] is not None]
    if not measured:
        reasons = "; ".join(f"{_candidate(trial)}: {trial.get('reason')}" for trial in trials)
        raise Diverged(
            f"no candidate of the grid has a result ({reasons}): give smaller finetune.base_lrs, or check the "
            "pretraining that is fine-tuned"
        )
    # min takes the first of equal trials
    chosen = min(measured, key=lambda trial: (-(trial["accuracy"] or 0.0), trial["log_loss"] or 0.0))
    return _candidate(chosen), chosen


def _candidate(trial: Trial) -> Candidate:
    return Candidate(trial["lr"], trial["weight_decay"], trial["jitter"], trial["head"])


def _batches(session: Session, start: Labelled, candidate: Candidate) -> ViewBatches:
    config = session.config
    settings = config.finetune
    view = View(crop_area=settings.crop_area, flip=settings.flip, jitter=settings.jitter if candidate.jitter else None)
    return ViewBatches(
        start.split,
        [view],
        resolution=start.resolution,
        batch_size=labelled_batch_size(settings, len(start.split)),
        passes=start.passes,
        seed=config.seed,
        device=session.hardware.device,
        resident_gb=config.data.resident_gb,
    )


def _classifier(session: Session, start: Labelled, candidate: Candidate) -> Supervised:
    """A copy of the encoder with the candidate's last layer. Random weights are the same for every candidate."""
    torch.manual_seed(session.config.seed)
    model = Supervised(encoder=copy.deepcopy(start.encoder), classes=start.classes)
    if candidate.head == "probe":
        assert start.head is not None  # `search` skips the candidate
        model.head.load_state_dict(start.head)
    to_device(model, session.hardware.device)
    return model


def _without_result(phase: str, candidate: Candidate, count: int) -> Trial:
    return {
        "phase": phase,
        "lr": candidate.lr,
        "weight_decay": candidate.weight_decay,
        "jitter": candidate.jitter,
        "head": candidate.head,
        "accuracy": None,
        "log_loss": None,
        "n": count,
    }
