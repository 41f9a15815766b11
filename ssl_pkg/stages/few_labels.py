"""Few labels: linear probes and fine-tunings of one encoder on small random subsets of labelled train.

For the random encoder, fine-tuning is supervised training from scratch. Every encoder is adapted with the same subsets,
settings and number of steps, so that the models differ in their initial weights only.
"""

import math
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import Final

import numpy as np
import torch
from torch import Tensor, nn
from typing_extensions import TypedDict

from ssl_pkg.catalogue import FEW_LABELS, FOLDS
from ssl_pkg.config.schema import Config
from ssl_pkg.data.cifar10 import OutOfDistribution
from ssl_pkg.data.dataset import data_root, open_dataset
from ssl_pkg.data.images import Indices, Split, can_hold_out, holdout, random_per_class
from ssl_pkg.data.ood import open_ood
from ssl_pkg.data.stl10 import STL10
from ssl_pkg.errors import BadInput, Diverged
from ssl_pkg.evaluation.accuracy import accuracy, hits_of, over_folds, shared_classes
from ssl_pkg.evaluation.forward import Array, outputs
from ssl_pkg.evaluation.probe import fit_head, fit_probe
from ssl_pkg.hardware.prepare import prepare
from ssl_pkg.models.encoder import to_device
from ssl_pkg.rows import Adaptation, Dimensions, Row
from ssl_pkg.run.directory import write_atomic
from ssl_pkg.run.session import Session
from ssl_pkg.run.signals import InterruptFlag
from ssl_pkg.stages.artifacts import npz, source_encoder
from ssl_pkg.stages.labelled import Candidate, Head, Labelled, LabelledTrainings, best

EPOCH_STEPS: Final = 20  # for every subset; a small one is repeated within an epoch


class _Length(TypedDict):
    """How long a training is, as `LabelledTrainings.train` takes it."""

    epochs: int
    epoch_steps: int


class _Model(TypedDict):
    """A model's predictions: its hits on test (n,) and OOD (m,), as in FEW_LABELS, and its rows.

    ood_hits: None without an out-of-distribution set.
    """

    hits: Tensor
    ood_hits: Tensor | None
    rows: list[Row]


class _Probe(TypedDict):
    """A linear probe; if none could be fitted, its head is None and its penalty nan. notes: as in LinearProbe."""

    model: _Model
    head: Head | None
    l2: float
    notes: list[str]


@dataclass(frozen=True)
class _Subset:
    """Labelled images: their indices in train, and which draw or predefined fold they are."""

    dimensions: Dimensions
    indices: Indices

    @property
    def is_fold(self) -> bool:
        return "fold" in self.dimensions

    def __str__(self) -> str:
        if self.is_fold:
            return f"fold {self.dimensions['fold']}"
        return f"{self.dimensions['labels_per_class']} labels, draw {self.dimensions['draw']}"


def run(config: Config, interrupt_flag: InterruptFlag) -> None:
    """Fits a probe and a fine-tuning on each subset. A checkpoint is saved after each, and during each training."""
    dataset, hardware = open_dataset(config.data), prepare(config)
    ood = open_ood(data_root(config.data), dataset.classes)
    encoder, method, resolution = source_encoder(config)
    to_device(encoder, hardware.device)
    subsets = _subsets(dataset.train.labels, config.few_labels.labels_per_class, config.few_labels.draws)
    subsets += _folds(dataset) if config.few_labels.folds else []
    notes = _left_out(dataset.train.labels, config.few_labels.labels_per_class)
    with Session(config, hardware, interrupt_flag, dataset.manifest) as session:
        for note in notes:
            session.reporter.message(note)
        stage = _Stage(session, LabelledTrainings(session), dataset, ood, encoder, resolution)
        features = [stage.outputs(encoder, split) for split in (dataset.train, *stage.tested)]
        found: list[tuple[_Subset, Adaptation, _Model]] = []
        for number, subset in enumerate(subsets, start=1):
            session.reporter.begin_part(number, len(subsets))
            probe = stage.trainings.once(f"probe {subset}", partial(stage.probe, subset, features))
            if not subset.is_fold:  # the stage `probe` measures those of the folds
                found.append((subset, "probe", probe["model"]))
                notes += probe["notes"]
            candidate = stage.candidate(subset, features[0], probe)
            finetuned = stage.trainings.once(f"finetune {subset}", partial(stage.finetune, subset, candidate, probe))
            found.append((subset, "finetune", finetuned))
        write_atomic(session.file(FEW_LABELS.file), _arrays(found))
        session.finish(
            method=method,
            adaptation=None,
            classes=dataset.classes,
            resolution=resolution,
            rows=[*(row for _, _, model in found for row in model["rows"]), *_over_folds(found, len(dataset.test))],
            notes=notes,
        )


@dataclass(frozen=True)
class _Stage:
    """The parts that all models of the stage share."""

    session: Session
    trainings: LabelledTrainings
    dataset: STL10
    ood: OutOfDistribution | None
    encoder: nn.Module
    resolution: int

    @property
    def tested(self) -> list[Split]:
        """The splits that models are measured on: test, then the out-of-distribution set, if there is one."""
        return [self.dataset.test, *([self.ood.test] if self.ood else [])]

    def outputs(self, network: nn.Module, split: Split) -> Array:
        report = partial(self.session.report_or_stop, f"predict {split.name}")
        return outputs(network, split, self.resolution, self.session.hardware.device, report)

    def probe(self, subset: _Subset, features: list[Array]) -> _Probe:
        """Fits a probe on the subset; its penalty is chosen on a holdout split of the subset."""
        train, *tested = features
        labels = self.dataset.train.labels[subset.indices]
        report = partial(self.session.report_or_stop, f"probe {subset}")
        probe = fit_probe(train[subset.indices], labels, self.session.config.probe, report)
        logits = [probe.logits(part) for part in tested]
        return {
            "model": self._measured(subset, "probe", logits),
            "head": None if probe.reason else probe.head,
            "l2": probe.l2,
            "notes": probe.notes(str(subset)),
        }

    def candidate(self, subset: _Subset, features: Array, probe: _Probe) -> Candidate | None:
        """The setting with the best accuracy on a holdout split of the subset; None if no candidate has a result."""
        settings, fraction = self.session.config.few_labels, self.session.config.probe.validation_fraction
        grid = [
            Candidate(lr, settings.weight_decay, settings.jitter, head)
            for lr, head in product(settings.base_lrs, settings.heads)
            if head == "random" or probe["head"] is not None
        ]
        if len(grid) < 2:
            return grid[0] if grid else None
        labels = self.dataset.train.labels
        kept, held = (subset.indices[part] for part in holdout(labels[subset.indices], fraction))
        head = probe["head"] and fit_head(features[kept], labels[kept], probe["l2"]).head
        trials = self.trainings.search(
            self._start(kept, head), self.dataset.train.subset(held), grid, **self._length(), name=f"trial {subset},"
        )
        try:
            return best(trials)[0]
        except Diverged:
            return None

    def finetune(self, subset: _Subset, candidate: Candidate | None, probe: _Probe) -> _Model:
        """Trains all weights on the subset."""
        if candidate is None:
            return self._missing(subset)
        start = self._start(subset.indices, probe["head"])
        try:
            model = self.trainings.train(f"finetune {subset}", start, candidate, **self._length())
        except Diverged as error:
            self.session.reporter.message(f"fine-tuning on {subset} has no result: {error}")
            return self._missing(subset)
        return self._measured(subset, "finetune", [self.outputs(model, split) for split in self.tested])

    def _start(self, indices: Indices, head: Head | None) -> Labelled:
        """What a training starts from. A small subset is repeated, so that it fills the batches of an epoch."""
        config = self.session.config
        repeats = math.ceil(self._length()["epoch_steps"] * config.finetune.batch_size / len(indices))
        split = self.dataset.train.subset(np.tile(indices, repeats))
        named = replace(split, name=f"{len(indices):,} images of train")
        return Labelled(self.encoder, named, len(self.dataset.classes), self.resolution, head)

    def _length(self) -> _Length:
        """The same length and warm-up for every subset, so that sizes differ in their images only.

        An epoch of one or two steps, as one pass over few images has, would spend its time on checkpoints.
        """
        steps = self.session.config.few_labels.steps
        epoch_steps = min(EPOCH_STEPS, steps)
        return {"epochs": math.ceil(steps / epoch_steps), "epoch_steps": epoch_steps}

    def _measured(self, subset: _Subset, adaptation: Adaptation, logits: list[Array]) -> _Model:
        """logits: on each of `tested`."""
        names = ("folds", "folds_ood") if subset.is_fold else ("few_labels", "few_labels_ood")
        dimensions, rows, hits = subset.dimensions, [], []
        for name, own, split in zip(names, logits, self.tested, strict=False):
            rows.append(accuracy(name, "accuracy", own, split.labels, dimensions=dimensions))
            hits.append(torch.from_numpy(hits_of(own, split.labels)))
        if self.ood:
            shared = self.ood.shared
            rows += shared_classes(names[1], logits[1], self.ood.test.labels, shared, dimensions=dimensions)
        return {
            "hits": hits[0],
            "ood_hits": hits[1] if self.ood else None,
            "rows": [{**row, "adaptation": adaptation} for row in rows],
        }

    def _missing(self, subset: _Subset) -> _Model:
        """The fine-tuning that could not be trained: its logits count as not finite."""
        classes = len(self.dataset.classes)
        nothing = [np.full((len(split), classes), np.nan, np.float32) for split in self.tested]
        return self._measured(subset, "finetune", nothing)


def _subsets(labels: Indices, sizes: tuple[int, ...], draws: int) -> list[_Subset]:
    """The draws of each size that train has. All images of the smallest class give one draw only.

    If train has fewer images of a class than the smallest size, this number is the only size.
    """
    smallest = int(np.bincount(labels).min())
    sizes = sizes if smallest >= min(sizes) else (smallest,)
    return [
        _Subset({"labels_per_class": size, "draw": draw}, random_per_class(labels, size, draw))
        for size in sizes
        if size <= smallest
        for draw in range(draws if size < smallest else 1)
    ]


def _left_out(labels: Indices, sizes: tuple[int, ...]) -> list[str]:
    """A sentence about the sizes that train is too small for, if there are any."""
    smallest = int(np.bincount(labels).min())
    lacking = [str(size) for size in sizes if size > smallest]
    reason = f"because the smallest class of train has {smallest:,} images"
    return [f"few_labels.labels_per_class={','.join(lacking)} is left out, {reason}"] if lacking else []


def _folds(dataset: STL10) -> list[_Subset]:
    """The predefined folds of train. Raises BadInput if there are none, or if one can't be split for validation."""
    labels, classes = dataset.train.labels, len(dataset.classes)
    if not dataset.folds:
        raise BadInput("few_labels.folds=true needs a file fold_indices.txt beside the images of train")
    for number, fold in enumerate(dataset.folds):
        if not can_hold_out(labels[fold], classes):
            raise BadInput(
                f"few_labels.folds=true needs two images of each class in each fold; fold {number} has fewer"
            )
    return [_Subset({"fold": number}, fold) for number, fold in enumerate(dataset.folds)]


def _over_folds(found: list[tuple[_Subset, Adaptation, _Model]], count: int) -> list[Row]:
    """Mean and standard deviation over the folds on `count` test images; empty without folds."""
    wanted = [
        row
        for subset, _, model in found
        for row in model["rows"]
        if subset.is_fold and (row["evaluation"], row["metric"]) == ("folds", "accuracy")
    ]
    summary = over_folds(wanted, count, "on a fold, fine-tuning has no result") if wanted else []
    return [{**row, "adaptation": "finetune"} for row in summary]


def _arrays(found: list[tuple[_Subset, Adaptation, _Model]]) -> bytes:
    sampled = [entry for entry in found if not entry[0].is_fold]
    of_folds = [model["hits"].numpy() for subset, _, model in found if subset.is_fold]
    of_ood = [model["ood_hits"].numpy() for _, _, model in sampled if model["ood_hits"] is not None]
    return npz(
        **({"ood_hits": np.array(of_ood)} if of_ood else {}),
        **({FOLDS: np.array(of_folds)} if of_folds else {}),
        hits=np.array([model["hits"].numpy() for _, _, model in sampled]),
        labels_per_class=np.array([subset.dimensions["labels_per_class"] for subset, _, _ in sampled]),
        draw=np.array([subset.dimensions["draw"] for subset, _, _ in sampled]),
        finetuned=np.array([int(adaptation == "finetune") for _, adaptation, _ in sampled]),
    )
