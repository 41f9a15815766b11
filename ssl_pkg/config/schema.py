"""The configuration's fields, their types and limits. `compose.py` fills them from `ssl_pkg/conf`. Imports no torch.

The settings of the stages are in `stage_settings.py`.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from pydantic_core import PydanticKnownError

from ssl_pkg.catalogue import RANDOM, STAGES, Weights
from ssl_pkg.config.fields import BatchSize, ConfigSection, CropArea, Jitter, Probability, Seed
from ssl_pkg.config.presets import methods
from ssl_pkg.config.stage_settings import StageSettings

SYNTHETIC: Final = "synthetic"  # the `data.root` that stands for the synthetic set


def _in_catalogue(name: str) -> str:
    if name not in STAGES:
        *most, last = map(repr, STAGES)
        raise PydanticKnownError("literal_error", {"expected": f"{', '.join(most)} or {last}"})
    return name


class View(ConfigSection):
    """The distribution of one random view."""

    crop_area: CropArea  # smallest and largest fraction of the image's area
    flip: Probability
    jitter: Jitter | None = None
    grey: Probability = 0.0
    blur: Probability = 0.0
    solarize: Probability = 0.0


OptimizerName = Literal["lars", "sgd", "adamw"]


class OptimizerConfig(ConfigSection):
    """An optimizer and its base learning rate, which `peak_lr` (batch_sizes.py) scales."""

    name: OptimizerName
    base_lr: PositiveFloat
    lr_scaling: Literal["linear", "sqrt", "none"]
    weight_decay: NonNegativeFloat
    momentum: Annotated[float, Field(ge=0, lt=1)]  # LARS and SGD only


class MethodConfig(ConfigSection):
    """How an encoder is pretrained: the loss, the images, the schedule, the optimizer and the views.

    model: `_target_` is the class in `ssl_pkg/methods`; the other entries are its keyword arguments.
    tuned: the fields, like `optimizer.base_lr`, whose values for this budget were chosen on a holdout split of train.
        The report names them before it ranks methods.
    """

    name: str
    title: str  # for people, in figures and tables
    papers: tuple[str, ...]  # for the report's list of sources
    model: dict[str, Any]
    split: Literal["unlabeled", "train"]
    epochs: PositiveInt
    warmup_epochs: NonNegativeFloat
    batch_size: BatchSize
    optimizer: OptimizerConfig
    views: tuple[View, ...]
    tuned: tuple[str, ...] = ()


class Budget(ConfigSection):
    """The size of the images and the length of the training, to which the methods' YAML refers."""

    name: str
    resolution: Annotated[int, Field(ge=32, le=96)]
    ssl_epochs: PositiveInt
    ssl_batch_size: PositiveInt
    ssl_warmup_epochs: NonNegativeFloat
    blur: Probability  # a factor on the views' probability of blur
    min_epoch_steps: PositiveInt  # of a pretraining and of a training on labels (training_length.py)
    max_steps: PositiveInt | None  # of a pretraining


class StudyConfig(ConfigSection):
    """The runs of a study. Stages do not read this section."""

    name: str
    methods: tuple[str, ...]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]
    cpus: PositiveInt  # cores of each run
    runs_per_gpu: PositiveInt = 1  # on this machine, at a time; on a cluster each job has a GPU of its own


class DataConfig(ConfigSection):
    """The images. root: their folder, or `synthetic`. resident_gb: the largest split that is held in memory."""

    root: str
    resident_gb: NonNegativeFloat
    contact_sheet: bool


class CheckpointConfig(ConfigSection):
    """The largest distance between two checkpoints, in time and in epochs."""

    minutes: PositiveFloat
    epochs: PositiveInt


class Config(StageSettings):
    """The whole configuration of one run."""

    stage: Annotated[str, AfterValidator(_in_catalogue)]
    run_dir: Annotated[str, Field(min_length=1)]
    source: str | None
    seed: Seed
    variant: str  # in a sweep, the swept values of this run, e.g. `temperature=0.1`
    method: MethodConfig | None = None
    budget: Budget
    study: StudyConfig
    data: DataConfig
    device: Literal["auto", "cpu", "cuda"]
    threads: Annotated[int, Field(ge=0, le=1024)]
    precision: Literal["auto", "float32", "bfloat16", "float16"]
    compile: Literal["auto", "always", "never"]
    log_every: PositiveInt
    checkpoint: CheckpointConfig

    @model_validator(mode="after")
    def _parts_fit(self) -> "Config":
        trains = STAGES[self.stage].starts_from is Weights.NONE
        if trains and self.method is None:
            raise ValueError(f"stage={self.stage} needs a method: give method= one of {', '.join(methods())}")
        if trains and self.source is not None:
            raise ValueError(f"stage={self.stage} starts from a random initialisation: leave source out")
        if not trains and self.source is None:
            raise ValueError(f"stage={self.stage} needs a model: give source= its run directory, or source={RANDOM}")
        return self

    def relevant(self) -> dict[str, Any]:
        """The fields that this stage reads, as plain values for `config.yaml`."""
        content = self.model_dump(mode="json")
        for section in StageSettings.model_fields:
            fields = content.pop(section)
            if read := {name: fields[name] for name in fields if STAGES[self.stage].reads(f"{section}.{name}")}:
                content[section] = read
        return content
