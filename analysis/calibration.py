"""The calibration of a model's confidence: the reliability curve, and the expected calibration error with its interval.

The error is a mean over images, so that it gets the interval of every other mean.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.statistics import Mean, mean
from analysis.variance import Floats
from ssl_pkg.rows import ECE_BINS

BINS: Final = ECE_BINS  # of the curve, and of the error
LEAST: Final = 10  # images in a bin of the curve: the accuracy of fewer is too uncertain
_REMOVED: Final = 2.0  # variances: one removes the noise of a square on average, the other its own noise


@dataclass(frozen=True, eq=False)
class Curve:
    """Accuracy over confidence, in the K bins with LEAST or more images.

    confidence, accuracy: means of the images of each of these bins, (K,). counts: their numbers of images, (K,).
    shares: of all images, in each bin, (BINS,).
    """

    confidence: Floats
    accuracy: Floats
    counts: npt.NDArray[np.int64]
    shares: Floats


def curve(logits: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> Curve | None:
    """The reliability curve from logits (n, C) and labels (n,); None if it would have fewer than two points."""
    confidence = special.softmax(logits.astype(float), axis=1).max(axis=1)
    hits = (logits.argmax(axis=1) == labels).astype(float)
    bins = _bins(confidence)
    counts = np.bincount(bins, minlength=BINS)
    kept = counts >= LEAST
    if kept.sum() < 2:
        return None
    means, shares = (np.bincount(bins, found, BINS)[kept] / counts[kept] for found in (confidence, hits))
    return Curve(means, shares, counts[kept], counts / counts.sum())


def values(confidence: Floats, hits: npt.NDArray[np.bool_]) -> Floats:
    """What each image contributes to the expected calibration error (Guo et al. 1706.04599, eq. 3) of its seed.

    In a bin of confidence the error is the absolute value of the mean of hit - confidence: each image contributes this
    difference with the sign of the bin's mean. confidence: (S, n) in [0, 1]. hits: (S, n). Returns (S, n); the mean of
    a row is the error of this seed.
    """
    gaps, bins = hits - confidence, _bins(confidence)
    signs = [np.sign(np.bincount(own, gap, BINS))[own] for own, gap in zip(bins, gaps, strict=True)]
    signed: Floats = gaps * np.array(signs)
    return signed


def error(confidence: Floats, hits: npt.NDArray[np.bool_]) -> Mean:
    """The expected calibration error, mean over seeds, with its interval. confidence: (S, n) in [0, 1]. hits: (S, n).

    The error is biased upwards, because sampling noise makes absolute values larger (Roelofs et al. 2012.08668); more
    seeds don't reduce this bias. Its size depends on the true error of each bin: the smaller, the larger the bias. The
    upper end is moved down by the bias at the errors that were found, which are too large themselves, and the lower end
    by the bias at errors from which the noise is removed. In simulations of 1 and 3 seeds and 200 to 800 images
    (tests/unit/analysis/test_analysis_calibration.py) the interval covers the truth in 93 % or more of the samples, and
    in nearly all of them if the bias is large.
    """
    found, rows = mean(values(confidence, hits)), list(zip(_bins(confidence), hits - confidence, strict=True))
    least, most = (float(np.mean([_bias(*row, removed) for row in rows])) for removed in (0.0, _REMOVED))
    return Mean(found.value, max(0.0, found.low - most), max(found.value, found.high - least))


def _bins(confidence: Floats) -> npt.NDArray[np.int64]:
    return np.minimum((confidence * BINS).astype(np.int64), BINS - 1)


def _bias(bins: npt.NDArray[np.int64], gaps: Floats, removed: float) -> float:
    """The sum over bins of E|X| - |m| for X normal with the bin's true mean m and its standard error (folded normal).

    m^2 is estimated by the square of the mean minus `removed` times its variance.
    """
    n = len(gaps)
    means = np.bincount(bins, gaps, BINS) / n
    squares = np.bincount(bins, gaps**2, BINS) / n
    errors = np.sqrt(np.maximum(squares - means**2, 0) / n)
    means, errors = means[errors > 0], errors[errors > 0]
    means = np.sqrt(np.maximum(means**2 - removed * errors**2, 0))
    ratio = means / errors
    folded = errors * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + means * (1 - 2 * special.ndtr(-ratio))
    return float((folded - means).sum())
