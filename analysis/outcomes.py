"""What each test image contributes to a number of a model, from the predictions of its runs.

The mean over images is the number itself: the accuracy is the mean of hits, the log loss that of -log p. Numbers with
images in common can therefore be compared image by image.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt
from scipy.special import log_softmax

from analysis import calibration
from analysis.names import Model
from analysis.study import Study
from analysis.variance import Floats, Values
from ssl_pkg.catalogue import CORRUPTIONS, UNKNOWN

Labels = npt.NDArray[np.int64]
CORRUPTED_IMAGES: Final = "corruptions"  # the evaluation, and its stage
_FEWEST: Final = 2  # images: one has no spread


@dataclass(frozen=True, eq=False)
class Predicted:
    """The predictions of a model over all its seeds, for the same n images in the same order.

    hits, masked_hits (as if only the shared classes existed), confidence and loss have the shape (S, n); labels (n,).
    shared: whether the image's class is one that the models and the test set have in common (n,). classes: their names.
    """

    seeds: tuple[int, ...]
    classes: tuple[str, ...]
    labels: Labels
    shared: npt.NDArray[np.bool_]
    hits: npt.NDArray[np.bool_]
    masked_hits: npt.NDArray[np.bool_]
    confidence: Floats
    loss: Floats


@dataclass(frozen=True, eq=False)
class Corrupted:
    """Hits of a model on corrupted images: clean (S, n), and hits (S, K, L, n) of K corruptions at L severities."""

    seeds: tuple[int, ...]
    corruptions: tuple[str, ...]
    severities: tuple[int, ...]
    clean: npt.NDArray[np.bool_]
    hits: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Outcomes:
    """The contributions of the images to one number: values (S, n), a row for each of `seeds`; their labels (n,)."""

    seeds: tuple[int, ...]
    labels: Labels
    values: Values

    def of(self, seeds: tuple[int, ...]) -> Values:
        """The rows of these seeds, in this order."""
        return self.values[[self.seeds.index(seed) for seed in seeds]]


_VALUES: Final[dict[str, Callable[[Predicted], Values]]] = {
    "accuracy": lambda found: found.hits,
    "accuracy_shared": lambda found: found.hits[:, found.shared],
    "accuracy_masked": lambda found: found.masked_hits[:, found.shared],
    "mean_class_accuracy": lambda found: _class_mean(found.hits, found.labels),
    "mean_confidence": lambda found: found.confidence,
    "nll": lambda found: found.loss,
    "ece": lambda found: calibration.values(found.confidence, found.hits),
}
_SHARED: Final = ("accuracy_shared", "accuracy_masked")  # of a part of the images
_cache: WeakKeyDictionary[Study, dict[tuple[Model, str], Predicted | None]] = WeakKeyDictionary()
_corrupted_cache: WeakKeyDictionary[Study, dict[Model, Corrupted | None]] = WeakKeyDictionary()


def outcomes(
    study: Study, model: Model, evaluation: str, metric: str, dimensions: frozenset[tuple[str, Any]] = frozenset()
) -> Outcomes | None:
    """The contributions to a number; None if predictions are missing, or if they don't contain this number."""
    if evaluation == CORRUPTED_IMAGES:
        return _under_corruption(study, model, metric, dict(dimensions))
    found = predicted(study, model, evaluation)
    if found is None or metric not in _VALUES:
        return None
    kept = np.ones(len(found.labels), bool)
    if metric in _SHARED:
        kept = found.shared
    values, of_class = _VALUES[metric](found), dict(dimensions).get("class")
    if dimensions:
        if dimensions != {("class", of_class)} or metric != "accuracy" or of_class not in found.classes:
            return None
        kept = found.labels == found.classes.index(of_class)
        values = values[:, kept]
    return Outcomes(found.seeds, found.labels[kept], values) if values.shape[1] >= _FEWEST else None


def predicted(study: Study, model: Model, evaluation: str) -> Predicted | None:
    """The predictions of a model on `test` or `ood`; None without any, or if its seeds have other images."""
    known = _cache.setdefault(study, {})
    key = (model, evaluation)
    if key not in known:
        known[key] = _read(study, model, evaluation) if evaluation in ("test", "ood") else None
    return known[key]


def _read(study: Study, model: Model, evaluation: str) -> Predicted | None:
    arrays = dict(sorted(study.predictions(model, evaluation).items()))
    runs = [run for run in study.complete("ood" if evaluation == "ood" else None, model) if run.classes]
    if not arrays or not runs:
        return None
    labels, classes = next(iter(arrays.values()))["labels"].astype(np.int64), runs[0].classes
    if not all(np.array_equal(own["labels"], labels) for own in arrays.values()):
        return None
    substituted = (runs[0].result or {}).get("substituted") or [] if evaluation == "ood" else []
    shared = ~np.isin(labels, [classes.index(name) for name in substituted if name in classes])
    rows = [_of_seed(own["logits"], labels, np.unique(labels[shared])) for own in arrays.values()]
    hits, masked, confidence, loss = (np.stack(part) for part in zip(*rows, strict=True))
    return Predicted(tuple(arrays), tuple(classes), labels, shared, hits, masked, confidence, loss)


def _of_seed(logits: npt.NDArray[Any], labels: Labels, competing: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], ...]:
    """Hits, hits if only the classes `competing` exist, confidence and loss, each (n,), from logits (n, C)."""
    log_probability = log_softmax(logits.astype(float), axis=1)
    masked = np.where(np.isin(np.arange(logits.shape[1]), competing), logits, -np.inf).argmax(axis=1)
    loss = -log_probability[np.arange(len(labels)), labels]
    return logits.argmax(axis=1) == labels, masked == labels, np.exp(log_probability.max(axis=1)), loss


def _class_mean(hits: npt.NDArray[np.bool_], labels: Labels) -> Floats:
    """Contributions to the mean of the classes' accuracies: this mean plus the image's weighted distance to its class.

    The sizes of the classes are random too; to first order they don't change the mean of the accuracies.
    """
    classes, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    shares = np.stack([hits[:, index == own].mean(axis=1) for own in range(len(classes))], axis=1)
    weight = len(labels) / (len(classes) * counts)
    values: Floats = shares.mean(axis=1, keepdims=True) + weight[index] * (hits - shares[:, index])
    return values


def _under_corruption(study: Study, model: Model, metric: str, dimensions: dict[str, Any]) -> Outcomes | None:
    """The contributions to a number of the evaluation `corruptions`. The images are the same for all models."""
    known = _corrupted_cache.setdefault(study, {})
    if model not in known:
        known[model] = _read_corrupted(study, model)
    found = known[model]
    if found is None or not dimensions.keys() <= {"corruption", "severity"}:
        return None
    values = _of_conditions(found, metric, **dimensions)
    if values is None or values.shape[1] < _FEWEST:
        return None
    return Outcomes(found.seeds, np.arange(values.shape[1]), values)


def _of_conditions(
    found: Corrupted, metric: str, corruption: str | None = None, severity: int | None = None
) -> Values | None:
    """Contributions (S, n). Those to the ratio R of two means are linear: R + (corrupted - R clean) / mean(clean)."""
    if metric == "clean_accuracy":
        return found.clean
    if (corruption or found.corruptions[0]) not in found.corruptions:
        return None
    if metric == "accuracy" and corruption and severity in found.severities:
        return found.hits[:, found.corruptions.index(corruption), found.severities.index(severity)]
    if metric == "mean_accuracy" and corruption:
        by_severity: Floats = found.hits[:, found.corruptions.index(corruption)].mean(axis=1)
        return by_severity
    mean: Floats = found.hits.mean(axis=(1, 2))
    if metric == "relative_accuracy" and found.clean.any(axis=1).all():
        clean = found.clean.mean(axis=1, keepdims=True)
        ratio = mean.mean(axis=1, keepdims=True) / clean
        linear: Floats = ratio + (mean - ratio * found.clean) / clean
        return linear
    return mean if metric == "mean_accuracy" else None


def _read_corrupted(study: Study, model: Model) -> Corrupted | None:
    runs = sorted(study.complete(CORRUPTED_IMAGES, model), key=lambda run: run.seed)
    found = {run: run.arrays(CORRUPTIONS.file, *CORRUPTIONS.arrays) for run in runs}
    usable = {run: arrays for run, arrays in found.items() if arrays is not None and (arrays["hits"] != UNKNOWN).all()}
    if not usable:
        return None
    results = [run.result or {} for run in usable]
    kinds, levels = results[0].get("corruptions") or [], results[0].get("severities") or []
    shapes = {arrays["hits"].shape for arrays in usable.values()}
    same = all((entry.get("corruptions"), entry.get("severities")) == (kinds, levels) for entry in results)
    if not same or {shape[:2] for shape in shapes} != {(len(kinds), len(levels))} or len(shapes) > 1:
        return None
    clean, hits = (np.stack([arrays[name] == 1 for arrays in usable.values()]) for name in ("clean", "hits"))
    return Corrupted(tuple(run.seed for run in usable), tuple(kinds), tuple(levels), clean, hits)
