"""Fine-tuning of a whole pretrained network on labelled train, with snapshots of its embeddings during training."""

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ssl_pkg.config import Config, OptimizerConfig, View
from ssl_pkg.data.dataset import open_dataset
from ssl_pkg.data.images import Split, balanced, holdout
from ssl_pkg.data.stl10 import CLASSES
from ssl_pkg.errors import Diverged
from ssl_pkg.evaluation.accuracy import accuracy
from ssl_pkg.evaluation.forward import predict
from ssl_pkg.hardware.prepare import prepare
from ssl_pkg.methods.supervised import Supervised
from ssl_pkg.models.encoder import to_device
from ssl_pkg.rows import Row, row, unmeasured
from ssl_pkg.run.directory import write_atomic
from ssl_pkg.run.resume import PhaseCheckpoint
from ssl_pkg.run.session import Session
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.stages.artifacts import compact, finish_classifier, npz, source_encoder
from ssl_pkg.training.batches import ViewBatches
from ssl_pkg.training.loop import fit
from ssl_pkg.training.optimizers import build_optimizer, warmup_cosine
from ssl_pkg.training.step import Task

Trials = dict[str, Row]  # accuracy on the holdout split, by candidate


class FinetuneCheckpoint(PhaseCheckpoint):
    """The fields of a checkpoint that this stage reads: the trials that are finished."""

    extra_state: Trials


class Candidate(NamedTuple):
    """One point of the grid."""

    lr: float
    weight_decay: float

    def __str__(self) -> str:
        return f"lr={self.lr:g} wd={self.weight_decay:g}"


class Phase(NamedTuple):
    """One of the stage's trainings: the trial of a candidate, or the final training."""

    name: str
    epochs: int
    step_offset: int  # the steps of the trainings before this one
    after_epoch: Callable[[Supervised, int], dict[str, float]]  # gets the model and the epoch, returns metrics
    on_start: Callable[[Supervised], object] = lambda model: None  # called before the first step


def run(config: Config, interrupt_flag: InterruptFlag) -> None:
    """Chooses learning rate and weight decay on a holdout split of train, then trains on all of train."""
    dataset, hardware = open_dataset(config.data), prepare(config)
    encoder, method, resolution = source_encoder(config)
    kept, held = holdout(dataset.train.labels, config.finetune.validation_fraction)
    trial_split = replace(dataset.train.subset(kept), name=f"train without its {len(held):,} held-out images")
    trial_batches = _batches(config, trial_split, resolution, hardware.device)
    final_batches = _batches(config, dataset.train, resolution, hardware.device)
    grid = [Candidate(*pair) for pair in product(config.finetune.base_lrs, config.finetune.weight_decays)]

    with Session(config, hardware, interrupt_flag, dataset.manifest) as session:
        trials = _run_trials(session, encoder, grid, trial_batches, dataset.train.subset(held), resolution=resolution)
        best = _best(grid, trials)
        snapshots = _Snapshots(session, dataset.test, resolution)
        final = Phase(
            "final", config.finetune.epochs, len(grid) * _trial_steps(config, trial_batches),
            after_epoch=snapshots.save_if_chosen, on_start=lambda model: snapshots.save_if_chosen(model, 0),
        )  # fmt: skip
        model = _train(session, encoder, best, final_batches, final, trials=trials)
        snapshots.write_embeddings(final_batches.steps_per_epoch)
        finish_classifier(
            session,
            model.classifier(),
            dataset,
            method=method,
            adaptation="finetune",
            resolution=resolution,
            rows=[
                trials[str(best)],
                row("validation", "lr", best.lr, len(held)),
                row("validation", "weight_decay", best.weight_decay, len(held)),
            ],
            tried=[
                {"candidate": name, "accuracy": entry["value"]}
                | ({"reason": entry["reason"]} if "reason" in entry else {})
                for name, entry in trials.items()
            ],
        )
        snapshots.remove()


def _trial_steps(config: Config, batches: ViewBatches) -> int:
    return config.finetune.selection_epochs * batches.steps_per_epoch


def _run_trials(
    session: Session,
    pretrained: nn.Module,
    grid: list[Candidate],
    batches: ViewBatches,
    holdout_split: Split,
    *,
    resolution: int,
) -> Trials:
    """Trains each candidate that has no result in the checkpoint, and measures its accuracy on the holdout split."""

    def validate(model: Supervised, epoch: int) -> dict[str, float]:
        value = _accuracy(session, model, holdout_split, resolution)["value"]
        return {} if value is None else {"val_accuracy": float(value)}

    config = session.config
    checkpoint = session.resume.read(FinetuneCheckpoint)
    trials = dict(checkpoint.extra_state) if checkpoint else {}
    for number, candidate in enumerate(grid):
        if str(candidate) in trials:
            continue
        step_offset = number * _trial_steps(config, batches)
        trial = Phase(f"select {candidate}", config.finetune.selection_epochs, step_offset, validate)
        try:
            model = _train(session, pretrained, candidate, batches, trial, trials=trials)
            trials[str(candidate)] = _accuracy(session, model, holdout_split, resolution)
        except Diverged as error:  # another candidate may converge
            session.reporter.message(f"{candidate} is skipped: {error}")
            trials[str(candidate)] = unmeasured("validation", "accuracy", len(holdout_split), "it diverged")
    return trials


def _best(grid: list[Candidate], trials: Trials) -> Candidate:
    """The candidate with the highest accuracy, or the first of several. Raises Diverged if none has an accuracy."""
    values = {candidate: trials[str(candidate)]["value"] for candidate in grid}
    measured = {candidate: value for candidate, value in values.items() if value is not None}
    if not measured:
        raise Diverged(
            f"every candidate of the fine-tuning diverged ({', '.join(map(str, grid))}): give smaller "
            "finetune.base_lrs, or check the pretraining that is fine-tuned"
        )
    return max(measured, key=lambda candidate: measured[candidate])


def _batches(config: Config, split: Split, resolution: int, device: torch.device) -> ViewBatches:
    view = View(crop_area=config.finetune.crop_area, flip=config.finetune.flip)
    return ViewBatches(
        split,
        [view],
        resolution=resolution,
        batch_size=config.finetune.batch_size,
        seed=config.seed,
        device=device,
        resident_gb=config.data.resident_gb,
        field="finetune.batch_size",
    )


def _train(
    session: Session,
    pretrained: nn.Module,
    candidate: Candidate,
    batches: ViewBatches,
    phase: Phase,
    *,
    trials: Trials,
) -> Supervised:
    """Trains the pretrained encoder with a new last layer, whose initial weights are the same for every candidate.

    trials: the results up to now, which go into the checkpoints.
    """
    config, hardware = session.config, session.hardware
    torch.manual_seed(config.seed)
    model = Supervised(encoder=copy.deepcopy(pretrained), classes=CLASSES, batch_size=config.finetune.batch_size)
    to_device(model, hardware.device)
    optimizer = OptimizerConfig(
        name="adamw", base_lr=candidate.lr, lr_scaling="none", weight_decay=candidate.weight_decay
    )
    steps = phase.epochs * batches.steps_per_epoch
    warmup = min(round(config.finetune.warmup_epochs * batches.steps_per_epoch), steps)
    task = Task(
        phase=phase.name,
        model=model,
        loss=model.loss,
        optimizer=build_optimizer(optimizer, model.parameter_groups()),
        lr=lambda step: candidate.lr * warmup_cosine(step, steps, warmup),
        batch=batches,
        indices=batches.indices,
        steps=steps,
        steps_per_epoch=batches.steps_per_epoch,
        validate=lambda epoch: phase.after_epoch(model, epoch),
        on_start=lambda: phase.on_start(model),
        step_offset=phase.step_offset,
    )
    fit(session, task, extra_state=trials)
    return model


def _accuracy(session: Session, model: Supervised, split: Split, resolution: int) -> Row:
    """Accuracy on the holdout split."""
    logits = predict(
        torch.nn.Sequential(model.encoder, model.head), split, resolution, session.hardware.device,
        partial(session.report_or_stop, "validate"),
    )  # fmt: skip
    return accuracy("validation", "accuracy", logits, split.labels)


class _Snapshots:
    """Embeddings of the same test images after chosen epochs, each in a file of its own until the training ends."""

    def __init__(self, session: Session, test: Split, resolution: int) -> None:
        config = session.config.finetune
        self._session, self._resolution = session, resolution
        self._epochs = sorted(
            {round(e) for e in np.linspace(0, config.epochs, min(config.snapshots, config.epochs + 1))}
        )
        self._images = test.subset(balanced(test.labels, config.snapshot_images))
        self._folder: Path = session.file("snapshots")
        self._folder.mkdir(exist_ok=True)

    def save_if_chosen(self, model: Supervised, epoch: int) -> dict[str, float]:
        """Writes the embeddings after `epoch`, if it is one of the chosen epochs. Returns no metrics."""
        if epoch in self._epochs:
            frame = predict(
                model.encoder, self._images, self._resolution, self._session.hardware.device,
                partial(self._session.report_or_stop, "snapshot"),
            )  # fmt: skip
            self._session.file(self._folder.name)  # raises Busy if another process has taken the run over
            write_atomic(self._file(epoch), npz(frame=compact(frame)))
        return {}

    def write_embeddings(self, steps_per_epoch: int) -> None:
        """Writes embeddings.npz from the files of all chosen epochs."""
        if self._session.file("embeddings.npz").exists() and not any(self._folder.iterdir()):
            return  # the run was complete, and its result.json was removed afterwards
        frames = []
        for epoch in self._epochs:
            with np.load(self._file(epoch)) as content:
                frames.append(content["frame"])
        steps = np.array(self._epochs) * steps_per_epoch
        content = npz(frames=np.stack(frames), steps=steps, labels=self._images.labels)
        write_atomic(self._session.file("embeddings.npz"), content)

    def remove(self) -> None:
        """Removes the files of the single epochs. Only for a complete run, because a resumed run needs them."""
        shutil.rmtree(self._folder)

    def _file(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch:04d}.npz"
