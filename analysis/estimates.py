"""A number with its uncertainty: the standard deviation over seeds, or with one seed the interval in the run's row.

A difference between two models has a 95 % interval. It is paired by seed (Student's t) if the models share two or more
seeds, else paired by image (the same test images, normal approximation), else computed from the two intervals
(Newcombe's hybrid score interval of two proportions, 1998).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats

from analysis.names import Model
from analysis.study import Study


@dataclass(frozen=True)
class Estimate:
    """The mean over seeds. With one seed `sd` is None; with several `low` and `high`, the run's interval, are None."""

    value: float
    low: float | None
    high: float | None
    sd: float | None
    n: int | None
    by_seed: dict[int, float]

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The ends of an error bar: the interval, or one standard deviation to either side."""
        if self.sd is not None:
            return self.value - self.sd, self.value + self.sd
        if self.low is None or self.high is None:
            return None
        return self.low, self.high


@dataclass(frozen=True)
class Difference:
    """A first value minus a second one, with a 95 % interval. paired_by: `seeds`, `images` or `intervals`."""

    value: float
    low: float | None
    high: float | None
    paired_by: str
    sd: float | None = None

    @property
    def clear(self) -> bool:
        """Whether the interval excludes zero."""
        return self.low is not None and self.high is not None and (self.low > 0 or self.high < 0)


def estimate(
    study: Study, model: Model, evaluation: str, metric: str, dimensions: frozenset[tuple[str, Any]] = frozenset()
) -> Estimate | None:
    """The value of a metric, with exactly these dimensions, for one model; None if no run has it."""
    frame = study.numbers.get((model, evaluation, metric, dimensions))
    if frame is None:
        return None
    by_seed = {int(seed): float(value) for seed, value in zip(frame["seed"], frame["value"], strict=True)}
    values = np.array(list(by_seed.values()))
    first = frame.iloc[0]
    n = None if frame["n"].isna().any() else int(first["n"])
    if len(values) > 1:
        return Estimate(float(values.mean()), None, None, float(values.std(ddof=1)), n, by_seed)
    low, high = (None if np.isnan(first[key]) else float(first[key]) for key in ("low", "high"))
    return Estimate(float(values[0]), low, high, None, n, by_seed)


def difference(
    study: Study, first: Model, second: Model, evaluation: str, metric: str = "accuracy"
) -> Difference | None:
    """`first` minus `second`; None if one of the two has no value."""
    one, two = estimate(study, first, evaluation, metric), estimate(study, second, evaluation, metric)
    if one is None or two is None:
        return None
    shared = sorted(one.by_seed.keys() & two.by_seed.keys())
    if len(shared) > 1:
        return _over_seeds(np.array([one.by_seed[seed] - two.by_seed[seed] for seed in shared]))
    if not shared:
        return _over_intervals(one, two)
    (seed,) = shared
    gap = one.by_seed[seed] - two.by_seed[seed]
    if metric == "accuracy":
        paired = _over_images(_hits(study, first, evaluation, seed), _hits(study, second, evaluation, seed))
        if paired is not None and abs(paired.value - gap) < 1e-6:
            return paired
    if len(one.by_seed) == len(two.by_seed) == 1:
        return _over_intervals(one, two)
    return Difference(gap, None, None, "seeds")


def _over_seeds(differences: npt.NDArray[np.float64]) -> Difference:
    mean, sd = float(differences.mean()), float(differences.std(ddof=1))
    half = float(stats.t.ppf(0.975, len(differences) - 1)) * sd / np.sqrt(len(differences))
    return Difference(mean, mean - half, mean + half, "seeds", sd)


def _hits(
    study: Study, model: Model, evaluation: str, seed: int
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]] | None:
    """Whether the prediction of each image is right, and the labels; None without predictions of this seed."""
    arrays = study.predictions(model, evaluation).get(seed)
    return None if arrays is None else (arrays["logits"].argmax(1) == arrays["labels"], arrays["labels"])


def _over_images(
    first: tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]] | None,
    second: tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]] | None,
) -> Difference | None:
    if first is None or second is None or not np.array_equal(first[1], second[1]) or len(first[0]) < 2:
        return None
    gaps = first[0].astype(float) - second[0].astype(float)
    mean, half = float(gaps.mean()), 1.96 * float(gaps.std(ddof=1)) / np.sqrt(len(gaps))
    return Difference(mean, mean - half, mean + half, "images")


def _over_intervals(one: Estimate, two: Estimate) -> Difference:
    gap = one.value - two.value
    if None in (one.low, one.high, two.low, two.high):
        return Difference(gap, None, None, "intervals")
    assert one.low is not None and one.high is not None and two.low is not None and two.high is not None
    low = gap - float(np.hypot(one.value - one.low, two.high - two.value))
    high = gap + float(np.hypot(one.high - one.value, two.value - two.low))
    return Difference(gap, low, high, "intervals")
