"""Accuracy on corrupted images: what the study measured, and the names of the corruptions."""

from typing import Any, Final

from analysis import names
from analysis.estimates import Estimate, estimate
from analysis.names import Model
from analysis.outcomes import CORRUPTED_IMAGES
from analysis.study import Study
from analysis.words import N_, _
from ssl_pkg.rows import dimensions_of

LABELS: Final = {
    "gaussian_noise": N_("Gaussian noise"),
    "gaussian_blur": N_("Gaussian blur"),
    "brightness": N_("Brightness"),
    "contrast": N_("Contrast"),
    "pixelate": N_("Pixelation"),
    "jpeg": N_("JPEG"),
}


def label(corruption: str) -> str:
    """A corruption's name for people."""
    return _(LABELS.get(corruption, corruption))


def measured(study: Study) -> tuple[list[Model], list[str], list[int]]:
    """The models with a number of this evaluation, in the report's order, the corruptions and the severities."""
    rows = study.results[study.results["evaluation"] == CORRUPTED_IMAGES]
    models = names.in_order(rows["model"], study.methods)
    return models, list(rows["corruption"].dropna().unique()), sorted(map(int, rows["severity"].dropna().unique()))


def number(study: Study, model: Model, metric: str, **dimensions: Any) -> Estimate | None:
    """A number of this evaluation. dimensions: `corruption` and `severity`, as far as the metric has them."""
    return estimate(study, model, CORRUPTED_IMAGES, metric, dimensions_of(dimensions))
