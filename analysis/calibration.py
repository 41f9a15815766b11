"""The expected calibration error as a mean over images, so that it gets the interval of every other mean."""

from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import special

from analysis.statistics import Floats, Mean, mean

_BINS: Final = 15  # as in ssl_pkg/evaluation/accuracy.py


def values(confidence: Floats, hits: npt.NDArray[np.bool_]) -> Floats:
    """What each image contributes to the expected calibration error (Guo et al. 1706.04599, eq. 3) of its seed.

    In a bin of confidence the error is the absolute value of the mean of hit - confidence: each image contributes this
    difference with the sign of the bin's mean. confidence: (S, n) in [0, 1]. hits: (S, n). Returns (S, n); the mean of
    a row is the error of this seed.
    """
    gaps, bins = hits - confidence, _bins(confidence)
    signs = [np.sign(np.bincount(own, gap, _BINS))[own] for own, gap in zip(bins, gaps, strict=True)]
    signed: Floats = gaps * np.array(signs)
    return signed


def error(confidence: Floats, hits: npt.NDArray[np.bool_]) -> Mean:
    """The expected calibration error, mean over seeds, with its interval. confidence: (S, n) in [0, 1]. hits: (S, n).

    The error is biased upwards, because sampling noise makes absolute values larger (Roelofs et al. 2012.08668). The
    interval is moved down by the bias of a normal mean's absolute value, in each bin. The interval covers the truth in
    93 to 97 % of samples if the true error is one percentage point or more; a smaller one is overestimated.
    """
    bias = float(np.mean([_bias(own, gap) for own, gap in zip(_bins(confidence), hits - confidence, strict=True)]))
    found = mean(values(confidence, hits))
    return Mean(found.value, max(0.0, found.low - bias), max(found.value, found.high - bias))


def _bins(confidence: Floats) -> npt.NDArray[np.int64]:
    return np.minimum((confidence * _BINS).astype(np.int64), _BINS - 1)


def _bias(bins: npt.NDArray[np.int64], gaps: Floats) -> float:
    """The sum over bins of E|X| - |m| for X normal with the bin's mean m and its standard error (folded normal)."""
    n = len(gaps)
    means = np.bincount(bins, gaps, _BINS) / n
    squares = np.bincount(bins, gaps**2, _BINS) / n
    errors = np.sqrt((squares - means**2) / n)
    means, errors = np.abs(means[errors > 0]), errors[errors > 0]
    ratio = means / errors
    folded = errors * np.sqrt(2 / np.pi) * np.exp(-(ratio**2) / 2) + means * (1 - 2 * special.ndtr(-ratio))
    return float((folded - means).sum())
