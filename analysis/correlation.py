"""Rank correlation between the width of an optimum and accuracy, over the models of a study.

A point is a model with its mean over seeds, because the seeds of one model are not independent models. The random
initialisation is excluded, because it is not an optimum. Only measures of the whole network count: they are the only
ones that all models have. A model without a value for some seed, or with a bound only, is no point.
"""

import itertools
import math
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import stats

from analysis.estimates import estimate
from analysis.measures import Measurement, chosen
from analysis.names import Model
from analysis.statistics import holm
from analysis.study import Study
from analysis.variance import Floats
from analysis.widths import measured, widths_of
from analysis.words import N_
from ssl_pkg.catalogue import RANDOM

TARGETS: Final = {"test": N_("test accuracy"), "ood": N_("OOD accuracy"), "gap": N_("generalisation gap")}
KINDS: Final = {"all": N_("all models"), "probe": N_("probes"), "finetune": N_("fine-tuned models")}
LEAST: Final = 4  # models: with three, no order has a p-value below 1/3
LEAST_INTERVAL: Final = 5  # models: with four, the interval would be nearly all of (-1, 1)
EXACT: Final = 8  # 8! = 40,320 permutations
_PERMUTATIONS: Final = 19_999  # random ones, for more models
_Z: Final = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho of a measure with a target over n models of a kind, with p-value and 95 % interval.

    low, high: None for fewer than LEAST_INTERVAL models. corrected: the p-value after Holm's correction for its family,
    which is the chosen measure with all targets and kinds, or all other measures.
    """

    measure: Measurement
    target: str
    kind: str
    rho: float
    low: float | None
    high: float | None
    p: float
    n: int
    corrected: float = math.nan
    least_corrected: float = math.nan  # the smallest that `corrected` can be with so many models in the family


def points(study: Study, measure: Measurement, target: str, kind: str = "all") -> dict[Model, tuple[float, float]]:
    """(measure, target) of each final model of a kind that has both, without the random initialisation."""
    found = {}
    for model in study.models:
        if model.method == RANDOM or kind not in ("all", model.adaptation):
            continue
        width, aim = measured(study, model, measure), _target(study, model, target)
        if width is not None and width.value is not None and aim is not None:
            found[model] = (width.value, aim)
    return found


def enough_models(study: Study, measure: Measurement) -> bool:
    """Whether enough models have the measure and an accuracy; then only equal values prevent a correlation."""
    return max(len(points(study, measure, target)) for target in ("test", "ood")) >= LEAST


def targets(study: Study) -> list[str]:
    """Those of TARGETS that some model has."""
    return [target for target in TARGETS if any(_target(study, model, target) is not None for model in study.models)]


def _target(study: Study, model: Model, target: str) -> float | None:
    """The accuracy on test or OOD, or the accuracy on the width's subset of train minus that on test."""
    if target != "gap":
        found = estimate(study, model, target, "accuracy")
        return found.value if found else None
    train, test = measured(study, model, Measurement("accuracy")), estimate(study, model, "test", "accuracy")
    return train.value - test.value if train is not None and train.value is not None and test else None


def comparable(study: Study) -> bool:
    """Whether the widths of all models are comparable: the studies of a joined one have equal settings of `width`."""
    settings = {part.name: [run.config.get("width") for run in part.complete("width")][:1] for part in study.parts}
    known = [found for found in settings.values() if found]
    return all(found == known[0] for found in known)


@lru_cache(maxsize=1)
def correlations(study: Study) -> list[Correlation]:
    """Every measure of the network against every target, for each kind with at least LEAST different models.

    Empty for studies that measured the widths with different settings.
    """
    if not comparable(study):
        return []
    widths = [measure for measure in widths_of(study) if not measure.of_head]
    found = []
    for measure, target, kind in itertools.product(widths, TARGETS, KINDS):
        pairs = np.array(list(points(study, measure, target, kind).values()))
        if len(pairs) >= LEAST and np.ptp(pairs[:, 0]) > 0 and np.ptp(pairs[:, 1]) > 0:
            found.append(spearman(measure, target, kind, pairs[:, 0], pairs[:, 1]))
    primary = chosen(widths)
    families = [[entry for entry in found if (entry.measure == primary) is first] for first in (True, False)]
    return [
        replace(entry, corrected=corrected, least_corrected=_least_corrected(entry, family))
        for family in families
        for entry, corrected in zip(family, holm([entry.p for entry in family]), strict=True)
    ]


def _least_corrected(entry: Correlation, family: list[Correlation]) -> float:
    """Holm multiplies the p-value by the number of those that are not smaller: at best, those of as few models."""
    return smallest_p(entry.n) * sum(other.n <= entry.n for other in family)


def spearman(measure: Measurement, target: str, kind: str, x: Floats, y: Floats) -> Correlation:
    """Spearman's rho of x (n,) and y (n,), with its permutation p-value and its interval."""
    n, rho = len(x), float(_rho(x[None], y[None])[0])
    low, high = fisher_interval(rho, n) if n >= LEAST_INTERVAL else (None, None)
    return Correlation(measure, target, kind, rho, low, high, permutation_p(x, y), n)


def fisher_interval(rho: float, n: int) -> tuple[float, float]:
    """The 95 % interval of Spearman's rho from Fisher's z with the variance of Bonett and Wright (2000):

        tanh(atanh(rho) -/+ 1.96 sqrt((1 + rho^2 / 2) / (n - 3))).

    |rho| = 1 counts as the value halfway to the next smaller one that n ranks can have, so that the interval of perfect
    order does not degenerate to a point; the interval still ends at 1. By simulation its coverage is 93 to 99 % for
    n = 5 to 13 (tests/unit/analysis/test_analysis_correlation.py). A bootstrap over so few models covers less.
    """
    limit = 1 - 6 / (n**3 - n)
    inner = min(max(rho, -limit), limit)
    half = _Z * math.sqrt((1 + inner**2 / 2) / (n - 3))
    low, high = math.tanh(math.atanh(inner) - half), math.tanh(math.atanh(inner) + half)
    return (-1.0 if rho < -limit else low), (1.0 if rho > limit else high)


def permutation_p(x: Floats, y: Floats) -> float:
    """The two-sided p-value of Spearman's rho of x (n,) and y (n,): all permutations for up to EXACT models."""
    orders, ranks = _permutations(len(x)), stats.rankdata(x)
    shuffled = np.abs(_rho(ranks[orders], np.broadcast_to(y, orders.shape)))
    extreme = int((shuffled >= abs(float(_rho(x[None], y[None])[0])) - 1e-12).sum())
    added = len(x) > EXACT  # a random sample counts the observed order as one of its permutations
    return (extreme + added) / (len(orders) + added)


def smallest_p(n: int) -> float:
    """The smallest p-value that n models without ties can have."""
    return 2 / math.factorial(n)


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
    if n <= EXACT:
        return np.array(list(itertools.permutations(range(n))))
    generator = np.random.default_rng(0)
    return np.stack([generator.permutation(n) for _ in range(_PERMUTATIONS)])
