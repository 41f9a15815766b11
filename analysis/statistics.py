"""Intervals, tests and corrections for numbers that are means over seeds and test images. Arrays only, no study.

A study's number comes from S seeds and the same n test images for each: a table of per-image values y (S, n), such as
hits. Seeds and images are both samples, so the model is two-way crossed with random effects,

    y_si = mu + a_s + b_i + e_si,        Var(mean) = var(a)/S + var(b)/n + var(e)/(S n),

as for readers and cases in medical imaging (Hillis, Statistics in Medicine 26, 2007). Mean squares estimate a seed
part, var(a)/S + var(e)/(S n), with S - 1 degrees of freedom, and an image part, var(b)/n, with n - 1. The quantile has
two usual approximations: Student's with Satterthwaite's degrees of freedom (Biometrics Bulletin 2, 1946) is too small,
and the mean of both parts' quantiles with the parts as weights (Cochran and Cox, Experimental Designs, 1957, section
4.14) too large: for the worst ratio of the parts and three seeds they cover 92 and 97 %. The mean of the two is used,
which covers 94 to 96 % with three seeds or more for any ratio, and 91 to 97 % with two.

A hierarchical bootstrap over seeds and images estimates the same variance, but with S seeds it sees (S - 1)/S of the
seeds' part, and its percentiles ignore that S is small: with 3 seeds the nominal 95 % covered less than 90 % in the
simulation of tests/unit/analysis/test_analysis_coverage.py.

With one seed the seeds' variance can't be estimated: the interval is over images, for this one trained model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import optimize, special, stats

Floats = npt.NDArray[np.float64]
Values = npt.NDArray[np.bool_] | Floats  # (seeds, images); booleans are hits
LEVEL: Final = 0.95
ALPHA: Final = 0.05
_FARTHEST: Final = 15.0  # standard errors of a normal distribution, p = 1e-50: scipy's quantiles fail far beyond
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


@dataclass(frozen=True)
class _Part:
    """A part of the variance of a mean, and its degrees of freedom."""

    variance: float
    df: float


@dataclass(frozen=True)
class _Spread:
    """An estimate of a mean, and the two parts of its variance; without an estimate, the seeds' part is zero."""

    centre: float
    seeds: _Part
    images: _Part

    @property
    def error(self) -> float:
        """The standard error of the mean."""
        return math.sqrt(self.seeds.variance + self.images.variance)

    def quantile(self, tail: float) -> float:
        """The quantile that leaves this probability above it: the mean of the two approximations."""
        both = _sum(self.seeds, self.images)
        share = self.seeds.variance / both.variance if both.variance > 0 else 0.0
        own, other, joint = (-float(special.stdtrit(part.df, tail)) for part in (self.seeds, self.images, both))
        return (share * own + (1 - share) * other + joint) / 2

    def interval(self, level: float) -> tuple[float, float]:
        half = self.quantile((1 - level) / 2) * self.error
        return self.centre - half, self.centre + half

    def above(self, null: float) -> float:
        """The one-sided p-value of the hypothesis that the mean is at most `null`."""
        if self.error == 0:
            return 0.0 if self.centre > null else 0.5 if self.centre == null else 1.0
        distance = (self.centre - null) / self.error
        size = abs(distance)
        # Student's quantiles are not below the normal ones, so the solution on the normal scale is at most `size`.
        end = min(size + 0.01, _FARTHEST)
        normal = end
        if self.quantile(float(special.ndtr(-end))) > size:
            normal = optimize.brentq(lambda z: self.quantile(float(special.ndtr(-z))) - size, 0.0, end)
        tail = float(special.ndtr(-normal))
        return tail if distance >= 0 else 1 - tail

    def two_sided(self) -> float:
        """The p-value of the hypothesis that the mean is zero."""
        above = self.above(0)
        return 2 * min(above, 1 - above)


_NOTHING: Final = _Part(0.0, np.inf)


def mean(values: Values, level: float = LEVEL) -> Mean:
    """The mean of values (S, n) with its interval. Raises ValueError with fewer than two images.

    Hits have Wilson's score interval (1927), which stays within 0 and 1 and has a length at 0 and 1: with one seed the
    usual one, with several that of the effective number of images, p(1 - p) / variance, and Student's quantile (as for
    cluster samples: Korn and Graubard 1998; Franco, Little, Louis and Slud 2019). Other values have a t interval.
    """
    _check(values)
    spread = _Spread(float(values.mean()), _seed_part(values.mean(axis=1)), _image_part(values))
    if values.dtype == np.bool_:
        return _share(spread, values.shape, level)
    return Mean(spread.centre, *spread.interval(level))


def proportion(shares: Floats, images: int, level: float = LEVEL) -> Mean:
    """The mean of shares (S,) of the same images, whose hits are not known, with an interval that is rather too long.

    The hits are needed to tell which part of p(1 - p) the images explain; here they are taken to explain all of it.
    """
    centre = float(shares.mean())
    image_part = _Part(centre * (1 - centre) / images, images - 1)
    return _share(_Spread(centre, _seed_part(shares), image_part), (len(shares), images), level)


def _share(spread: _Spread, shape: tuple[int, ...], level: float) -> Mean:
    """Wilson's interval of a share; shape: seeds and images."""
    share, tail = spread.centre * (1 - spread.centre), (1 - level) / 2
    if shape[0] == 1 or spread.error == 0 or share == 0:
        return Mean(spread.centre, *_wilson(spread.centre, shape[1], -float(special.ndtri(tail))))
    return Mean(spread.centre, *_wilson(spread.centre, share / spread.error**2, spread.quantile(tail)))


def _wilson(share: float, count: float, quantile: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion of `count` observations."""
    scale = quantile**2 / count
    centre = (share + scale / 2) / (1 + scale)
    half = np.sqrt(scale * share * (1 - share) + scale**2 / 4) / (1 + scale)
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def over_seeds(values: Floats, level: float = LEVEL) -> Mean:
    """Student's t interval of the mean of values (S,), one a seed. Raises ValueError with fewer than two seeds."""
    if len(values) < 2:
        raise ValueError(f"an interval over seeds needs two seeds, not {len(values)}")
    spread = _Spread(float(values.mean()), _seed_part(values), _NOTHING)
    return Mean(spread.centre, *spread.interval(level))


def difference(
    first: Values, second: Values, *, same_images: bool, same_seeds: bool, margin: float = MARGIN
) -> Difference:
    """The mean of `first` (S, n) minus that of `second` (T, m). Raises ValueError with fewer than two images.

    same_images: column i of both is the same image, so n = m. same_seeds: row s of both contains the same encoder, so
    S = T; two models that only have the seed's number in common are independent. A model with one seed contributes no
    variance between seeds.

    The interval of hits is that of the tables with one more hit and one more miss each (Bonett and Price 2012 for the
    same images, Agresti and Caffo 2000 for different ones), so that it has a length for equal predictions. The p-value
    of two models with one seed and the same images is McNemar's, exact.
    """
    _check(first)
    _check(second)
    if same_images and first.shape[1] != second.shape[1]:
        raise ValueError(f"the same images can't be {first.shape[1]} and {second.shape[1]}")
    if same_seeds and len(first) != len(second):
        raise ValueError(f"the same seeds can't be {len(first)} and {len(second)}")
    value = float(first.mean() - second.mean())
    hits = first.dtype == second.dtype == np.bool_
    one, two = (_with_hit_and_miss(first), _with_miss_and_hit(second)) if hits else (first, second)
    spread = _spread_of_difference(one, two, same_images=same_images, same_seeds=same_seeds)
    p = spread.two_sided()
    if hits and same_images and len(first) == len(second) == 1:
        p = mcnemar_p(first[0], second[0])
    p_equivalent = max(spread.above(-margin), 1 - spread.above(margin))
    return Difference(value, *spread.interval(LEVEL), p, p_equivalent)


def difference_of_intervals(first: Mean, second: Mean, margin: float = MARGIN) -> Difference:
    """The difference of two independent means, from their intervals alone (Newcombe 1998, method 10, of proportions).

    The p-values are those of a normal distribution whose interval has this end on the side of the hypothesis.
    """
    value = first.value - second.value
    below = float(np.hypot(first.value - first.low, second.high - second.value))
    above = float(np.hypot(first.high - first.value, second.value - second.low))
    scale = -float(special.ndtri((1 - LEVEL) / 2))
    down, up = (_Spread(value, _NOTHING, _Part((length / scale) ** 2, np.inf)) for length in (below, above))
    p = (down if value > 0 else up).two_sided()
    return Difference(value, value - below, value + above, p, max(down.above(-margin), 1 - up.above(margin)))


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
    """`clear`, `equivalent` or `undecided`, from p-values that are corrected for their family.

    A difference that is both clear and within the margin is called clear; its interval shows that it is small.
    """
    return "clear" if p < ALPHA else "equivalent" if p_equivalent < ALPHA else "undecided"


def _check(values: Values) -> None:
    if values.ndim != 2 or values.shape[0] < 1 or values.shape[1] < 2:
        raise ValueError(f"the values must have the shape (seeds, images) with two images or more, not {values.shape}")


def _with_hit_and_miss(values: Values) -> Values:
    return np.concatenate([values, np.broadcast_to([True, False], (len(values), 2))], axis=1)


def _with_miss_and_hit(values: Values) -> Values:
    return np.concatenate([values, np.broadcast_to([False, True], (len(values), 2))], axis=1)


def _seed_part(means: Floats) -> _Part:
    """var(a)/S + var(e)/(S n) from the seeds' means (S,); nothing with one seed."""
    return _Part(float(means.var(ddof=1)) / len(means), len(means) - 1) if len(means) > 1 else _NOTHING


def _sum(one: _Part, two: _Part) -> _Part:
    """The sum of two independent variances with the degrees of freedom of Satterthwaite (1946), or Welch."""
    total = one.variance + two.variance
    weight = one.variance**2 / one.df + two.variance**2 / two.df
    return _Part(total, total**2 / weight if weight > 0 else np.inf)


def _image_part(values: Values) -> _Part:
    """var(b)/n from values (S, n); with one seed (var(b) + var(e))/n."""
    return _images(values.mean(axis=0), _residual(values))


def _images(columns: Floats, residual: float) -> _Part:
    """The same from the means of the images (n,) over seeds, and the part of their variance that is due to seeds."""
    return _Part(max(float(columns.var(ddof=1)) - residual, 0.0) / len(columns), len(columns) - 1)


def _residual(values: Values) -> float:
    """var(e)/S from values (S, n); 0 with one seed."""
    seeds = len(values)
    if seeds == 1:
        return 0.0
    rest: Floats = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    return float(np.square(rest).sum() / ((seeds - 1) * (values.shape[1] - 1) * seeds))


def _spread_of_difference(one: Values, two: Values, *, same_images: bool, same_seeds: bool) -> _Spread:
    centre = float(one.mean() - two.mean())
    if same_images and same_seeds:
        gaps = one.astype(float) - two
        return _Spread(centre, _seed_part(gaps.mean(axis=1)), _image_part(gaps))
    rows = one.mean(axis=1), two.mean(axis=1)
    seeds = _seed_part(rows[0] - rows[1]) if same_seeds else _sum(_seed_part(rows[0]), _seed_part(rows[1]))
    if same_images:
        return _Spread(centre, seeds, _images(one.mean(axis=0) - two.mean(axis=0), _residual(one) + _residual(two)))
    return _Spread(centre, seeds, _sum(_image_part(one), _image_part(two)))
