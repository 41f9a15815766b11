"""Rank correlation between the width of an optimum and accuracy, over the models of a study.

A point is a model with its mean over seeds, because the seeds of one model are not independent models. The random
initialisation is excluded, because it is not an optimum. The p-value is exact (all permutations) for up to eight
models. The interval is a percentile bootstrap over models. With so few points both are rough, which the report says.
"""

import itertools
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import stats

from analysis.estimates import estimate
from analysis.measures import WIDTH, Measurement, in_order
from analysis.names import Model
from analysis.study import Study
from ssl_pkg.catalogue import RANDOM

Floats = npt.NDArray[np.float64]
TARGETS: Final = {"test": "test accuracy", "ood": "OOD accuracy"}
_DRAWS: Final = 5000
_LEAST: Final = 4  # models: with three, no order has a p-value below 1/3
_EXACT: Final = 8  # 8! = 40,320 permutations


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho of a measure with an accuracy over n models, with p-value and 95 % interval."""

    measure: Measurement
    target: str
    rho: float
    low: float
    high: float
    p: float
    n: int


def points(study: Study, measure: Measurement, target: str) -> dict[Model, tuple[float, float]]:
    """(measure, accuracy) of each final model that has both, without the random initialisation."""
    found = {}
    for model in study.models:
        width = estimate(study, model, WIDTH, measure.metric, measure.dimensions)
        accuracy = estimate(study, model, target, "accuracy")
        if width is not None and accuracy is not None and model.method != RANDOM:
            found[model] = (width.value, accuracy.value)
    return found


def measures_of(study: Study) -> list[Measurement]:
    """What the evaluation `width` measured, in the report's order: widths, and loss and accuracy on the subset."""
    rows = study.results[study.results["evaluation"] == WIDTH]
    return in_order(Measurement(*pair) for pair in zip(rows["metric"], rows["dimensions"], strict=True))


def widths_of(study: Study) -> list[Measurement]:
    """The measures of width, without loss and accuracy on the subset."""
    return [measure for measure in measures_of(study) if measure.of_width]


@lru_cache(maxsize=1)
def correlations(study: Study) -> list[Correlation]:
    """Every measure of width against test and OOD accuracy, if at least four models have both and the values differ."""
    found = []
    for measure in widths_of(study):
        for target in TARGETS:
            pairs = np.array(list(points(study, measure, target).values()))
            if len(pairs) >= _LEAST and np.ptp(pairs[:, 0]) > 0 and np.ptp(pairs[:, 1]) > 0:
                found.append(spearman(measure, target, pairs[:, 0], pairs[:, 1]))
    return found


def spearman(measure: Measurement, target: str, x: Floats, y: Floats) -> Correlation:
    """Spearman's rho of x (n,) and y (n,), with its permutation p-value and bootstrap interval."""
    n = len(x)
    rho = float(_rho(x[None], y[None])[0])
    ranks = stats.rankdata(x)
    shuffled = _rho(ranks[_permutations(n)], np.broadcast_to(y, (len(_permutations(n)), n)))
    p = float(np.mean(np.abs(shuffled) >= abs(rho) - 1e-12))
    draws = np.random.default_rng(0).integers(0, n, (_DRAWS, n))
    resampled = _rho(x[draws], y[draws])
    low, high = np.nanpercentile(resampled, [2.5, 97.5])
    return Correlation(measure, target, rho, float(low), float(high), p, n)


def _rho(x: Floats, y: Floats) -> Floats:
    """Spearman's rho of each row of x with the same row of y; nan if one of the rows is constant."""
    a, b = stats.rankdata(x, axis=1), stats.rankdata(y, axis=1)
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    size = np.sqrt((a**2).sum(1) * (b**2).sum(1))
    product: Floats = (a * b).sum(1)
    rho: Floats = np.divide(product, size, out=np.full(len(a), np.nan), where=size > 0)
    return rho


@cache
def _permutations(n: int) -> npt.NDArray[np.int64]:
    if n <= _EXACT:
        return np.array(list(itertools.permutations(range(n))))
    generator = np.random.default_rng(0)
    return np.stack([generator.permutation(n) for _ in range(20_000)])
