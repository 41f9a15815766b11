"""The configuration's fields, their types and limits. `compose.py` fills it from `ssl_pkg/conf`. Imports no torch."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

Probability = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # what scikit-learn takes
BatchSize = Annotated[int, Field(ge=2)]  # batch normalisation needs two


def _areas(crop_area: tuple[float, float]) -> tuple[float, float]:
    low, high = crop_area
    if not 0 < low <= high <= 1:
        raise ValueError("it must be two fractions of the area, 0 < low <= high <= 1")
    return crop_area


CropArea = Annotated[tuple[NonNegativeFloat, NonNegativeFloat], AfterValidator(_areas)]
Stage = Literal["pretrain", "probe", "finetune", "ood", "embed", "width"]
STAGES: tuple[Stage, ...] = ("pretrain", "probe", "finetune", "ood", "embed", "width")
# The fields of other stages' sections that a stage reads: kNN's settings, and the holdout split that gives its queries.
READS: dict[str, tuple[str, ...]] = {
    "pretrain": ("probe.validation_fraction",),
    "embed": ("pretrain.knn_neighbours", "pretrain.knn_temperature"),
}
LARGEST = 3e38  # that float32 holds
RANDOM = "random"  # the `source` that stands for the random initialisation
SYNTHETIC = "synthetic"  # the `data.root` that stands for the synthetic set


class Section(BaseModel):
    """A part of the configuration: no unknown keys, no conversion of types, not changed after it was read."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _fits(self) -> "Section":
        for name, value in self:
            for number in value if isinstance(value, tuple) else (value,):
                largest = 2**53 if isinstance(number, int) else LARGEST
                if isinstance(number, int | float) and abs(number) > largest:
                    raise ValueError(f"{name} is too large: the largest number is {largest:g}")
        return self


class Jitter(Section):
    """Colour jitter: each factor is drawn as torchvision's ColorJitter draws it."""

    probability: Probability
    brightness: NonNegativeFloat
    contrast: NonNegativeFloat
    saturation: NonNegativeFloat
    hue: Annotated[float, Field(ge=0, le=0.5)]


class View(Section):
    """The distribution that one random view is drawn from."""

    crop_area: CropArea  # fraction of the image's area
    flip: Probability
    jitter: Jitter | None = None
    grey: Probability = 0.0
    blur: Probability = 0.0
    solarize: Probability = 0.0


class Optimizer(Section):
    """An optimizer and its base rate, which `lr_scaling` multiplies by B/256, sqrt(B/256) or 1."""

    name: Literal["lars", "sgd", "adamw"]
    base_lr: PositiveFloat
    lr_scaling: Literal["linear", "sqrt", "none"]
    weight_decay: NonNegativeFloat
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9  # of LARS and SGD


class Method(Section):
    """What is pretrained, on which views, and how. `model` goes to the class that its `_target_` names."""

    name: str
    model: dict[str, Any]
    split: Literal["unlabeled", "train"]
    epochs: PositiveInt
    warmup_epochs: NonNegativeFloat
    batch_size: BatchSize
    optimizer: Optimizer
    views: tuple[View, ...]


class Budget(Section):
    """How much work: sizes and lengths that the methods' YAML refers to."""

    name: str
    resolution: Annotated[int, Field(ge=32, le=96)]
    ssl_epochs: PositiveInt
    ssl_batch_size: PositiveInt
    ssl_warmup_epochs: NonNegativeFloat
    supervised_epochs: PositiveInt
    supervised_batch_size: PositiveInt
    target_decay: Probability
    online_lr: PositiveFloat
    predictor_rate: PositiveFloat
    queue_size: PositiveInt
    queue_temperature: PositiveFloat
    key_momentum: Probability
    bn_splits: PositiveInt
    query_lr: PositiveFloat
    blur: Probability  # a factor on the probabilities of blur
    max_steps: PositiveInt | None


class Study(Section):
    """Which runs a study has; read by `jobs`."""

    name: str
    methods: tuple[str, ...]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    cpus: PositiveInt


class Data(Section):
    """Where the images lie: a folder, or the word `synthetic`; and how much of them training may hold in memory."""

    root: str
    resident_gb: NonNegativeFloat
    contact_sheet: bool


class Checkpoint(Section):
    """How far apart checkpoints are, at most."""

    minutes: PositiveFloat
    epochs: PositiveInt


class Pretrain(Section):
    """Validation during pretraining by weighted kNN."""

    knn_every: PositiveInt
    knn_neighbours: PositiveInt
    knn_temperature: PositiveFloat


class Probe(Section):
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


class Finetune(Section):
    """Fine-tuning with AdamW: the grid, its trials, and the final run."""

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


class Embed(Section):
    """t-SNE (van der Maaten and Hinton 2008)."""

    perplexity: Annotated[float, Field(gt=1)]
    points: Annotated[int, Field(ge=10)]


class Width(Section):
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
            raise ValueError("line_points and plane_points must be odd, so that the model itself is the middle point")
        return self


class Config(Section):
    """The whole configuration of one run."""

    stage: Stage
    run_dir: Annotated[str, Field(min_length=1)]
    source: str | None
    seed: Seed
    variant: str  # of a sweep: what tells this run from its like in tables, e.g. `temperature=0.1`
    method: Method | None = None
    budget: Budget
    study: Study
    data: Data
    device: Literal["auto", "cpu", "cuda"]
    threads: Annotated[int, Field(ge=0, le=1024)]
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    compile: Literal["auto", "always", "never"]
    log_every: PositiveInt
    checkpoint: Checkpoint
    pretrain: Pretrain
    probe: Probe
    finetune: Finetune
    embed: Embed
    width: Width

    @model_validator(mode="after")
    def _parts_fit(self) -> "Config":
        if self.stage == "pretrain" and self.method is None:
            raise ValueError(f"stage=pretrain needs a method: give method= one of {', '.join(methods())}")
        if self.stage == "pretrain" and self.source is not None:
            raise ValueError("stage=pretrain starts from a random initialisation: leave source out")
        if self.stage != "pretrain" and self.source is None:
            raise ValueError(
                f"stage={self.stage} needs a model: give source= the run directory that holds it, or source={RANDOM}"
            )
        return self

    def relevant(self) -> dict[str, Any]:
        """The fields that this stage reads, as plain values: what `config.yaml` holds."""
        content = self.model_dump(mode="json")
        for stage in STAGES:
            if stage != self.stage:
                section = content.pop(stage, None) or {}
                if read := {name: section[name] for name in section if f"{stage}.{name}" in READS.get(self.stage, ())}:
                    content[stage] = read
        return content


def methods() -> list[str]:
    """The methods that the configuration tree knows, by name."""
    folder = Path(__file__).parent / "conf" / "method"
    return sorted(file.stem for file in folder.glob("*.yaml"))
