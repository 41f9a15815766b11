"""The variance of a mean over seeds and test images, in two parts with degrees of freedom. Arrays only, no study.

A study's number comes from S seeds and the same n test images for each: a table of per-image values y (S, n), such as
hits. Seeds and images are both samples, so the model is two-way crossed with random effects,

    y_si = mu + a_s + b_i + e_si,        Var(mean) = var(a)/S + var(b)/n + var(e)/(S n),

as for readers and cases in medical imaging (Hillis, Statistics in Medicine 26, 2007). Mean squares estimate a seed
part, var(a)/S + var(e)/(S n), with S - 1 degrees of freedom, and an image part, var(b)/n, with n - 1. The seed part is
at least var(e)/(S n), which the residuals show: seeds that are equally good by chance would have no variance
(`larger`).

With few labels each seed is trained on the same D draws of training images: y (S, D, n). Seeds and draws are then
crossed too, and the seed part is (Satterthwaite's approximation again)

    var(means over draws)/S + var(means over seeds)/D - var(interaction)/(S D).

In a difference of two models that are trained on the same draws, the draws' part and the residuals are those of the
models' difference, because the same training images cause similar errors; seeds and interactions are each model's own.

The S D trainings are no independent repetitions: three seeds on three draws taken as nine cover less than 80 %.

The quantile has two usual approximations: Student's with Satterthwaite's degrees of freedom (Biometrics Bulletin 2,
1946) is too small, and the mean of both parts' quantiles with the parts as weights (Cochran and Cox, Experimental
Designs, 1957, section 4.14) too large: for the worst ratio of the parts and three seeds they cover 92 and 97 %. The
mean of the two is used, which covers 94 to 96 % with three seeds or more for any ratio, and 91 to 97 % with two.

With one seed the seeds' variance can't be estimated: the interval is over images, for this one trained model.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

Floats = npt.NDArray[np.float64]
Values = npt.NDArray[np.bool_] | Floats  # (seeds, images) or (seeds, draws, images); booleans are hits
_FARTHEST: Final = 15.0  # standard errors of a normal distribution, p = 1e-50: scipy's quantiles fail far beyond


@dataclass(frozen=True)
class Part:
    """A part of the variance of a mean, and its degrees of freedom."""

    variance: float
    df: float


@dataclass(frozen=True)
class Spread:
    """An estimate of a mean, and the two parts of its variance; without an estimate, the seeds' part is zero."""

    centre: float
    seeds: Part
    images: Part

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
        """The ends of the interval of the mean."""
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


NOTHING: Final = Part(0.0, np.inf)


def of_mean(values: Values) -> Spread:
    """The mean of values (S, n) or (S, D, n)."""
    return Spread(float(values.mean()), of_seeds(values.mean(axis=-1), _noise(values)), _image_part(values))


def of_difference(
    one: Values, two: Values, *, same_images: bool, same_seeds: bool = False, same_draws: bool = False
) -> Spread:
    """The mean of `one` minus that of `two`; what they have in common is as in `statistics.difference`."""
    centre = float(one.mean() - two.mean())
    if same_images and same_seeds:
        return of_mean(one.astype(float) - two)
    rows = one.mean(axis=-1), two.mean(axis=-1)
    noise, residual = _sum(_noise(one), _noise(two)), _residual(one) + _residual(two)
    if same_images and same_draws and one.shape == two.shape:
        noise, residual = _noise(one.astype(float) - two), _residual(one.astype(float) - two)
    if same_seeds:
        seeds = of_seeds(rows[0] - rows[1], noise)
    elif same_draws:
        seeds = larger(_crossed(rows, rows[0].mean(axis=0) - rows[1].mean(axis=0)), noise)
    else:
        seeds = _sum(of_seeds(rows[0], _noise(one)), of_seeds(rows[1], _noise(two)))
    if same_images:
        return Spread(centre, seeds, _images(_columns(one) - _columns(two), residual))
    return Spread(centre, seeds, _sum(_image_part(one), _image_part(two)))


def of_seeds(means: Floats, noise: Part = NOTHING) -> Part:
    """The seed part from means (S,) or (S, D) over images, at least `noise`; nothing with a single mean."""
    if means.size < 2:
        return NOTHING
    if means.ndim == 1:
        return larger(Part(_variance(means), len(means) - 1), noise)
    return larger(_crossed([means], means.mean(axis=0)), noise)


def _crossed(models: Sequence[Floats], by_draw: Floats) -> Part:
    """The seed part of models with trainings (S, D) on the same draws.

    by_draw: the means over seeds (D,) of the one model, or the difference of those of two models.
    """
    added = [
        Part(_variance(means), len(means) - 1)
        for means in (*(trainings.mean(axis=1) for trainings in models), by_draw)
        if len(means) > 1
    ]
    if not added:
        return NOTHING
    both = [_interaction(trainings) for trainings in models if min(trainings.shape) > 1]  # are in both of the others
    total = sum(part.variance for part in added) - sum(part.variance for part in both)
    weight = sum(part.variance**2 / part.df for part in (*added, *both))
    total = max(total, *(part.variance for part in added))
    least = min(part.df for part in added)  # those of the largest part alone; a large interaction would leave fewer
    return Part(total, max(total**2 / weight, least) if weight > 0 else least)


def _interaction(means: Floats) -> Part:
    """The variance of the mean of means (S, D) that is due to the interaction of seeds and draws."""
    rest = means - means.mean(axis=0) - means.mean(axis=1, keepdims=True) + means.mean()
    degrees = (means.shape[0] - 1) * (means.shape[1] - 1)
    return Part(float(np.square(rest).sum()) / degrees / means.size, degrees)


def larger(estimate: Part, least: Part) -> Part:
    """The estimate, or its least value if that is larger; with one degree of freedom more than the estimate has.

    An estimate below the least value is small by chance and tells little about the true variance. With the least
    value's own degrees of freedom, p-values of .001 would be up to 28 times too frequent with three seeds; with the
    estimate's, intervals would be longer than needed. One more is between: p-values of .05 and .005 are at most 1.0
    and 1.3 times too frequent with three seeds or draws, and 1.3 and 2.8 times with two. These are the worst cases, in
    which the images add no variance (tests/unit/analysis/test_analysis_coverage.py).
    """
    if estimate.variance >= least.variance:
        return estimate
    return Part(least.variance, min(estimate.df + 1, least.df))


def _variance(means: Floats) -> float:
    """The variance of the mean of means (k,); 0 for k = 1, which shows none."""
    return float(means.var(ddof=1)) / len(means) if len(means) > 1 else 0.0


def _sum(one: Part, two: Part) -> Part:
    """The sum of two independent variances with the degrees of freedom of Satterthwaite (1946), or Welch."""
    total = one.variance + two.variance
    weight = one.variance**2 / one.df + two.variance**2 / two.df
    return Part(total, total**2 / weight if weight > 0 else np.inf)


def _noise(values: Values) -> Part:
    """var(e)/(S n), with draws var(e)/(S D n)."""
    *trainings, images = values.shape
    count = int(np.prod(trainings))
    return Part(_residual(values) / images, (count - 1) * (images - 1)) if count > 1 else NOTHING


def _image_part(values: Values) -> Part:
    """var(b)/n; with one seed (var(b) + var(e))/n."""
    return _images(_columns(values), _residual(values))


def _images(columns: Floats, residual: float) -> Part:
    """The same from the means of the images (n,) over seeds, and the part of their variance that is due to seeds."""
    return Part(max(float(columns.var(ddof=1)) - residual, 0.0) / len(columns), len(columns) - 1)


def _columns(values: Values) -> Floats:
    """The mean of each image (n,)."""
    columns: Floats = values.reshape(-1, values.shape[-1]).mean(axis=0)
    return columns


def _residual(values: Values) -> float:
    """var(e)/S, with draws var(e)/(S D); 0 with a single training."""
    rows = values.reshape(-1, values.shape[-1])
    count = len(rows)
    if count == 1:
        return 0.0
    rest: Floats = rows - rows.mean(axis=0) - rows.mean(axis=1, keepdims=True) + rows.mean()
    return float(np.square(rest).sum() / ((count - 1) * (rows.shape[1] - 1) * count))
