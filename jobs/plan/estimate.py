"""Estimates the time and the disk space of a study's runs before they start. Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from jobs.ledger import REPORT
from jobs.plan.graph import Job
from ssl_pkg import layout
from ssl_pkg.config.compose import load_config
from ssl_pkg.config.schema import SYNTHETIC, Config
from ssl_pkg.config.training_length import labelled_batch_size, training_length

GPU: Final = "H100"  # the device of all rates below
# Measured: pairs per second at 96 px in batches of 256, in bfloat16 and compiled (docs/performance.md, "On a GPU").
PAIRS_PER_SECOND: Final = {"simclr": 27_000, "byol": 17_700, "moco": 28_200}
MEASURED_RESOLUTION: Final = 96
COMPILE_SECONDS: Final = 40.0  # measured, likewise
# Not measured: a training step of a batch of labelled images. The step of SimCLR, which has eight times as many images
# at the default batch sizes, counts as its upper bound.
LABELLED_STEP_SECONDS: Final = 256 / PAIRS_PER_SECOND["simclr"]
OTHER_SECONDS: Final = 120.0  # a guess for a run of another stage
TRAININGS: Final = ("pretrain", "finetune", "few_labels")  # the stages that train all weights
STL10_FOLDS: Final = 10  # the predefined folds of train

# What a complete run leaves, in MB: the weights and the last two checkpoints, for `pretrain` those of BYOL. The
# checkpoint of the last step lacks the optimizer's state.
DISK_MB: Final = {"pretrain": 365, "finetune": 230, "probe": 46}
OTHER_DISK_MB: Final = 3
THIRD_CHECKPOINT_MB: Final = 200  # of a training, while it is written and two are kept


@dataclass(frozen=True)
class Estimate:
    """What one run needs. measured: whether its GPU time follows from measured rates."""

    gpu_seconds: float
    disk_mb: float
    measured: bool = False


def images_of(root: str | None) -> dict[str, int]:
    """The number of images of the splits `train` and `unlabeled`. None stands for STL-10 as published."""
    if root is None:
        return dict(layout.PUBLISHED)
    if root == SYNTHETIC:
        return dict(layout.SYNTHETIC_IMAGES)
    return {split: layout.images_in(Path(root), split) for split in layout.PUBLISHED}


def estimate(job: Job, images: Mapping[str, int]) -> Estimate:
    """The needs of one job. images: of `images_of`. The report needs no GPU and hardly any disk."""
    if job.stage == REPORT:
        return Estimate(0.0, OTHER_DISK_MB)
    disk = DISK_MB.get(job.stage, OTHER_DISK_MB)
    config = _configuration_of(job)
    if config.method is not None:
        return Estimate(_pretraining_seconds(config, images), disk, measured=config.method.name in PAIRS_PER_SECOND)
    steps = {"finetune": _finetune_steps, "few_labels": _few_labels_steps}.get(job.stage)
    if steps is None:
        return Estimate(OTHER_SECONDS, disk)
    return Estimate(OTHER_SECONDS + steps(config, images["train"]) * LABELLED_STEP_SECONDS, disk)


def workloads(jobs: Sequence[Job], root: str) -> dict[str, float]:
    """The relative durations of a plan's jobs on one machine, with the images below `root`.

    The unit is one image through the network, because on CPUs pretraining, fine-tuning and the trainings on few labels
    process about as many images per second. A training counts its images. Any other job counts its `cost` in the
    catalogue, times the images per cost of `few_labels`, because the length of both depends on the budget and hardly on
    the data set.
    """
    images, classes = images_of(root), layout.CLASSES if root == SYNTHETIC else layout.classes_in(Path(root))
    # one job stands for all of its stage, because composing the configuration of each would take seconds in a sweep
    trained = {job.stage: _trained_images(job, images, classes) for job in reversed(jobs) if job.stage in TRAININGS}
    few = next((job for job in jobs if job.stage == "few_labels"), None)
    unit = trained["few_labels"] / few.cost if few else 1.0
    return {job.name: trained.get(job.stage, unit * job.cost) for job in jobs}


def _trained_images(job: Job, images: Mapping[str, int], classes: int) -> float:
    config, train = _configuration_of(job), images["train"]
    if config.method is not None:
        return 2.0 * config.method.batch_size * training_length(config, images[config.method.split]).steps
    if job.stage == "finetune":
        return float(_finetune_steps(config, train) * labelled_batch_size(config.finetune, train))
    sizes = tuple(size for size in config.few_labels.labels_per_class if size * classes <= train)
    left = config.few_labels.model_copy(update={"labels_per_class": sizes or (train // classes,)})
    return float(_few_labels_steps(config.model_copy(update={"few_labels": left}), train) * config.finetune.batch_size)


def _configuration_of(job: Job) -> Config:
    # the words that differ between seeds are left out, so that the configuration is composed once for all of them
    method = f"method={job.method}" if job.stage == "pretrain" else "source=random"
    return _configuration((f"stage={job.stage}", method, _study(job), *job.settings))


@cache
def _configuration(words: tuple[str, ...]) -> Config:
    return load_config([*words, "run_dir=-", "data.root=-"])


def _study(job: Job) -> str:
    return next(word for word in job.overrides if word.startswith("study="))


def _pretraining_seconds(config: Config, images: Mapping[str, int]) -> float:
    """An unknown method counts as the slowest of the measured ones."""
    method, scale = config.method, (config.budget.resolution / MEASURED_RESOLUTION) ** 2
    assert method is not None
    pairs = method.batch_size * training_length(config, images[method.split]).steps
    return COMPILE_SECONDS + pairs * scale / PAIRS_PER_SECOND.get(method.name, min(PAIRS_PER_SECOND.values()))


def _finetune_steps(config: Config, train: int) -> int:
    """The steps of all trials and of the final training."""
    settings, final = config.finetune, training_length(config, train)
    candidates = len(settings.base_lrs) * len(settings.weight_decays) * len(settings.jitters) * len(settings.heads)
    trial = training_length(config, round(train * (1 - config.probe.validation_fraction)))
    return candidates * settings.selection_epochs * (trial.steps // trial.epochs) + final.steps


def _few_labels_steps(config: Config, train: int) -> int:
    """The steps of the trainings on all draws, each after its trials. Sizes that the data set lacks count too."""
    settings = config.few_labels
    candidates = len(settings.base_lrs) * len(settings.heads)
    subsets = len(settings.labels_per_class) * settings.draws + (STL10_FOLDS if settings.folds else 0)
    return subsets * (1 + (candidates if candidates > 1 else 0)) * settings.steps
