"""Rows computed from logits: accuracy with its interval, log loss, confidence and calibration."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from ssl_pkg.catalogue import UNKNOWN
from ssl_pkg.data.images import Indices
from ssl_pkg.evaluation.forward import Array
from ssl_pkg.intervals import wilson
from ssl_pkg.rows import ECE_BINS, Dimensions, Row, row, unmeasured

Hits = npt.NDArray[np.int8]  # of each image: 1 if the prediction is right, else 0; UNKNOWN without finite logits


def proportion(
    evaluation: str,
    metric: str,
    hits: np.ndarray[Any, np.dtype[np.bool_]],
    *,
    dimensions: Dimensions | None = None,
    reason: str = "there are no images",
) -> Row:
    """The share of true entries in `hits` (n,) with its Wilson interval; unmeasured, for `reason`, if n is 0."""
    if len(hits) == 0:
        return unmeasured(evaluation, metric, 0, reason, dimensions)
    interval = wilson(int(hits.sum()), len(hits))
    return row(evaluation, metric, float(hits.mean()), len(hits), interval, dimensions=dimensions)


def accuracy(
    evaluation: str, metric: str, logits: Array, labels: Indices, *, dimensions: Dimensions | None = None
) -> Row:
    """The share of images whose largest logit is that of their label; unmeasured if a logit is not finite.

    logits: (n, C). labels: (n,).
    """
    if reason := not_finite("logits", logits):
        return unmeasured(evaluation, metric, len(labels), reason, dimensions)
    return proportion(evaluation, metric, logits.argmax(axis=1) == labels, dimensions=dimensions)


def validation_rows(accuracy: float, log_loss: float, count: int) -> list[Row]:
    """The accuracy with its interval, and the log loss, of a chosen candidate on `count` held-out images."""
    interval = wilson(round(accuracy * count), count)
    return [row("validation", "accuracy", accuracy, count, interval), row("validation", "nll", log_loss, count)]


def over_folds(by_fold: Sequence[Row], count: int, reason: str) -> list[Row]:
    """Mean and standard deviation of the accuracies on `count` test images after training on each fold.

    Both are unmeasured, for `reason`, if a fold has no accuracy.
    """
    values = [entry["value"] for entry in by_fold if entry["value"] is not None]
    known = values if len(values) == len(by_fold) else []
    spread = float(np.std(known, ddof=1)) if len(known) > 1 else np.nan
    return [
        row("folds", "accuracy", float(np.mean(known)) if known else np.nan, count, reason=reason),
        row("folds", "accuracy_sd", spread, len(by_fold), reason=reason),
    ]


def shared_classes(
    evaluation: str, logits: Array, labels: Indices, shared: Sequence[int], *, dimensions: Dimensions | None = None
) -> list[Row]:
    """Two accuracies on the images of the classes `shared`, which a shifted test set and the model have in common.

    accuracy_shared: a prediction of any of the model's classes is possible. accuracy_masked: only the logits of the
    shared classes compete, as if the model had no other classes. Papers on domain adaptation from STL-10 to CIFAR-10
    evaluate on the nine shared classes (Ghifary et al. 1607.03516, French et al. 1706.05208); their models are also
    trained without the tenth class. logits: (n, C). labels: (n,).
    """
    kept = np.isin(labels, shared)
    masked = np.where(np.isin(np.arange(logits.shape[1]), shared), logits, -np.inf).argmax(axis=1)
    entries = [accuracy(evaluation, "accuracy_shared", logits[kept], labels[kept], dimensions=dimensions)]
    if reason := not_finite("logits", logits[kept]):
        return [*entries, unmeasured(evaluation, "accuracy_masked", int(kept.sum()), reason, dimensions)]
    hits = (masked == labels)[kept]
    return [*entries, proportion(evaluation, "accuracy_masked", hits, dimensions=dimensions)]


def not_finite(name: str, values: Array) -> str | None:
    """A sentence that counts the images with a value that is not finite; None if there is no such image.

    name: what the sentence calls the values, e.g. `logits`. values: (n, ...), one entry for each image.
    """
    wrong: npt.NDArray[np.bool_] = np.any(~np.isfinite(values), axis=tuple(range(1, values.ndim)))
    return not_finite_sentence(name, wrong)


def not_finite_sentence(name: str, wrong: npt.NDArray[np.bool_]) -> str | None:
    """As `not_finite`. wrong: (n,), whether the image has a value that is not finite."""
    count = int(wrong.sum())
    return f"the {name} of {count:,} of {len(wrong):,} images are not finite" if count else None


def classification(evaluation: str, logits: Array, labels: Indices, classes: Sequence[str]) -> list[Row]:
    """Accuracy of all images, of each class, and averaged over classes; log loss, mean confidence, calibration error.

    logits: (n, C). labels: (n,). A class without images has a row with n = 0 and is left out of the mean over classes.
    If a logit is not finite, every row is unmeasured, because argmax would return the index of a nan as the prediction.
    """
    metrics = ("accuracy", "mean_class_accuracy", "nll", "mean_confidence", "ece")
    if reason := not_finite("logits", logits):
        counts = {name: int((labels == label).sum()) for label, name in enumerate(classes)}
        return [
            *(unmeasured(evaluation, metric, len(labels), reason) for metric in metrics),
            *(unmeasured(evaluation, "accuracy", count, reason, {"class": name}) for name, count in counts.items()),
        ]
    hits = logits.argmax(axis=1) == labels
    log_probability = torch.from_numpy(logits).double().log_softmax(dim=1).numpy()
    confidence = np.exp(log_probability.max(axis=1))
    by_class = [
        proportion(
            evaluation,
            "accuracy",
            hits[labels == label],
            dimensions={"class": name},
            reason="there are no images of this class",
        )
        for label, name in enumerate(classes)
    ]
    measured = [entry["value"] for entry in by_class if entry["value"] is not None]
    count = len(labels)
    return [
        proportion(evaluation, "accuracy", hits),
        row(evaluation, "mean_class_accuracy", float(np.mean(measured)), count),
        row(evaluation, "nll", float(-log_probability[np.arange(count), labels].mean()), count),
        row(evaluation, "mean_confidence", float(confidence.mean()), count),
        row(evaluation, "ece", calibration_error(confidence, hits), count),
        *by_class,
    ]


def hits_of(logits: Array, labels: Indices) -> Hits:
    """Whether the prediction of each image is right: 1 or 0, and UNKNOWN if one of its logits is not finite.

    logits: (n, C). labels: (n,). Returns (n,) int8, as the runs' artifacts hold hits.
    """
    right = (logits.argmax(axis=1) == labels).astype(np.int8)
    return np.where(np.isfinite(logits).all(axis=1), right, np.int8(UNKNOWN))


def log_loss(logits: Array, labels: Indices) -> float:
    """The mean cross-entropy in nats of finite logits (n, C) with labels (n,)."""
    return float(F.cross_entropy(torch.from_numpy(logits).double(), torch.from_numpy(labels)))


def calibration_error(
    confidence: np.ndarray[Any, np.dtype[np.float64]], hits: np.ndarray[Any, np.dtype[np.bool_]]
) -> float:
    """Expected calibration error (Guo et al. 1706.04599, eq. 3).

    |accuracy − confidence| of the images in each of ECE_BINS equal bins of confidence, averaged with the number of
    images as weight. confidence: (n,) in [0, 1]. hits: (n,), whether the prediction is right.
    """
    bin_of = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = [
        abs(hits[bin_of == index].mean() - confidence[bin_of == index].mean()) * (bin_of == index).mean()
        for index in np.unique(bin_of)
    ]
    return float(sum(gaps))
