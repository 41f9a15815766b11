"""Numbers from predictions: accuracy, its interval, and how far the confidence can be trusted."""

from collections.abc import Sequence
from math import sqrt
from typing import Any

import numpy as np
import torch

from ssl_pkg.data.images import Indices
from ssl_pkg.evaluation.forward import Array

Row = dict[str, Any]


def wilson(correct: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """The Wilson 95 % interval of a proportion (Wilson 1927): within [0, 1], also for few samples."""
    share = correct / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)


def row(
    evaluation: str, metric: str, value: float, n: int, interval: tuple[float, float] | tuple[None, None] = (None, None)
) -> Row:
    """One number of result.json."""
    low, high = interval
    return {"evaluation": evaluation, "metric": metric, "value": float(value), "low": low, "high": high, "n": n}


def proportion(evaluation: str, metric: str, hits: np.ndarray[Any, np.dtype[np.bool_]]) -> Row:
    """The share of true entries in `hits`, with its interval."""
    return row(evaluation, metric, float(hits.mean()), len(hits), wilson(int(hits.sum()), len(hits)))


def classification(evaluation: str, logits: Array, labels: Indices, classes: Sequence[str]) -> list[Row]:
    """Accuracy over all, by class, and the mean over classes; log loss, mean confidence and calibration error.

    logits: (n, C), labels: (n,). Classes without a sample have no row.
    """
    hits = logits.argmax(axis=1) == labels
    log_probability = torch.from_numpy(logits).double().log_softmax(dim=1).numpy()
    confidence = np.exp(log_probability.max(axis=1))
    by_class = [
        proportion(evaluation, f"accuracy/{name}", hits[labels == label])
        for label, name in enumerate(classes)
        if (labels == label).any()
    ]
    count = len(labels)
    return [
        proportion(evaluation, "accuracy", hits),
        row(evaluation, "mean_class_accuracy", float(np.mean([entry["value"] for entry in by_class])), count),
        row(evaluation, "nll", float(-log_probability[np.arange(count), labels].mean()), count),
        row(evaluation, "mean_confidence", float(confidence.mean()), count),
        row(evaluation, "ece", calibration_error(confidence, hits), count),
        *by_class,
    ]


def calibration_error(
    confidence: np.ndarray[Any, np.dtype[np.float64]], hits: np.ndarray[Any, np.dtype[np.bool_]], bins: int = 15
) -> float:
    """Expected calibration error: |accuracy − confidence| by bin of confidence (Guo et al. 1706.04599, eq. 3)."""
    edge = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(hits[edge == index].mean() - confidence[edge == index].mean()) * (edge == index).mean()
        for index in np.unique(edge)
    ]
    return float(sum(gaps))
