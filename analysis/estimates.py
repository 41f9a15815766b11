"""A number of a model with its interval, and differences between two models, both as `analysis/statistics.py` has them.

Intervals use the predictions of the runs, which tell seeds and images apart. Without predictions, an accuracy has an
interval that is rather too long, and any other number has Student's interval over the seeds, or with one seed the
interval in the run's row.
"""

from dataclasses import dataclass, replace
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np

from analysis import calibration, statistics
from analysis.metrics import is_fraction, is_share_of_hits
from analysis.names import Model
from analysis.outcomes import Outcomes, outcomes, predicted
from analysis.statistics import Mean
from analysis.study import Study
from analysis.variance import Floats

Dimensions = frozenset[tuple[str, Any]]  # as `dimensions_of` has them
Number = tuple[Model, str, str, Dimensions]  # model, evaluation, metric and dimensions
NONE: Final[Dimensions] = frozenset()
_TOLERANCE: Final = 1e-6  # of a run's number that is computed again from its predictions
_cache: WeakKeyDictionary[Study, dict[Number, "Estimate | None"]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Estimate:
    """The mean over seeds with its 95 % interval; the interval is None if it is not known.

    sd: the standard deviation over seeds; None with one seed.
    """

    value: float
    low: float | None
    high: float | None
    sd: float | None
    n: int | None
    by_seed: dict[int, float]

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The ends of an error bar."""
        return None if self.low is None or self.high is None else (self.low, self.high)


@dataclass(frozen=True)
class Difference:
    """A first value minus a second one, with a 95 % interval and p-values, which are None if they are not known.

    paired_by: `seeds and images`, `images` or `nothing`: what the two models share. p and p_equivalent: as in
    `statistics.Difference`, not corrected for other comparisons.
    """

    value: float
    low: float | None
    high: float | None
    p: float | None
    p_equivalent: float | None
    paired_by: str

    def reversed(self) -> "Difference":
        """The second value minus the first one."""
        low, high = (None if bound is None else -bound for bound in (self.high, self.low))
        return replace(self, value=-self.value, low=low, high=high)


def estimate(
    study: Study, model: Model, evaluation: str, metric: str, dimensions: Dimensions = NONE
) -> Estimate | None:
    """The value of a metric, with exactly these dimensions, for one model; None if no run has it."""
    known = _cache.setdefault(study, {})
    number: Number = (model, evaluation, metric, dimensions)
    if number not in known:
        known[number] = _estimate(study, number)
    return known[number]


def _estimate(study: Study, number: Number) -> Estimate | None:
    frame = study.numbers.get(number)
    if frame is None:
        return None
    by_seed = {int(seed): float(value) for seed, value in zip(frame["seed"], frame["value"], strict=True)}
    values = np.array(list(by_seed.values()))
    first = frame.iloc[0]
    n = None if frame["n"].isna().any() else int(first["n"])
    if len(values) == 1 and not np.isnan([first["low"], first["high"]]).any():
        return Estimate(float(values[0]), float(first["low"]), float(first["high"]), None, n, by_seed)
    found = _interval(study, number, by_seed, n)
    low, high = (found.low, found.high) if found else (None, None)
    sd = float(values.std(ddof=1)) if len(values) > 1 else None
    return Estimate(float(values.mean()), low, high, sd, n, by_seed)


def _interval(study: Study, number: Number, by_seed: dict[int, float], n: int | None) -> Mean | None:
    values, seeds = np.array(list(by_seed.values())), tuple(by_seed)
    model, evaluation, metric, _ = number
    found = _outcomes(study, number, by_seed)
    if found is not None and metric == "ece":
        images = predicted(study, model, evaluation)
        rows = [images.seeds.index(seed) for seed in seeds] if images else []
        return calibration.error(images.confidence[rows], images.hits[rows]) if images else None
    if found is not None:
        return statistics.mean(found.of(seeds), share=is_fraction(metric))
    if len(values) > 1 and is_share_of_hits(metric) and n is not None and n > 1:
        return statistics.proportion(values, n)
    return statistics.over_seeds(values) if len(values) > 1 else None


def _outcomes(study: Study, number: Number, by_seed: dict[int, float]) -> Outcomes | None:
    """The contributions of the images; None unless they have all seeds and agree with the runs' numbers."""
    found = outcomes(study, *number)
    if found is None or not set(by_seed) <= set(found.seeds):
        return None
    means: Floats = found.of(tuple(by_seed)).mean(axis=1)
    return found if np.allclose(means, list(by_seed.values()), rtol=0, atol=_TOLERANCE) else None


def difference(
    study: Study,
    first: Model,
    second: Model,
    evaluation: str,
    metric: str = "accuracy",
    *,
    dimensions: Dimensions = NONE,
) -> Difference | None:
    """`first` minus `second`; None if one of the two has no value.

    Two models with the same encoder are compared over the seeds that both have.
    """
    kind = (evaluation, metric, dimensions)
    one, two = estimate(study, first, *kind), estimate(study, second, *kind)
    if one is None or two is None:
        return None
    values = one.by_seed, two.by_seed
    shared = sorted(values[0].keys() & values[1].keys())
    same_seeds = study.same_encoders(first, second, shared) and bool(shared)
    if same_seeds:
        values = {seed: values[0][seed] for seed in shared}, {seed: values[1][seed] for seed in shared}
    left, right = _outcomes(study, (first, *kind), values[0]), _outcomes(study, (second, *kind), values[1])
    if left is not None and right is not None:
        tables = left.of(tuple(values[0])), right.of(tuple(values[1]))
        same_images = np.array_equal(left.labels, right.labels)
        share = is_share_of_hits(metric)
        found = statistics.difference(*tables, same_images=same_images, same_seeds=same_seeds, share=share)
        seeds_too = same_seeds and len(shared) > 1
        return _recorded(found, metric, ("seeds and images" if seeds_too else "images") if same_images else "nothing")
    whole = [len(own) for own in values] == [len(one.by_seed), len(two.by_seed)]  # the intervals are of all seeds
    if one.bounds and two.bounds and whole:
        found = statistics.difference_of_intervals(Mean(one.value, *one.bounds), Mean(two.value, *two.bounds))
        return _recorded(found, metric, "nothing")
    means = [float(np.mean(list(own.values()))) for own in values]
    return Difference(means[0] - means[1], None, None, None, None, "nothing")


def _recorded(found: statistics.Difference, metric: str, paired_by: str) -> Difference:
    p_equivalent = found.p_equivalent if is_share_of_hits(metric) else None  # the margin is one of accuracy
    return Difference(found.value, found.low, found.high, found.p, p_equivalent, paired_by)
