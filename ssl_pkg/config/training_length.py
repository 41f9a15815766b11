"""How many steps a training has on a given number of images. Imports no torch, so that it is known before a run.

A budget has epochs for thousands of images. On a hundred they would be a handful of steps, after which every accuracy
is at chance. An epoch therefore passes over a small set several times, so that it has at least `budget.min_epoch_steps`
steps. Passes, unlike more epochs, leave warm-up, validations, checkpoints and snapshots as the budget spaces them,
because these are counted in epochs.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

from ssl_pkg.catalogue import RANDOM
from ssl_pkg.config.compose import load_config
from ssl_pkg.config.presets import methods
from ssl_pkg.config.schema import Config
from ssl_pkg.config.stage_settings import Finetune
from ssl_pkg.messages.counted import counted


@dataclass(frozen=True)
class TrainingLength:
    """The length of a pretraining, or of the final training of all weights on labels.

    images: of the split. passes: over the split in an epoch; each leaves out the images that fill no batch.
    """

    split: str
    images: int
    batch_size: int
    epochs: int
    passes: int
    steps: int

    def __str__(self) -> str:
        return (
            f"an epoch passes {self.passes} times over the {self.images:,} images of {self.split}, because of "
            f"budget.min_epoch_steps, so that the training has {self.steps:,} steps"
        )

    def record(self) -> dict[str, Any]:
        """The entry `training` of result.json."""
        return asdict(self)


def labelled_batch_size(settings: Finetune, images: int) -> int:
    """The images of a batch of a training on labels: those of the settings, or all of a split that has fewer."""
    return min(settings.batch_size, images)


def training_length(config: Config, images: int) -> TrainingLength:
    """The length of the training of `config`, a stage `pretrain` or `finetune`, on a split of `images` images.

    A batch that is larger than the split counts as one step; the training refuses it.
    """
    if config.stage == "pretrain":
        assert config.method is not None  # checked in config/schema.py
        split, batch_size, epochs = config.method.split, config.method.batch_size, config.method.epochs
    else:
        split, batch_size, epochs = "train", labelled_batch_size(config.finetune, images), config.finetune.epochs
    once = max(1, images // batch_size)
    passes = ceil(config.budget.min_epoch_steps / once)
    limit = config.budget.max_steps if config.stage == "pretrain" else None
    steps = epochs * passes * once
    return TrainingLength(split, images, batch_size, epochs, passes, min(steps, limit or steps))


def study_length(study: str, images: Mapping[str, int]) -> str:
    """How long a preset study trains on so many images of the splits `train` and `unlabeled`, in words."""
    line = [f"study={study}", "data.root=-", "run_dir=-"]
    pretrainings = [load_config([*line, "stage=pretrain", f"method={name}"]) for name in methods()]
    found = [training_length(config, images[config.method.split]) for config in pretrainings if config.method]
    shortest = min(found, key=lambda length: length.steps)
    tuned = training_length(load_config([*line, "stage=finetune", f"source={RANDOM}"]), images["train"])
    if shortest.batch_size > shortest.images:
        return (
            f"{study} pretrains in batches of {shortest.batch_size}, but {shortest.split} has {shortest.images:,} "
            "images: give it a smaller method.batch_size; before its first run it says which one fits"
        )
    passes = f", {shortest.passes} passes in an epoch" if shortest.passes > 1 else ""
    return (
        f"{study} pretrains each method for {counted(shortest.steps, 'step')} in batches of {shortest.batch_size} "
        f"({counted(shortest.epochs, 'epoch')}{passes}), and trains on labels for {counted(tuned.steps, 'step')}"
    )
