"""The settings of the stages: types and limits. Their default values are in `conf/config.yaml`. Imports no torch."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from ssl_pkg.config.fields import INCREASING, BatchSize, ConfigSection, CropArea, Fraction, Jitter, Probability

InitialHead = Literal["probe", "random"]  # the last layer that a labelled training starts from


class Pretrain(ConfigSection):
    """Validation during pretraining by weighted kNN."""

    knn_every: PositiveInt
    knn_neighbours: PositiveInt
    knn_temperature: PositiveFloat


class Probe(ConfigSection):
    """The grid of the linear probe's l2 penalty.

    validation_fraction: of the labelled images, for the holdout split of every choice and of kNN in pretraining.
    """

    l2_low: PositiveFloat
    l2_high: PositiveFloat
    l2_count: Annotated[int, Field(ge=1, le=10_000)]
    validation_fraction: Fraction

    @model_validator(mode="after")
    def _ordered(self) -> "Probe":
        if self.l2_low > self.l2_high:
            raise ValueError(f"l2_low={self.l2_low} must not be above l2_high={self.l2_high}")
        return self


class Finetune(ConfigSection):
    """Training of all weights with AdamW: the grid of its trials, and the final training.

    The trials are all combinations of base_lrs, weight_decays, jitters (whether the views have the colour jitter
    `jitter`) and heads.
    """

    epochs: PositiveInt
    batch_size: BatchSize
    base_lrs: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    weight_decays: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)]
    jitters: Annotated[tuple[bool, ...], Field(min_length=1)]
    heads: Annotated[tuple[InitialHead, ...], Field(min_length=1)]
    selection_epochs: PositiveInt
    warmup_epochs: NonNegativeFloat
    crop_area: CropArea
    flip: Probability
    jitter: Jitter
    snapshots: Annotated[int, Field(ge=2)]
    snapshot_images: PositiveInt


class FewLabels(ConfigSection):
    """Probes and fine-tunings on few labelled images: the sizes and the number of the subsets, and the fine-tuning.

    steps: of each training, whatever the number of images; rounded up to whole epochs if it exceeds EPOCH_STEPS
    (`stages/few_labels.py`). folds: whether the encoder is also fine-tuned on each predefined fold of train.
    base_lrs, heads: if there are several combinations, they are tried on a holdout split of each subset.
    """

    labels_per_class: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1), INCREASING]
    draws: PositiveInt
    steps: PositiveInt
    folds: bool
    base_lrs: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    weight_decay: NonNegativeFloat
    jitter: bool
    heads: Annotated[tuple[InitialHead, ...], Field(min_length=1)]


class Corruptions(ConfigSection):
    """Accuracy on corrupted test images."""

    images: PositiveInt
    severities: Annotated[tuple[Annotated[int, Field(ge=1, le=5)], ...], Field(min_length=1), INCREASING]


class Embed(ConfigSection):
    """t-SNE (van der Maaten and Hinton 2008). points: at most, of each split; None: all."""

    points: Annotated[int, Field(ge=10)] | None


class Width(ConfigSection):
    """Measures of the width of the optimum."""

    images: PositiveInt
    batch_size: PositiveInt
    worst_rho: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    ascent_images: PositiveInt
    average_rho: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    ascent_steps: PositiveInt
    noise_draws: PositiveInt
    pac_bayes_drop: Fraction
    pac_bayes_steps: PositiveInt
    keskar_epsilon: PositiveFloat
    lanczos_steps: Annotated[int, Field(ge=3)]
    hutchinson_draws: PositiveInt
    line_points: Annotated[int, Field(ge=3)]
    plane_points: Annotated[int, Field(ge=3)]
    landscape_radius: PositiveFloat
    common_l2: PositiveFloat

    @model_validator(mode="after")
    def _centred(self) -> "Width":
        if self.line_points % 2 == 0 or self.plane_points % 2 == 0:
            raise ValueError("line_points and plane_points must be odd, so that the middle point is the model itself")
        return self


class StageSettings(ConfigSection):
    """The settings of the stages, each under its stage's name. A stage without settings has no field here."""

    pretrain: Pretrain
    probe: Probe
    finetune: Finetune
    few_labels: FewLabels
    corruptions: Corruptions
    embed: Embed
    width: Width
