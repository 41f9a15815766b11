"""Accuracy on corrupted images: what the study measured, and differences between models on the same images."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from analysis import names, statistics
from analysis.estimates import Estimate, estimate
from analysis.names import Model
from analysis.study import Study
from ssl_pkg.catalogue import CORRUPTIONS
from ssl_pkg.rows import dimensions_of

EVALUATION: Final = "corruptions"
LABELS: Final = {
    "gaussian_noise": "Gaussian noise",
    "gaussian_blur": "Gaussian blur",
    "brightness": "Brightness",
    "contrast": "Contrast",
    "pixelate": "Pixelation",
    "jpeg": "JPEG",
}


@dataclass(frozen=True)
class Against:
    """The mean accuracy of a model under corruption minus that of another, with its corrected p-value."""

    difference: statistics.Difference
    p_holm: float


def label(corruption: str) -> str:
    """A corruption's name for people."""
    return LABELS.get(corruption, corruption)


def measured(study: Study) -> tuple[list[Model], list[str], list[int]]:
    """The models with a number of this evaluation, in the report's order, the corruptions and the severities."""
    rows = study.results[study.results["evaluation"] == EVALUATION]
    models = names.in_order(rows["model"], study.methods)
    return models, list(rows["corruption"].dropna().unique()), sorted(map(int, rows["severity"].dropna().unique()))


def number(study: Study, model: Model, metric: str, **dimensions: Any) -> Estimate | None:
    """A number of this evaluation. dimensions: `corruption` and `severity`, as far as the metric has them."""
    return estimate(study, model, EVALUATION, metric, dimensions_of(dimensions))


def shares(study: Study, model: Model) -> statistics.Floats | None:
    """The share of the conditions under which each image is classified correctly: (seeds, images).

    None without a usable file, or if a seed has other images than the first or logits that are not finite.
    """
    found = [run.arrays(CORRUPTIONS.file, *CORRUPTIONS.arrays) for run in study.complete(EVALUATION, model)]
    hits = [arrays["hits"] for arrays in found if arrays is not None]
    if not hits or len({entry.shape for entry in hits}) > 1 or any((entry < 0).any() for entry in hits):
        return None
    return np.stack([entry.mean(axis=(0, 1)) for entry in hits])


def against(study: Study, base: Model) -> dict[Model, Against]:
    """Every other model against `base`, paired by image; the p-values are corrected for these comparisons (Holm)."""
    own = shares(study, base)
    others = {model: shares(study, model) for model in measured(study)[0] if model != base}
    found = {
        model: statistics.difference(values, own, same_images=True, same_seeds=False)
        for model, values in others.items()
        if own is not None and values is not None and values.shape[1] == own.shape[1]
    }
    corrected = statistics.holm([difference.p for difference in found.values()])
    return {model: Against(found[model], p) for model, p in zip(found, corrected, strict=True)}
