"""The linear probe: L-BFGS logistic regression on frozen features (SimCLR, 2002.05709, appendix B.8)."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from ssl_pkg.catalogue import Probe
from ssl_pkg.data.images import Indices, holdout
from ssl_pkg.evaluation.accuracy import not_finite
from ssl_pkg.evaluation.forward import Array

MAX_ITERATIONS = 200
TOLERANCE = 1e-3


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier on raw features, and how its penalty was chosen.

    weight: (C, D). bias: (C,). tried: (l2, accuracy on the holdout split) for each penalty, in the order of the grid.
    If no probe could be fitted, `reason` says why, the weights and l2 are nan, and `tried` is empty.
    """

    weight: Array
    bias: Array
    l2: float
    tried: list[tuple[float, float]]
    reason: str | None = None


def fit_probe(features: Array, labels: Indices, config: Probe, on_fit: Callable[[int, int], None]) -> LinearProbe:
    """Chooses the l2 penalty on a holdout split of train, then fits a classifier on all of train with this penalty.

    features: (n, D). labels: (n,). The loss is the mean cross-entropy plus l2/2·‖W‖². Features are standardised with
    the statistics of the samples that are fitted, so that one grid suits every encoder; the scaling is then folded into
    the weights. The grid is searched from the largest penalty to the smallest, and each fit starts from the weights of
    the previous one. Of equal accuracies the larger penalty wins. on_fit(done, total) is called before each fit.
    """
    if reason := not_finite("embeddings", features) or _too_large(features):
        return LinearProbe(*_nothing(features, labels), np.nan, [], reason)
    kept, held = holdout(labels, config.validation_fraction)
    mean, scale = _statistics(features[kept])
    standard = (features - mean) / scale
    grid = np.geomspace(config.l2_low, config.l2_high, config.l2_count)[::-1]
    tried: list[tuple[float, float]] = []
    model = LogisticRegression(max_iter=MAX_ITERATIONS, tol=TOLERANCE, warm_start=True)
    for number, l2 in enumerate(grid):
        on_fit(number, len(grid) + 1)
        _fit(model, standard[kept], labels[kept], l2)
        tried.append((float(l2), float((model.predict(standard[held]) == labels[held]).mean())))
    best = max(tried, key=lambda pair: pair[1])[0]
    on_fit(len(grid), len(grid) + 1)
    return LinearProbe(*fit_head(features, labels, best), best, tried)


def fit_head(features: Array, labels: Indices, l2: float) -> tuple[Array, Array]:
    """Weight (C, D) and bias (C,) of the classifier that `fit_probe` fits with the penalty `l2` on all samples.

    Both are nan if the features are not finite or too large.
    """
    if not_finite("embeddings", features) or _too_large(features):
        return _nothing(features, labels)
    model = LogisticRegression(max_iter=MAX_ITERATIONS, tol=TOLERANCE)
    mean, scale = _statistics(features)
    _fit(model, (features - mean) / scale, labels, l2)
    weight = (model.coef_ / scale).astype(np.float32)
    return weight, (model.intercept_ - weight @ mean).astype(np.float32)


def _nothing(features: Array, labels: Indices) -> tuple[Array, Array]:
    nothing = np.full((int(labels.max()) + 1, features.shape[1]), np.nan, np.float32)
    return nothing, nothing[:, 0]


def _statistics(features: Array) -> tuple[Array, Array]:
    """Mean and scale (D,) of features (n, D)."""
    return features.mean(axis=0), features.std(axis=0) + np.float32(1e-6)


def _too_large(features: Array) -> str | None:
    """The reason why the features can't be standardised in float32; None if they can."""
    with np.errstate(over="ignore"):
        fits = all(np.isfinite(part).all() for part in _statistics(features))
    return None if fits else "the embeddings are too large to be standardised"


def _fit(model: LogisticRegression, features: Array, labels: Indices, l2: float) -> None:
    """Fits `model` with the penalty `l2`.

    scikit-learn's C multiplies the summed loss, so C = 1/(n·l2) gives the penalty l2/2·‖W‖² on the mean loss. A fit
    that stops at MAX_ITERATIONS, as with the smallest penalties on few samples, remains a candidate, because candidates
    are compared by their accuracy on the holdout split and not by their convergence.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.set_params(C=1 / (len(labels) * l2)).fit(features, labels)
