"""Training of a whole network on labelled train: fine-tuning, or from random weights, which is the supervised baseline.

Both have the same grid, holdout split, augmentations and number of epochs, and differ only in their initial weights.
"""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn
from typing_extensions import TypedDict

from ssl_pkg.catalogue import adapted
from ssl_pkg.config.schema import Config
from ssl_pkg.config.stage_settings import Finetune
from ssl_pkg.config.training_length import labelled_batch_size, training_length
from ssl_pkg.data.dataset import open_dataset
from ssl_pkg.data.images import Indices, Split, balanced, holdout
from ssl_pkg.evaluation.accuracy import validation_rows
from ssl_pkg.evaluation.forward import outputs
from ssl_pkg.evaluation.probe import fit_head, fit_probe
from ssl_pkg.hardware.prepare import prepare
from ssl_pkg.methods.supervised import Supervised
from ssl_pkg.models.encoder import to_device
from ssl_pkg.rows import Row
from ssl_pkg.run.directory import write_atomic
from ssl_pkg.run.session import Session
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.stages.artifacts import compact, finish_classifier, npz, source_encoder
from ssl_pkg.stages.labelled import Head, Labelled, LabelledTrainings, Trial, best, grid_of


def run(config: Config, interrupt_flag: InterruptFlag) -> None:
    """Chooses a candidate of the grid on a holdout split of train, then trains with it on all of train."""
    dataset, hardware, settings = open_dataset(config.data), prepare(config), config.finetune
    encoder, method, resolution = source_encoder(config)
    to_device(encoder, hardware.device)
    model_method, adaptation = adapted(method, config.stage)
    kept, held = holdout(dataset.train.labels, config.probe.validation_fraction)
    trial_split = replace(dataset.train.subset(kept), name=f"train without its {len(held):,} held-out images")
    with Session(config, hardware, interrupt_flag, dataset.manifest) as session:
        notes, length = _notes(settings, trial_split, dataset.train), training_length(config, len(dataset.train))
        for message in [*notes, *([str(length)] if length.passes > 1 else [])]:
            session.reporter.message(message)
        trial_passes = training_length(config, len(trial_split)).passes  # their epochs are as long as the final ones
        trainings = LabelledTrainings(session)
        grid = grid_of(settings)
        parts = len(grid) + 1  # the trials and the final training
        heads = trainings.once("probe", lambda: _heads(session, encoder, dataset.train, resolution, kept))
        trials = trainings.search(
            Labelled(encoder, trial_split, len(dataset.classes), resolution, heads["kept"], trial_passes),
            dataset.train.subset(held),
            grid,
            epochs=settings.selection_epochs,
            on_trial=lambda number: session.reporter.begin_part(number, parts),
        )
        session.reporter.begin_part(parts, parts)
        candidate, chosen = best(trials)
        snapshots = _Snapshots(session, dataset.test if adaptation else None, resolution)
        model = trainings.train(
            "final",
            Labelled(encoder, dataset.train, len(dataset.classes), resolution, heads["all"], length.passes),
            candidate,
            epochs=settings.epochs,
            after_epoch=snapshots.save_if_chosen,
            on_start=lambda model: snapshots.save_if_chosen(model, 0),
        )
        snapshots.write_embeddings(length.steps // settings.epochs)
        finish_classifier(
            session,
            model.classifier(),
            dataset,
            method=model_method,
            adaptation=adaptation,
            resolution=resolution,
            rows=_rows(chosen),
            tried=trials,
            chosen=chosen["phase"],
            notes=notes,
            training=length.record(),
        )
        snapshots.remove()


class _Heads(TypedDict):
    """The last layers with which candidates with `head="probe"` start: linear probes of the frozen encoder.

    None if no candidate starts with a probe, or if no probe can be fitted.
    """

    kept: Head | None  # fitted without the held-out images, for the trials
    all: Head | None  # fitted on all of train, for the final training


def _heads(session: Session, encoder: nn.Module, train: Split, resolution: int, kept: Indices) -> _Heads:
    """Fits both probes, with one penalty. kept: the indices of the images that are not held out.

    The penalty is chosen on the images that the trials hold out, as the candidate is. Nothing else of a trial's head
    depends on these images.
    """
    if "probe" not in session.config.finetune.heads:
        return {"kept": None, "all": None}
    report = session.report_or_stop
    features = outputs(encoder, train, resolution, session.hardware.device, partial(report, "embed"))
    probe = fit_probe(features, train.labels, session.config.probe, partial(report, "fit"))
    if probe.reason:
        return {"kept": None, "all": None}
    return {"kept": fit_head(features[kept], train.labels[kept], probe.l2).head, "all": probe.head}


def _notes(settings: Finetune, *splits: Split) -> list[str]:
    """A sentence for each split that has fewer images than a batch."""
    return [
        f"the batches of {split.name} have {labelled_batch_size(settings, len(split))} images, not finetune.batch_size="
        f"{settings.batch_size}, because it has no more"
        for split in splits
        if labelled_batch_size(settings, len(split)) < settings.batch_size
    ]


def _rows(chosen: Trial) -> list[Row]:
    """The rows of the chosen trial."""
    accuracy, loss, count = chosen["accuracy"], chosen["log_loss"], chosen["n"]
    assert accuracy is not None and loss is not None  # `best` chooses among the trials with a result
    return validation_rows(accuracy, loss, count)


class _Snapshots:
    """Embeddings of the same test images after chosen epochs, each in a file of its own until the training ends.

    test: None for the baseline, whose embeddings come from no pretraining: then no snapshots are taken.
    """

    def __init__(self, session: Session, test: Split | None, resolution: int) -> None:
        config = session.config.finetune
        self._session, self._resolution = session, resolution
        chosen = np.linspace(0, config.epochs, min(config.snapshots, config.epochs + 1))
        self._epochs = sorted({round(epoch) for epoch in chosen}) if test else []
        self._images = test.subset(balanced(test.labels, config.snapshot_images)) if test else None
        self._folder: Path = session.file("snapshots")
        self._folder.mkdir(exist_ok=True)

    def save_if_chosen(self, model: Supervised, epoch: int) -> dict[str, float]:
        """Writes the embeddings after `epoch`, if it is one of the chosen epochs. Returns no metrics."""
        if self._images and epoch in self._epochs:
            frame = outputs(
                model.encoder, self._images, self._resolution, self._session.hardware.device,
                partial(self._session.report_or_stop, "snapshot"),
            )  # fmt: skip
            self._session.verify()
            write_atomic(self._file(epoch), npz(frame=compact(frame)))
        return {}

    def write_embeddings(self, steps_per_epoch: int) -> None:
        """Writes embeddings.npz from the files of all chosen epochs."""
        if self._images is None or (self._session.file("embeddings.npz").exists() and not any(self._folder.iterdir())):
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
