"""Test accuracy against out-of-distribution accuracy, both on images of the classes that the two test sets share."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis import statistics
from analysis.artifacts import Arrays
from analysis.names import Model
from analysis.robustness import Networks, effective_robustness
from analysis.statistics import Mean
from analysis.study import Study
from analysis.tables import substituted
from ssl_pkg.catalogue import SUPERVISED

Hits = npt.NDArray[np.bool_]
BASELINE: Final = Model(SUPERVISED)


@dataclass(frozen=True)
class Point:
    """A model's accuracies on test and OOD, and its effective robustness: None without a line."""

    test: Mean
    ood: Mean
    robustness: Mean | None
    extrapolated: bool  # whether its test accuracy is outside those of the line's networks


@lru_cache(maxsize=4)
def points(study: Study) -> dict[Model, Point]:
    """Every model with predictions on both sets, in the report's order. The baseline itself has no robustness."""
    line = baselines(study)
    inside = [accuracy for group in line for accuracy in group.test.mean(axis=1)]
    found = {}
    for model in study.models:
        networks = of_model(study, model)
        if networks is None:
            continue
        fits = [group for group in line if _same_images(group, networks)]
        found[model] = Point(
            statistics.mean(networks.test),
            statistics.mean(networks.ood),
            None if model == BASELINE else effective_robustness(networks, fits) if fits else None,
            bool(inside) and not min(inside) <= float(networks.test.mean()) <= max(inside),
        )
    return found


def baselines(study: Study) -> list[Networks]:
    """The supervised networks of different strength, those of one strength in one entry."""
    whole = of_model(study, BASELINE)
    return [] if whole is None else [whole]


def of_model(study: Study, model: Model) -> Networks | None:
    """The hits of a final model's seeds on the images of shared classes; None without predictions on both sets."""
    test, ood = study.predictions(model, "test"), study.predictions(model, "ood")
    seeds = sorted(test.keys() & ood.keys())
    classes = next((run.classes for run in study.complete("ood", model) if run.classes), [])
    if not seeds or not classes:
        return None
    lacking = [classes.index(name) for name in substituted(study) if name in classes]
    shared = np.setdiff1d(np.unique(ood[seeds[0]]["labels"]), lacking)
    hits: list[list[Hits]] = [[_hits(found[seed], shared) for seed in seeds] for found in (test, ood)]
    if any(len({len(entry) for entry in entries}) > 1 or len(entries[0]) < 2 for entries in hits):
        return None
    return Networks(np.stack(hits[0]), np.stack(hits[1]))


def _hits(arrays: Arrays, shared: npt.NDArray[np.int64]) -> Hits:
    labels = arrays["labels"]
    hits: Hits = (arrays["logits"].argmax(axis=1) == labels)[np.isin(labels, shared)]
    return hits


def _same_images(one: Networks, two: Networks) -> bool:
    return (len(one.test[0]), len(one.ood[0])) == (len(two.test[0]), len(two.ood[0]))
