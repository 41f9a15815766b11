"""Effective robustness: out-of-distribution accuracy beyond what the accuracy in distribution predicts. Arrays only.

Over models of different strength that are trained in the same way, accuracy on a shifted test set is close to a linear
function of accuracy in distribution if both are on a probit scale (Miller et al. 2107.04649, section 2; Taori et al.
2007.00644, section 3, have logits). With Phi the normal distribution function and the line fitted to baseline models,

    predicted(x) = Phi(a + b Phi^-1(x)),        effective robustness = OOD accuracy - predicted(test accuracy).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

from analysis.statistics import Mean
from analysis.variance import Floats, Values

STRENGTHS: Final = 3  # at least, of the baselines: seeds of one strength scatter, but show no line
LEAST: Final = 4  # points of the line: with three, it has one degree of freedom


@dataclass(frozen=True)
class Networks:
    """The hits of one or more trained networks: on the test images (S, n), and on the OOD images (S, m).

    Of baselines, a row may be the mean over the networks of one draw, as `by_draw` makes it.
    """

    test: Values
    ood: Values


@dataclass(frozen=True)
class Line:
    """A line a + b x on the probit scale, with what its uncertainty needs: residual variance, places, count."""

    intercept: float
    slope: float
    residual: float
    centre: float
    spread: float  # sum of squared distances of the places from their centre
    count: int

    def predicted(self, test: float | Floats) -> Floats:
        """The OOD accuracy on the line at a test accuracy."""
        return np.asarray(ndtr(self.intercept + self.slope * ndtri(test)))

    def variance(self, place: float) -> float:
        """The variance of the line's height at a place on the probit scale; count - 2 degrees of freedom."""
        return self.residual * (1 / self.count + (place - self.centre) ** 2 / self.spread)


def probit(accuracy: Floats, images: int) -> Floats:
    """The probit of accuracies, of which 0 and 1 are moved by half an image."""
    return np.asarray(ndtri(np.clip(accuracy, 0.5 / images, 1 - 0.5 / images)))


def by_draw(networks: Networks, draws: Sequence[int]) -> Networks:
    """The mean over the networks of each draw, one row a draw, in the order of the draws.

    draws: for each network, the number of the draw of training images. Networks that are trained on the same images
    are off the line in the same direction, so they are not independent points of it.
    """
    rows = [[place for place, own in enumerate(draws) if own == draw] for draw in sorted(set(draws))]
    return Networks(*(np.stack([hits[own].mean(axis=0) for own in rows]) for hits in (networks.test, networks.ood)))


def fit(baselines: Sequence[Networks]) -> Line | None:
    """The least squares line through baseline networks, those of one strength in one entry, one row a draw.

    None if there are fewer than STRENGTHS entries or LEAST rows, or if all are equally good.
    """
    if len(baselines) < STRENGTHS:
        return None
    test, ood = _stacked(baselines)
    if len(test) < LEAST or np.ptp(test.mean(axis=1)) == 0:
        return None
    x, y = probit(test.mean(axis=1), test.shape[1]), probit(ood.mean(axis=1), ood.shape[1])
    centre, spread = float(x.mean()), float(np.square(x - x.mean()).sum())
    slope = float((x - centre) @ y) / spread
    intercept = float(y.mean()) - slope * centre
    residual = float(np.square(y - intercept - slope * x).sum()) / (len(x) - 2)
    return Line(intercept, slope, residual, centre, spread, len(x))


def effective_robustness(model: Networks, baselines: Sequence[Networks]) -> Mean | None:
    """The effective robustness of a model (mean over its seeds) with a 95 % interval; None without a line.

    baselines: each entry holds networks of one strength, with one row for each draw of training images (`by_draw`).
    All networks are tested on the same images. The error has three parts: of the images, which move the model and the
    line together; of the model's seeds, if it has several; and of the line, from the scatter of the baselines around
    it. The last two contain the noise of single networks on single images, which is therefore subtracted from the
    first, as far as networks of one strength show it. The first two have variances, and Student's quantile with
    Satterthwaite's degrees of freedom. The line's height has an interval on the probit scale, whose ends become
    accuracies, because the scale is far from linear where the height is uncertain. Both intervals are combined by MOVER
    (Zou and Donner 2008).
    """
    line = fit(baselines)
    if line is None:
        return None
    x = probit(model.test.mean(axis=1), model.test.shape[1])
    own = model.ood.mean(axis=1) - ndtr(line.intercept + line.slope * x)
    value, place = float(own.mean()), float(x.mean())
    parts = [(_variance_over_images(model, baselines, line), min(model.test.shape[1], model.ood.shape[1]) - 1.0)]
    if len(own) > 1:
        parts.append((float(own.var(ddof=1)) / len(own), len(own) - 1.0))
    total = sum(variance for variance, _ in parts)
    freedom = total**2 / sum(variance**2 / df for variance, df in parts) if total > 0 else np.inf
    half = float(stdtrit(freedom, 0.975)) * total**0.5
    level = line.intercept + line.slope * place
    reach = float(stdtrit(line.count - 2.0, 0.975)) * line.variance(place) ** 0.5
    above, below = float(ndtr(level + reach) - ndtr(level)), float(ndtr(level) - ndtr(level - reach))
    return Mean(value, max(-1.0, value - float(np.hypot(half, above))), min(1.0, value + float(np.hypot(half, below))))


def _variance_over_images(model: Networks, baselines: Sequence[Networks], line: Line) -> float:
    """The variance of the effective robustness over both sets of images, by the delta method.

    Each network's accuracies move it by a derivative; an image moves it by the sum of derivative times hit. With eta
    the line's height at the model's place x, X and Y the places and heights of the b baselines, r their residuals and
    Q = sum (X - mean X)^2:
        d eta / dY = 1/b + (x - mean X)(X - mean X)/Q =: w,        d eta / dX = -slope w + r (x - mean X)/Q.
    """
    test, ood = _stacked(baselines)
    places, heights = probit(test.mean(axis=1), test.shape[1]), probit(ood.mean(axis=1), ood.shape[1])
    own = probit(model.test.mean(axis=1), model.test.shape[1])
    gap = own.mean() - line.centre
    density = _density(np.asarray(line.intercept + line.slope * own.mean()))
    weights = 1 / line.count + gap * (places - line.centre) / line.spread
    rest = heights - line.intercept - line.slope * places
    seeds = len(own)
    moved = {
        "ood": [np.full(seeds, 1 / seeds), -density * weights / _density(heights)],
        "test": [
            -density * line.slope / _density(own) / seeds,
            density * (line.slope * weights - rest * gap / line.spread) / _density(places),
        ],
    }
    groups = {
        "ood": [group.ood for group in (model, *baselines)],
        "test": [group.test for group in (model, *baselines)],
    }
    variance = 0.0
    for name, (of_model, of_baselines) in moved.items():
        hits, derivatives = np.concatenate(groups[name]), np.concatenate([of_model, of_baselines])
        noise = np.concatenate([np.full(len(group), _noise(group)) for group in groups[name]])
        images = hits.shape[1]
        shared = float((derivatives @ hits).var(ddof=1)) - float(np.square(derivatives) @ noise)
        variance += max(shared, 0.0) / images
    return variance


def _noise(hits: Values) -> float:
    """The variance of a row's value on a single image beside the effects of both; hits: (S, n); 0 for S = 1.

    The rows have the same strength.
    """
    seeds, images = hits.shape
    if seeds == 1:
        return 0.0
    rest: Floats = hits - hits.mean(axis=0) - hits.mean(axis=1, keepdims=True) + hits.mean()
    return float(np.square(rest).sum() / ((seeds - 1) * (images - 1)))


def _density(x: Floats) -> Floats:
    return np.asarray(np.exp(-np.square(x) / 2) / np.sqrt(2 * np.pi))


def _stacked(baselines: Sequence[Networks]) -> tuple[Values, Values]:
    return np.concatenate([entry.test for entry in baselines]), np.concatenate([entry.ood for entry in baselines])
