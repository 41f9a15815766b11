"""Intervals, tests and corrections for numbers that are means over seeds and test images. Arrays only, no study.

A study's number comes from S seeds and the same n test images for each: a table of per-image values y (S, n), such as
hits. Seeds and images are both samples, so the model is two-way crossed with random effects,

    y_si = mu + a_s + b_i + e_si,        Var(mean) = var(a)/S + var(b)/n + var(e)/(S n),

as for readers and cases in medical imaging (Obuchowski and Rockette 1995). The variance is estimated from the mean
squares, and the degrees of freedom by Satterthwaite's formula with the truncation of Hillis (Statistics in Medicine 26,
2007, 596-619): the image part, which is estimated from thousands of images, has n - 1 degrees of freedom, the seed part
S - 1. It is what a hierarchical bootstrap over seeds and images estimates, without its two faults: with S seeds the
bootstrap sees (S - 1)/S of the seeds' variance, and its percentiles ignore that S is small. With 3 seeds the nominal
95 % percentile interval covered 80 to 90 % in the simulations of tests/unit/analysis/test_analysis_statistics.py.

With one seed the seeds' variance can't be estimated: the interval is over images, for this one trained model.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special, stats

Floats = npt.NDArray[np.float64]
Values = npt.NDArray[np.bool_] | Floats  # (seeds, images); booleans are hits
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


@dataclass(frozen=True)
class _Spread:
    """An estimate of a mean, its standard error and the degrees of freedom of that error."""

    centre: float
    error: float
    df: float

    @classmethod
    def of(cls, centre: float, parts: Sequence[tuple[float, float]]) -> "_Spread":
        """The sum of independent variances, each with its degrees of freedom (Satterthwaite 1946)."""
        total = sum(variance for variance, _ in parts)
        weight = sum(variance**2 / df for variance, df in parts if variance > 0)
        return cls(centre, float(np.sqrt(total)), total**2 / weight if weight > 0 else np.inf)

    def interval(self, level: float) -> tuple[float, float]:
        half = _quantile(level, self.df) * self.error
        return self.centre - half, self.centre + half

    def above(self, null: float) -> float:
        """The one-sided p-value of the hypothesis that the mean is at most `null`."""
        if self.error == 0:
            return 0.0 if self.centre > null else 0.5 if self.centre == null else 1.0
        return float(special.stdtr(self.df, (null - self.centre) / self.error))


def mean(values: Values, level: float = LEVEL) -> Mean:
    """The mean of values (S, n) with its interval. Raises ValueError with fewer than two images.

    Hits have Wilson's score interval (1927), which stays within 0 and 1 and has a length at 0 and 1: with one seed the
    usual one, with several that of the effective number of images, p(1 - p) / variance, and Student's quantile (as for
    cluster samples: Korn and Graubard 1998; Franco, Little, Louis and Slud 2019). Other values have a t interval.
    """
    _check(values)
    spread = _Spread.of(float(values.mean()), [*_seed_part(values.mean(axis=1)), *_image_part(values)])
    if values.dtype == np.bool_:
        return _share(spread, values.shape, level)
    return Mean(spread.centre, *spread.interval(level))


def proportion(shares: Floats, images: int, level: float = LEVEL) -> Mean:
    """The mean of shares (S,) of the same images, whose hits are not known, with an interval that is rather too long.

    The hits are needed to tell which part of p(1 - p) the images explain; here they are taken to explain all of it.
    """
    centre = float(shares.mean())
    image_part = (centre * (1 - centre) / images, images - 1.0)
    return _share(_Spread.of(centre, [*_seed_part(shares), image_part]), (len(shares), images), level)


def _share(spread: _Spread, shape: tuple[int, ...], level: float) -> Mean:
    """Wilson's interval of a share; shape: seeds and images."""
    share = spread.centre * (1 - spread.centre)
    if shape[0] == 1 or spread.error == 0 or share == 0:
        return Mean(spread.centre, *_wilson(spread.centre, shape[1], _quantile(level, np.inf)))
    return Mean(spread.centre, *_wilson(spread.centre, share / spread.error**2, _quantile(level, spread.df)))


def _quantile(level: float, df: float) -> float:
    """Student's quantile of a two-sided interval: 1.96 for 95 % and infinite degrees of freedom."""
    return float(special.stdtrit(df, (1 + level) / 2))


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
    spread = _Spread.of(float(values.mean()), _seed_part(values))
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
    p = 2 * min(spread.above(0), 1 - spread.above(0))
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
    scale = _quantile(LEVEL, np.inf)
    down, up = (_Spread(value, length / scale, np.inf) for length in (below, above))
    p = 2 * min(down.above(0), 1 - up.above(0))
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


def _seed_part(means: Floats) -> list[tuple[float, float]]:
    """Estimates var(a)/S + var(e)/(S n) from the means (S,); its S - 1 degrees of freedom. Empty with one seed."""
    return [(float(means.var(ddof=1)) / len(means), len(means) - 1)] if len(means) > 1 else []


def _image_part(values: Values) -> list[tuple[float, float]]:
    """Estimates var(b)/n, with one seed (var(b) + var(e))/n; its n - 1 degrees of freedom. values: (S, n)."""
    return _images(values.mean(axis=0), _residual(values))


def _images(columns: Floats, residual: float) -> list[tuple[float, float]]:
    """The same from the means of the images (n,) over seeds, and the part of their variance that is due to seeds."""
    n = len(columns)
    return [(max(float(columns.var(ddof=1)) - residual, 0.0) / n, n - 1)]


def _residual(values: Values) -> float:
    """Estimates var(e)/S from values (S, n); 0 with one seed."""
    seeds = len(values)
    if seeds == 1:
        return 0.0
    rest: Floats = values - values.mean(axis=0) - values.mean(axis=1, keepdims=True) + values.mean()
    return float(np.square(rest).sum() / ((seeds - 1) * (values.shape[1] - 1) * seeds))


def _spread_of_difference(one: Values, two: Values, *, same_images: bool, same_seeds: bool) -> _Spread:
    centre = float(one.mean() - two.mean())
    if same_images and same_seeds:
        gaps = one.astype(float) - two
        return _Spread.of(centre, [*_seed_part(gaps.mean(axis=1)), *_image_part(gaps)])
    rows = one.mean(axis=1), two.mean(axis=1)
    seeds = _seed_part(rows[0] - rows[1]) if same_seeds else [*_seed_part(rows[0]), *_seed_part(rows[1])]
    if same_images:
        columns = one.mean(axis=0) - two.mean(axis=0)
        return _Spread.of(centre, [*seeds, *_images(columns, _residual(one) + _residual(two))])
    return _Spread.of(centre, [*seeds, *_image_part(one), *_image_part(two)])
