"""The linear probe: logistic regression on frozen features (SimCLR, 2002.05709, appendix B.8)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ssl_pkg.config.stage_settings import Probe
from ssl_pkg.data.images import Indices, holdout
from ssl_pkg.evaluation.accuracy import log_loss, not_finite
from ssl_pkg.evaluation.forward import Array
from ssl_pkg.evaluation.logistic_regression import LogisticRegression


@dataclass(frozen=True)
class PenaltyTrial:
    """One penalty of the grid, and its results on the holdout split.

    converged: whether the fit converged; a penalty without a converged fit is not chosen.
    """

    l2: float
    accuracy: float
    log_loss: float
    converged: bool


@dataclass(frozen=True)
class LinearProbe:
    """A linear classifier on raw features, and how its penalty was chosen.

    weight: (C, D). bias: (C,). tried: one trial for each penalty, in the order of the grid.
    If no probe could be fitted, `reason` says why, and the weights and l2 are nan.
    converged: whether the fit on all of train converged, as that of the chosen trial did.
    """

    weight: Array
    bias: Array
    l2: float
    tried: list[PenaltyTrial]
    reason: str | None = None
    converged: bool = True

    @property
    def chosen(self) -> PenaltyTrial | None:
        """The trial of the chosen penalty; None if no probe could be fitted."""
        return next((trial for trial in self.tried if trial.l2 == self.l2), None)

    @property
    def head(self) -> dict[str, Tensor]:
        """The weights as the state dict of a linear layer."""
        return {"weight": torch.from_numpy(self.weight), "bias": torch.from_numpy(self.bias)}

    def logits(self, features: Array) -> Array:
        """The logits (n, C) of features (n, D); nan if no probe could be fitted."""
        logits: Array = features @ self.weight.T + self.bias
        return logits

    def notes(self, part: str) -> list[str]:
        """A sentence for people if the fit on `part` of the images did not converge."""
        if self.converged:
            return []
        return [f"the fit of the probe on {part} did not converge, so its weights are not exactly at the minimum"]


def fit_probe(features: Array, labels: Indices, config: Probe, on_fit: Callable[[int, int], None]) -> LinearProbe:
    """Chooses the l2 penalty on a holdout split of train, then fits a classifier on all of train with this penalty.

    features: (n, D). labels: (n,). The loss is the mean cross-entropy plus l2/2·‖W‖². The penalty with the smallest log
    loss on the holdout split is chosen. Accuracy would not do, because several penalties often have the same accuracy
    with very different margins. Features are standardised with the statistics of the samples that are fitted, so that
    one grid suits every encoder; the scaling is then folded into the weights. The grid is searched from the largest
    penalty to the smallest, and each fit starts from the weights of the previous one. on_fit(done, total) is called
    before each fit.
    """
    if reason := _unusable(features):
        return no_probe(features, labels, reason)
    kept, held = holdout(labels, config.validation_fraction)
    mean, scale = _statistics(features[kept])
    standard = ((features - mean) / scale).astype(np.float64)
    model = LogisticRegression(standard[kept], labels[kept])
    grid = np.geomspace(config.l2_low, config.l2_high, config.l2_count)[::-1]
    tried = []
    for number, l2 in enumerate(grid.tolist()):
        on_fit(number, len(grid) + 1)
        converged = model.fit(l2)
        logits = (standard[held] @ model.weight.T + model.bias).astype(np.float32)
        hits = logits.argmax(axis=1) == labels[held]
        tried.append(PenaltyTrial(l2, float(hits.mean()), log_loss(logits, labels[held]), converged))
    candidates = [trial for trial in tried if trial.converged]
    if not candidates:
        return no_probe(features, labels, "no fit of the probe converged", tried=tried)
    best = min(candidates, key=lambda trial: trial.log_loss).l2
    on_fit(len(grid), len(grid) + 1)
    weight, bias, converged = _fit(features, labels, best)
    return LinearProbe(weight, bias, best, tried, converged=converged)


def fit_head(features: Array, labels: Indices, l2: float) -> LinearProbe:
    """The classifier that `fit_probe` fits with the penalty `l2` on all samples; it has tried no other penalty."""
    if reason := _unusable(features):
        return no_probe(features, labels, reason, l2)
    weight, bias, converged = _fit(features, labels, l2)
    return LinearProbe(weight, bias, l2, [], converged=converged)


def _fit(features: Array, labels: Indices, l2: float) -> tuple[Array, Array, bool]:
    """The weight and the bias for finite features, and whether the fit converged."""
    mean, scale = _statistics(features)
    model = LogisticRegression(((features - mean) / scale).astype(np.float64), labels)
    converged = model.fit(l2)
    weight = model.weight / scale
    return weight.astype(np.float32), (model.bias - weight @ mean).astype(np.float32), converged


def no_probe(
    features: Array, labels: Indices, reason: str, l2: float = np.nan, tried: Sequence[PenaltyTrial] = ()
) -> LinearProbe:
    """The probe with weights of nan that stands for one that can't be fitted, for the reason given."""
    nothing = np.full((int(labels.max()) + 1, features.shape[1]), np.nan, np.float32)
    return LinearProbe(nothing, nothing[:, 0], l2, list(tried), reason)


def _statistics(features: Array) -> tuple[Array, Array]:
    """Mean and scale (D,) of features (n, D)."""
    return features.mean(axis=0), features.std(axis=0) + np.float32(1e-6)


def _unusable(features: Array) -> str | None:
    """The reason why the features can't be standardised in float32; None if they can."""
    if reason := not_finite("embeddings", features):
        return reason
    with np.errstate(over="ignore"):
        fits = all(np.isfinite(part).all() for part in _statistics(features))
    return None if fits else "the embeddings are too large to be standardised"
