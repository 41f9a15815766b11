"""The stage catalogue: which stages there are, what each starts from and leaves, and its settings. Imports no torch.

Adding an evaluation means one settings class, one field of `StageSettings` and one entry of `STAGES` in this file.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from ssl_pkg.fields import BatchSize, ConfigSection, CropArea, Fraction, Probability

RANDOM: Final = "random"  # the `source` that stands for the random initialization, and the method of its models
SUPERVISED: Final = "supervised"  # the method whose pretraining leaves a final model, not only an encoder


class Pretrain(ConfigSection):
    """Validation during pretraining by weighted kNN."""

    knn_every: PositiveInt
    knn_neighbours: PositiveInt
    knn_temperature: PositiveFloat


class Probe(ConfigSection):
    """The grid of the linear probe's l2 penalty."""

    l2_low: PositiveFloat
    l2_high: PositiveFloat
    l2_count: Annotated[int, Field(ge=1, le=10_000)]
    validation_fraction: Fraction

    @model_validator(mode="after")
    def _ordered(self) -> "Probe":
        if self.l2_low > self.l2_high:
            raise ValueError(f"probe.l2_low={self.l2_low} must not be above probe.l2_high={self.l2_high}")
        return self


class Finetune(ConfigSection):
    """Fine-tuning with AdamW: the grid of its trials, and the final training."""

    epochs: PositiveInt
    batch_size: BatchSize
    base_lrs: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    weight_decays: Annotated[tuple[NonNegativeFloat, ...], Field(min_length=1)]
    selection_epochs: PositiveInt
    validation_fraction: Fraction
    warmup_epochs: NonNegativeFloat
    crop_area: CropArea
    flip: Probability
    snapshots: Annotated[int, Field(ge=2)]
    snapshot_images: PositiveInt


class Embed(ConfigSection):
    """t-SNE (van der Maaten and Hinton 2008)."""

    perplexity: Annotated[float, Field(gt=1)]
    points: Annotated[int, Field(ge=10)]


class Width(ConfigSection):
    """Measures of the width of the optimum."""

    images: PositiveInt
    batch_size: PositiveInt
    worst_rho: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    average_rho: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]
    ascent_steps: PositiveInt
    noise_draws: PositiveInt
    pac_bayes_drop: Fraction
    pac_bayes_steps: PositiveInt
    keskar_epsilon: PositiveFloat
    lanczos_steps: Annotated[int, Field(ge=2)]
    hutchinson_draws: PositiveInt
    line_points: Annotated[int, Field(ge=3)]
    plane_points: Annotated[int, Field(ge=3)]
    landscape_radius: PositiveFloat

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
    embed: Embed
    width: Width


class Weights(StrEnum):
    """The weights that a stage starts from, or leaves."""

    NONE = "none"
    ENCODER = "encoder"  # encoder.safetensors: ResNet-18 without its last layer
    FINAL_MODEL = "final model"  # model.safetensors: an encoder with a classifier


@dataclass(frozen=True)
class Artifact:
    """An .npz file in the run directory, and the arrays in it that the report needs."""

    file: str
    arrays: tuple[str, ...]


PREDICTIONS: Final = Artifact("predictions.npz", ("logits", "labels"))


@dataclass(frozen=True)
class Stage:
    """One entry of the catalogue; `ssl_pkg/stages/NAME.py` runs the stage."""

    name: str
    heading: str  # for people
    starts_from: Weights
    leaves: Weights
    label: str = ""  # the last word in the name of a model that the stage leaves: `SimCLR fine-tuned`
    cost: float = 1.0  # relative duration; runs on the costliest chain start first
    also_reads: tuple[str, ...] = ()  # fields of other stages' settings
    artifact: Artifact | None = None

    @property
    def is_adaptation(self) -> bool:
        """Whether the stage makes a final model of an encoder."""
        return self.starts_from is Weights.ENCODER and self.leaves is Weights.FINAL_MODEL

    @property
    def is_evaluation(self) -> bool:
        """Whether the stage only measures the model that it starts from."""
        return self.leaves is Weights.NONE

    def reads(self, key: str) -> bool:
        """Whether the stage reads the field `key`, like `probe.l2_count`.

        A stage reads `method` only if it trains from random weights. Every stage reads the fields
        that are in no stage's section, like `seed`.
        """
        section = key.partition(".")[0]
        if section == "method":
            return self.starts_from is Weights.NONE
        return section not in STAGES or section == self.name or key in self.also_reads


_STAGES: Final = (
    Stage(
        "pretrain",
        "Pretraining: kNN validation",
        starts_from=Weights.NONE,
        leaves=Weights.ENCODER,  # the supervised baseline also leaves a final model
        cost=8.0,
        also_reads=("probe.validation_fraction",),  # the holdout split has the queries of kNN
        artifact=PREDICTIONS,  # only the supervised baseline has predictions
    ),
    Stage(
        "probe",
        "Linear probe: the encoder frozen in eval mode, logistic regression on cached features",
        starts_from=Weights.ENCODER,
        leaves=Weights.FINAL_MODEL,
        label="probe",
        artifact=PREDICTIONS,
    ),
    Stage(
        "finetune",
        "Fine-tuning: all weights, from the pretrained encoder",
        starts_from=Weights.ENCODER,
        leaves=Weights.FINAL_MODEL,
        label="fine-tuned",
        cost=4.0,
        artifact=PREDICTIONS,
    ),
    Stage(
        "ood",
        "Out-of-distribution accuracy",
        starts_from=Weights.FINAL_MODEL,
        leaves=Weights.NONE,
        artifact=PREDICTIONS,
    ),
    Stage(
        "embed",
        "t-SNE",
        starts_from=Weights.FINAL_MODEL,
        leaves=Weights.NONE,
        also_reads=("pretrain.knn_neighbours", "pretrain.knn_temperature"),
        artifact=Artifact("tsne.npz", ("train", "train_labels", "test", "test_labels")),
    ),
    Stage(
        "width",
        "Width of the optimum",
        starts_from=Weights.FINAL_MODEL,
        leaves=Weights.NONE,
        cost=2.0,
        artifact=Artifact("landscape.npz", ("alphas", "loss", "accuracy", "grid", "plane")),
    ),
)
STAGES: Final = {stage.name: stage for stage in _STAGES}  # in the order of the report
ADAPTATIONS: Final = tuple(stage.name for stage in _STAGES if stage.is_adaptation)
EVALUATIONS: Final = tuple(stage.name for stage in _STAGES if stage.is_evaluation)
