"""Fine-tuning of a whole pretrained network on labelled train, with snapshots of how its embeddings move."""

import copy
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from ssl_pkg.config import Config, Optimizer, View
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
from ssl_pkg.run.session import Session, SoFar
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.stages.artifacts import compact, finish_classifier, npz, source_encoder
from ssl_pkg.training.batches import ViewBatches
from ssl_pkg.training.loop import fit
from ssl_pkg.training.optimizers import build_optimizer, warmup_cosine
from ssl_pkg.training.step import Task

Carried = dict[str, dict[str, Row]]  # what each candidate of the grid has come to
AfterEpoch = Callable[[Supervised, int], dict[str, float]]


class FinetuneState(SoFar):
    """Which training a checkpoint is of, and the trials before it; not its model, which `fit` takes and lets go."""

    phase: str
    carried: Carried


class Candidate(NamedTuple):
    """One point of the grid."""

    lr: float
    weight_decay: float

    def __str__(self) -> str:
        return f"lr={self.lr:g} wd={self.weight_decay:g}"


class Phase(NamedTuple):
    """One of the trainings that a fine-tuning consists of."""

    name: str
    epochs: int
    step_offset: int
    after_epoch: AfterEpoch  # also called with 0, before the first step


def run(config: Config, interrupt_flag: InterruptFlag) -> None:
    """Chooses rate and decay on a held-out part of train, then trains on all of it."""
    dataset, hardware = open_dataset(config.data), prepare(config)
    encoder, method, resolution = source_encoder(config)
    kept, held = holdout(dataset.train.labels, config.finetune.validation_fraction)
    learnt_from = replace(dataset.train.subset(kept), name=f"train without its {len(held):,} held-out images")
    trial_batches = _batches(config, learnt_from, resolution, hardware.device)
    final_batches = _batches(config, dataset.train, resolution, hardware.device)
    rest = dataset.train.subset(held)
    grid = [Candidate(*pair) for pair in product(config.finetune.base_lrs, config.finetune.weight_decays)]

    with Session(config, hardware, interrupt_flag, dataset.manifest) as session:

        def validate(model: Supervised, epoch: int) -> dict[str, float]:
            value = _accuracy(session, model, rest, resolution)["value"]
            return {} if value is None else {"val_accuracy": float(value)}

        state = session.state(FinetuneState)
        carried: Carried = state.carried if state else {"trials": {}}
        trial_steps = config.finetune.selection_epochs * trial_batches.steps_per_epoch
        for number, candidate in enumerate(grid):
            if str(candidate) in carried["trials"]:
                continue
            trial = Phase(f"select {candidate}", config.finetune.selection_epochs, number * trial_steps, validate)
            try:
                model = _train(session, encoder, candidate, trial_batches, trial, carried=carried)
                carried["trials"][str(candidate)] = _accuracy(session, model, rest, resolution)
            except Diverged as error:  # the other candidates may do
                session.reporter.say(f"{candidate} is no candidate: {error}")
                carried["trials"][str(candidate)] = unmeasured("validation", "accuracy", len(held), "it diverged")
        best = _best(grid, carried)

        snapshots = _Snapshots(session, dataset.test, resolution)
        final = Phase("final", config.finetune.epochs, len(grid) * trial_steps, snapshots.take)
        model = _train(session, encoder, best, final_batches, final, carried=carried)
        snapshots.join(final_batches.steps_per_epoch)
        finish_classifier(
            session,
            model.classifier(),
            dataset,
            method=method,
            adaptation="finetune",
            resolution=resolution,
            rows=[
                carried["trials"][str(best)],
                row("validation", "lr", best.lr, len(held)),
                row("validation", "weight_decay", best.weight_decay, len(held)),
            ],
            tried=[
                {"candidate": name, "accuracy": entry["value"]}
                | ({"reason": entry["reason"]} if "reason" in entry else {})
                for name, entry in carried["trials"].items()
            ],
        )
        snapshots.remove()


def _best(grid: list[Candidate], carried: Carried) -> Candidate:
    """The candidate with the highest accuracy, the first of equal ones. Raises Diverged if none has an accuracy."""
    values = {candidate: carried["trials"][str(candidate)]["value"] for candidate in grid}
    measured = {candidate: value for candidate, value in values.items() if value is not None}
    if not measured:
        raise Diverged(
            f"every candidate of the fine-tuning diverged ({', '.join(map(str, grid))}): give smaller "
            "finetune.base_lrs, or look at the pretraining that it starts from"
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
    carried: Carried,
) -> Supervised:
    """One training from the pretrained encoder and a new last layer, the same for every candidate."""
    config, hardware = session.config, session.hardware
    torch.manual_seed(config.seed)
    model = Supervised(encoder=copy.deepcopy(pretrained), classes=CLASSES, batch_size=config.finetune.batch_size)
    to_device(model, hardware.device)
    optimizer = Optimizer(name="adamw", base_lr=candidate.lr, lr_scaling="none", weight_decay=candidate.weight_decay)
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
        step_offset=phase.step_offset,
    )
    state = session.state(FinetuneState)
    if state is None or state.phase != phase.name:
        phase.after_epoch(model, 0)
    fit(session, task, carried)
    return model


def _accuracy(session: Session, model: Supervised, split: Split, resolution: int) -> Row:
    """Accuracy on the held-out part of train."""
    logits = predict(
        torch.nn.Sequential(model.encoder, model.head), split, resolution, session.hardware.device,
        lambda done, total: session.at("validate", done, total),
    )  # fmt: skip
    return accuracy("validation", "accuracy", logits, split.labels)


class _Snapshots:
    """Embeddings of the same test images after chosen epochs, each in a file of its own until all are there."""

    def __init__(self, session: Session, test: Split, resolution: int) -> None:
        config = session.config.finetune
        self._session, self._resolution = session, resolution
        self._epochs = sorted(
            {round(e) for e in np.linspace(0, config.epochs, min(config.snapshots, config.epochs + 1))}
        )
        self._images = test.subset(balanced(test.labels, config.snapshot_images))
        self._folder: Path = session.file("snapshots")
        self._folder.mkdir(exist_ok=True)

    def take(self, model: Supervised, epoch: int) -> dict[str, float]:
        """Embeds after `epoch`, if it is one of those chosen. Nothing to log."""
        if epoch in self._epochs:
            frame = predict(
                model.encoder, self._images, self._resolution, self._session.hardware.device,
                lambda done, total: self._session.at("snapshot", done, total),
            )  # fmt: skip
            self._session.file(self._folder.name)
            write_atomic(self._file(epoch), npz(frame=compact(frame)))
        return {}

    def join(self, steps_per_epoch: int) -> None:
        """Joins the frames into embeddings.npz."""
        if self._session.file("embeddings.npz").exists() and not any(self._folder.iterdir()):
            return  # the run was complete before, and has lost its result
        frames = []
        for epoch in self._epochs:
            with np.load(self._file(epoch)) as content:
                frames.append(content["frame"])
        steps = np.array(self._epochs) * steps_per_epoch
        content = npz(frames=np.stack(frames), steps=steps, labels=self._images.labels)
        write_atomic(self._session.file("embeddings.npz"), content)

    def remove(self) -> None:
        """Deletes the single files: not before the run is complete, for until then it may start from them again."""
        shutil.rmtree(self._folder)

    def _file(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch:04d}.npz"
