"""Accuracy with few labels: the hits of all models of the stage `few_labels`, and their intervals and comparisons."""

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from analysis import names, statistics
from analysis.names import Model
from analysis.study import Study
from ssl_pkg.catalogue import FEW_LABELS, SUPERVISED, UNKNOWN, adapted

SCRATCH: Final = Model(SUPERVISED)  # in a report of several studies each has its own
_Draw = tuple[int, int]  # the seed of the run, and the number of the draw


@dataclass(frozen=True)
class Point:
    """One model at one size: its hits (S, D, n) of S seeds and D draws on the n test images.

    Every seed is trained on the same draws; draws that a seed lacks are left out.
    """

    seeds: tuple[int, ...]
    draws: tuple[int, ...]
    hits: npt.NDArray[np.bool_]

    @property
    def mean(self) -> statistics.Mean:
        """Accuracy with its interval over seeds, draws and test images."""
        return statistics.mean(self.hits)


@dataclass(frozen=True)
class Gain:
    """The accuracy of a model minus that of the supervised model from scratch, with the same images."""

    model: Model
    labels_per_class: int
    difference: statistics.Difference
    p_holm: float
    verdict: str  # from p-values that are corrected for the family


def points(study: Study) -> dict[Model, dict[int, Point]]:
    """All models in the report's order, each with its sizes in increasing order."""
    found: dict[Model, dict[int, dict[_Draw, Any]]] = defaultdict(lambda: defaultdict(dict))
    for run in study.complete("few_labels"):
        arrays = run.arrays(FEW_LABELS.file, *FEW_LABELS.arrays)
        if arrays is None:
            continue
        columns = (arrays[name] for name in ("hits", "labels_per_class", "draw", "finetuned"))
        for hits, size, draw, finetuned in zip(*columns, strict=True):
            if (hits != UNKNOWN).all():
                method, adaptation = adapted(run.model.method, "finetune" if finetuned else "probe")
                model = replace(run.model, method=method, adaptation=adaptation)
                found[model][int(size)][run.seed, int(draw)] = hits > 0
    return {
        model: {size: point for size, draws in sorted(found[model].items()) if (point := _point(draws)) is not None}
        for model in names.in_order(found, study.methods)
    }


def gains(found: dict[Model, dict[int, Point]]) -> list[Gain]:
    """All models against the supervised one from scratch, at each size that both have; one family for Holm."""
    compared = []
    for model, sizes in found.items():
        base = names.counterpart(replace(model, method=SCRATCH.method, adaptation=SCRATCH.adaptation), found)
        scratch = found[base] if base else {}
        compared += [
            (model, size, _difference(point, scratch[size]))
            for size, point in sizes.items()
            if model != base and size in scratch and point.hits.shape[-1] == scratch[size].hits.shape[-1]
        ]
    p_values, p_equivalents = (
        statistics.holm([getattr(difference, name) for _, _, difference in compared]) for name in ("p", "p_equivalent")
    )
    return [
        Gain(*entry, p, statistics.verdict(p, p_equivalent))
        for entry, p, p_equivalent in zip(compared, p_values, p_equivalents, strict=True)
    ]


def _point(found: dict[_Draw, Any]) -> Point | None:
    """The hits of all seeds on the draws that each of them has; None without any, or if the images differ."""
    seeds = tuple(sorted({seed for seed, _ in found}))
    draws = tuple(draw for draw in sorted({draw for _, draw in found}) if all((seed, draw) in found for seed in seeds))
    if not draws or len({len(hits) for hits in found.values()}) > 1:
        return None
    return Point(seeds, draws, np.array([[found[seed, draw] for draw in draws] for seed in seeds]))


def _difference(first: Point, second: Point) -> statistics.Difference:
    """Over the draws that both models have, because they are a common cause of their accuracies; if none, over all.

    Their seeds are not paired: the encoders of the two models are different.
    """
    shared = [draw for draw in first.draws if draw in second.draws]
    if not shared:
        return statistics.difference(first.hits, second.hits, same_images=True)
    one, two = (point.hits[:, [point.draws.index(draw) for draw in shared]] for point in (first, second))
    return statistics.difference(one, two, same_images=True, same_draws=True)
