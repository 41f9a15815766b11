"""Intervals, tests and corrections for numbers that are means over seeds and test images. Arrays only, no study.

`analysis/variance.py` has the model of their variance. A hierarchical bootstrap over seeds and images estimates the
same variance, but with S seeds it sees (S - 1)/S of the seeds' part, and its percentiles ignore that S is small: with
3 seeds the nominal 95 % covered less than 90 % in the simulation of tests/unit/analysis/test_analysis_coverage.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special, stats

from analysis.variance import NOTHING, Floats, Part, Spread, Values, of_difference, of_mean, of_seeds
from analysis.words import N_
from ssl_pkg.intervals import wilson

LEVEL: Final = 0.95
ALPHA: Final = 0.05
MARGIN: Final = 0.01  # differences of accuracy within one percentage point count as equivalent


@dataclass(frozen=True)
class Mean:
    """A mean over seeds and images with its interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """A mean minus another, with its 95 % interval.

    p: two-sided, of the hypothesis that the difference is zero. p_equivalent: of the hypothesis that the difference
    is not within MARGIN of zero (two one-sided tests).
    """

    value: float
    low: float
    high: float
    p: float
    p_equivalent: float


def mean(values: Values, *, share: bool = False) -> Mean:
    """The mean of values (S, n) or (S, D, n) with its interval. Raises ValueError with fewer than two images.

    share: whether the mean is a share of hits though the values are not single hits, such as an image's mean over
    conditions. Hits and shares have Wilson's score interval (1927), which stays within 0 and 1 and has a length at 0
    and 1: for the hits of one training the usual one, otherwise that of the effective number of images,
    p(1 - p) / variance, and Student's quantile (as for cluster samples: Korn and Graubard 1998; Franco, Little, Louis
    and Slud 2019). Other values have a t interval.
    """
    _check(values)
    spread = of_mean(values)
    if values.dtype == np.bool_ or share:
        single = values.dtype == np.bool_ and values.size == values.shape[-1]
        return _share(spread, values.shape[-1], single=single)
    return Mean(spread.centre, *spread.interval(LEVEL))


def proportion(shares: Floats, images: int) -> Mean:
    """The mean of shares (S,) of the same images, whose hits are not known, with an interval that is rather too long.

    The hits are needed to tell which part of p(1 - p) the images explain; here they are taken to explain all of it.
    """
    centre = float(shares.mean())
    image_part = Part(centre * (1 - centre) / images, images - 1)
    return _share(Spread(centre, of_seeds(shares), image_part), images, single=len(shares) == 1)


def _share(spread: Spread, images: int, *, single: bool) -> Mean:
    """Wilson's interval of a share; single: of the hits of one training."""
    share, tail = spread.centre * (1 - spread.centre), (1 - LEVEL) / 2
    if single or spread.error == 0 or share <= 0:
        return Mean(spread.centre, *wilson(spread.centre * images, images, -float(special.ndtri(tail))))
    count = share / spread.error**2
    return Mean(spread.centre, *wilson(spread.centre * count, count, spread.quantile(tail)))


def over_seeds(values: Floats) -> Mean:
    """Student's t interval of the mean of values (S,), one a seed. Raises ValueError with fewer than two seeds."""
    if len(values) < 2:
        raise ValueError(f"an interval over seeds needs two seeds, not {len(values)}")
    spread = Spread(float(values.mean()), of_seeds(values), NOTHING)
    return Mean(spread.centre, *spread.interval(LEVEL))


def difference(
    first: Values,
    second: Values,
    *,
    same_images: bool,
    same_seeds: bool = False,
    same_draws: bool = False,
    share: bool = False,
) -> Difference:
    """The mean of `first` minus that of `second`, each (S, n) or (S, D, n). Raises ValueError with fewer than 2 images.

    same_images: column i of both is the same image. same_seeds: row s of both contains the same encoder; two models
    that only have the seed's number in common are independent. same_draws: draw d of both, of shape (S, D, n), is
    trained on the same images. A model with one seed contributes no variance between seeds. share: as in `mean`, of
    both.

    The interval of hits is that of the tables with one more hit and one more miss each (Bonett and Price 2012 for the
    same images, Agresti and Caffo 2000 for different ones), so that it has a length for equal predictions; likewise
    that of equal shares. Both are cut off at -1 and 1. The p-value of two single trainings with hits on the same
    images is McNemar's, exact.
    """
    _check(first)
    _check(second)
    if same_images and first.shape[-1] != second.shape[-1]:
        raise ValueError(f"the same images can't be {first.shape[-1]} and {second.shape[-1]}")
    if same_seeds and first.shape[:-1] != second.shape[:-1]:
        raise ValueError(f"the same seeds can't be {first.shape[:-1]} and {second.shape[:-1]}")
    if same_draws and (first.ndim != 3 or second.ndim != 3 or first.shape[1] != second.shape[1]):
        raise ValueError(f"the same draws can't be those of {first.shape} and {second.shape}")
    value = float(first.mean() - second.mean())
    hits = first.dtype == second.dtype == np.bool_
    equal = share and same_images and first.shape == second.shape and np.array_equal(first, second)
    one, two = (_with(first, True, False), _with(second, False, True)) if hits or equal else (first, second)
    spread = of_difference(one, two, same_images=same_images, same_seeds=same_seeds, same_draws=same_draws)
    low, high = spread.interval(LEVEL)
    if hits or share:
        low, high = max(-1.0, min(low, value)), min(1.0, max(high, value))
    p = spread.two_sided()
    if hits and same_images and first.size == second.size == first.shape[-1]:
        p = mcnemar_p(first.ravel().astype(bool), second.ravel().astype(bool))
    return Difference(value, low, high, p, max(spread.above(-MARGIN), 1 - spread.above(MARGIN)))


def difference_of_intervals(first: Mean, second: Mean) -> Difference:
    """The difference of two independent means, from their intervals alone (Newcombe 1998, method 10, of proportions).

    The p-values are those of a normal distribution whose interval has this end on the side of the hypothesis.
    """
    value = first.value - second.value
    below = float(np.hypot(first.value - first.low, second.high - second.value))
    above = float(np.hypot(first.high - first.value, second.value - second.low))
    scale = -float(special.ndtri((1 - LEVEL) / 2))
    down, up = (Spread(value, NOTHING, Part((length / scale) ** 2, np.inf)) for length in (below, above))
    p = (down if value > 0 else up).two_sided()
    return Difference(value, value - below, value + above, p, max(down.above(-MARGIN), 1 - up.above(MARGIN)))


def mcnemar_p(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> float:
    """McNemar's exact two-sided p-value (1947) of two models' hits (n,) on the same images.

    Only the images that one of the models gets right count; each model is equally likely to be the one.
    """
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    either = only_first + only_second
    return float(stats.binomtest(only_first, either).pvalue) if either else 1.0


def holm(p: Sequence[float]) -> list[float]:
    """The p-values of one family of comparisons, corrected by Holm's method (1979).

    The smallest of k values is multiplied by k, the next by k - 1 and so on; none may be below a smaller one's.
    statsmodels has the same method, but runs the garbage collector at each call, which takes longer than the report's
    other statistics together.
    """
    values = np.asarray(p, float)
    order = np.argsort(values, kind="stable")
    raised = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(raised, 1)
    return [float(value) for value in corrected]


def verdict(p: float, p_equivalent: float) -> str:
    """`clear`, `equivalent` or `undecided`, from p-values that are corrected for their family, as `_` translates it.

    A difference that is both clear and within the margin is called clear; its interval shows that it is small.
    """
    return N_("clear") if p < ALPHA else N_("equivalent") if p_equivalent < ALPHA else N_("undecided")


def _check(values: Values) -> None:
    if values.ndim not in (2, 3) or min(values.shape[:-1]) < 1 or values.shape[-1] < 2:
        raise ValueError(f"the values must have the shape (seeds, images) with two images or more, not {values.shape}")


def _with(values: Values, *hits: bool) -> Values:
    """The values with more images, whose hits are the same for every training."""
    return np.concatenate([values, np.broadcast_to(hits, (*values.shape[:-1], len(hits)))], axis=-1)
