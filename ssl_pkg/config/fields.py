"""The types of the configuration's fields, and the base class of its sections. Imports no torch."""

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeFloat, model_validator

LARGEST: Final = 3e38  # the largest number that float32 holds

Probability = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]  # the range that scikit-learn accepts
BatchSize = Annotated[int, Field(ge=2)]  # batch normalisation needs two samples


def _ordered_fractions(crop_area: tuple[float, float]) -> tuple[float, float]:
    low, high = crop_area
    if not 0 < low <= high <= 1:
        raise ValueError("it must be two fractions of the area, 0 < low <= high <= 1")
    return crop_area


def _increasing(values: tuple[int, ...]) -> tuple[int, ...]:
    if list(values) != sorted(set(values)):
        raise ValueError("the values must be increasing")
    return values


INCREASING: Final = AfterValidator(_increasing)
CropArea = Annotated[tuple[NonNegativeFloat, NonNegativeFloat], AfterValidator(_ordered_fractions)]


class ConfigSection(BaseModel):
    """A section of the configuration: frozen, with strict types, and without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _refuse_huge_numbers(self) -> "ConfigSection":
        for name, value in self:
            for number in value if isinstance(value, tuple) else (value,):
                largest = 2**53 if isinstance(number, int) else LARGEST
                if isinstance(number, int | float) and abs(number) > largest:
                    raise ValueError(f"{name} is too large: the largest number is {largest:g}")
        return self


class Jitter(ConfigSection):
    """Colour jitter; the factors are sampled like those of torchvision's ColorJitter."""

    probability: Probability
    brightness: NonNegativeFloat
    contrast: NonNegativeFloat
    saturation: NonNegativeFloat
    hue: Annotated[float, Field(ge=0, le=0.5)]
