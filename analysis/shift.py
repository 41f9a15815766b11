"""Test accuracy against out-of-distribution accuracy, both on images of the classes that the two test sets share."""

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt

from analysis import statistics
from analysis.names import Model
from analysis.outcomes import predicted
from analysis.robustness import Networks, by_draw, effective_robustness
from analysis.statistics import Mean
from analysis.study import Study
from ssl_pkg.catalogue import FEW_LABELS, RANDOM, SUPERVISED, UNKNOWN

Hits = npt.NDArray[np.bool_]
BASELINE: Final = Model(SUPERVISED)


@dataclass(frozen=True)
class Point:
    """A model's accuracies on test and OOD, and its effective robustness: None without a line.

    The line of a supervised baseline is fitted without it, so its effective robustness tests the line.
    """

    test: Mean
    ood: Mean
    robustness: Mean | None
    extrapolated: bool  # whether its test accuracy is outside those of the line's networks


@lru_cache(maxsize=4)
def points(study: Study) -> dict[Model, Point]:
    """Every model with predictions on both sets, in the report's order."""
    lines = baselines(study)
    found = {}
    for model in study.models:
        networks = of_model(study, model)
        if networks is None:
            continue
        line = lines.get(model.study, [])
        if is_baseline(model):
            line = line[:-1]  # the last entry is this model
        inside = [accuracy for group in line for accuracy in group.test.mean(axis=1)]
        fits = [group for group in line if _same_images(group, networks)]
        found[model] = Point(
            statistics.mean(networks.test),
            statistics.mean(networks.ood),
            effective_robustness(networks, fits) if fits else None,
            bool(inside) and not min(inside) <= float(networks.test.mean()) <= max(inside),
        )
    return found


def is_baseline(model: Model) -> bool:
    """Whether the model is one of the networks of its study's line."""
    return model == replace(BASELINE, study=model.study)


def missed(study: Study) -> dict[Model, Mean]:
    """The effective robustness of each supervised baseline whose interval excludes 0.

    There the line is wrong, so the distances of models with a similar test accuracy say nothing about these models.
    """
    found = {model: point.robustness for model, point in points(study).items() if is_baseline(model)}
    return {model: gap for model, gap in found.items() if gap is not None and (gap.low > 0 or gap.high < 0)}


def baselines(study: Study) -> dict[str, list[Networks]]:
    """The networks trained from scratch of each study, by its name in `Model`; studies without any are left out."""
    found = {name: _of_study(study, name) for name in dict.fromkeys(model.study for model in study.models)}
    return {name: groups for name, groups in found.items() if groups}


def _of_study(study: Study, name: str) -> list[Networks]:
    """Those of one number of labels in one entry: few labels first, then all, which is the supervised baseline.

    A row is the mean over the seeds of a draw.
    """
    whole = of_model(study, replace(BASELINE, study=name))
    masks = next((own for model in study.models if (own := _masks(study, model)) is not None), None)
    if masks is None:
        return []
    found: dict[int, list[tuple[int, Hits, Hits]]] = defaultdict(list)  # by size: draw, and hits on test and OOD
    for run in study.complete("few_labels", Model(RANDOM, study=name)):
        arrays = run.arrays(FEW_LABELS.file, *FEW_LABELS.arrays, "ood_hits")
        if arrays is None or tuple(arrays[name].shape[1] for name in ("hits", "ood_hits")) != tuple(map(len, masks)):
            continue
        columns = (arrays[name] for name in ("hits", "ood_hits", "labels_per_class", "draw", "finetuned"))
        for hits, ood_hits, size, draw, finetuned in zip(*columns, strict=True):
            if finetuned and (hits != UNKNOWN).all() and (ood_hits != UNKNOWN).all():
                found[int(size)].append((int(draw), hits[masks[0]] > 0, ood_hits[masks[1]] > 0))
    groups = []
    for size in sorted(found):
        draws, test, ood = zip(*found[size], strict=True)
        groups.append(by_draw(Networks(np.stack(test), np.stack(ood)), draws))
    return groups if whole is None else [*groups, by_draw(whole, [0] * len(whole.test))]


def _masks(study: Study, model: Model) -> tuple[Hits, Hits] | None:
    """Which of the test and of the OOD images belong to shared classes; None without predictions on both sets."""
    test, ood = (predicted(study, model, evaluation) for evaluation in ("test", "ood"))
    if test is None or ood is None or test.classes != ood.classes:
        return None
    masks = np.isin(test.labels, ood.labels[ood.shared]), ood.shared
    return masks if min(mask.sum() for mask in masks) > 1 else None


def of_model(study: Study, model: Model) -> Networks | None:
    """The hits of a final model's seeds on the images of shared classes; None without predictions on both sets."""
    masks = _masks(study, model)
    found = [predicted(study, model, evaluation) for evaluation in ("test", "ood")]
    if masks is None or found[0] is None or found[1] is None:
        return None
    seeds = [seed for seed in found[0].seeds if seed in found[1].seeds]
    rows = [[own.seeds.index(seed) for seed in seeds] for own in found if own is not None]
    if not seeds:
        return None
    return Networks(found[0].hits[rows[0]][:, masks[0]], found[1].hits[rows[1]][:, masks[1]])


def _same_images(one: Networks, two: Networks) -> bool:
    return (len(one.test[0]), len(one.ood[0])) == (len(two.test[0]), len(two.ood[0]))


def change(study: Study, model: Model) -> statistics.Difference | None:
    """The OOD accuracy of a model minus its test accuracy, both on images of the shared classes.

    Over the seeds that have both; None without predictions on both sets.
    """
    networks = of_model(study, model)
    if networks is None:
        return None
    return statistics.difference(networks.ood, networks.test, same_images=False, same_seeds=True)


def same_classes(study: Study, model: Model) -> bool:
    """Whether the classes of both test sets are the same, so that no image is left out."""
    masks = _masks(study, model)
    return masks is not None and all(mask.all() for mask in masks)
