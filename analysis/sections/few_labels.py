"""Accuracy over the number of labels: probes, fine-tuned models and supervised training from scratch."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from analysis import names, tables
from analysis.blocks import Section
from analysis.few_labels import SCRATCH, Gain, Point, gains, points
from analysis.figures import style
from analysis.names import Model
from analysis.selection import LINES, left_out, selected
from analysis.study import Study


def section(study: Study, figures: Path) -> Section:
    """The curve, its numbers, and where pretraining pays."""
    made = Section("Few labels", ("few_labels",))
    found = points(study)
    if not found:
        return made
    within, of_study = (" of a study", "of a study ") if study.parts else ("", "")
    made.text(
        f"Each encoder was probed and fine-tuned on random subsets of labelled train, the same subsets for every model "
        f"and seed{within}. Fine-tuning of the random encoder is supervised training from scratch. All trainings "
        f"{of_study}have the same number of steps, so that few images are trained on as long as many. The penalty of "
        "the probe, and learning rate and first head of the fine-tuning where there are several, are chosen on a "
        "holdout split of the subset. "
        "Intervals are over seeds, subsets and test images. All three are crossed samples: every seed has the same "
        "subsets, so seeds times subsets are no independent repetitions." + _missing_variation(found)
    )
    sizes = sorted({size for each in found.values() for size in each})
    if lacking := _left_out(study):
        made.text(lacking)
    made.items([_sentence(study, model, family) for model, family in _by_model(gains(found)).items()])
    made.figure(
        figures,
        "few-labels",
        _figure(study, {model: found[model] for model in selected(study, list(found), LINES)})
        if len(sizes) > 1
        else None,
        "Accuracy on test over the number of labelled images of each class, with 95 % intervals. The models of one "
        "number are side by side, in the order of the legend, because their intervals would overlap."
        + left_out(found, LINES),
        "where a pretrained curve is clearly above the black one (see the sentences), pretraining saves labels.",
    )
    made.table(
        "accuracy-few-labels",
        ["Labels per class", *map(str, sizes)],
        [
            [study.model_label(model), *(tables.percent(each[size].mean if size in each else None) for size in sizes)]
            for model, each in found.items()
        ],
        "Accuracy on test in percent over the number of labelled images of each class, with 95 % intervals.",
        widths=[1.4, *([1.0] * len(sizes))],
    )
    return made


def _left_out(study: Study) -> str:
    """Which of the wanted numbers of labels no run has, and why; empty if all are there."""
    settings = [run.config.get("few_labels") for run in study.complete("few_labels")]
    wanted = {size for own in settings if isinstance(own, dict) for size in own.get("labels_per_class", [])}
    rows = study.results
    sizes = set(rows.loc[rows["evaluation"] == "few_labels", "labels_per_class"].dropna())
    lacking = names.listed(map(str, sorted(wanted - sizes)))
    return f"Left out: {lacking} labels per class, because a class of train has fewer images." if lacking else ""


def _missing_variation(found: Mapping[Model, Mapping[int, Point]]) -> str:
    """Which variation the intervals lack, because a sample of one shows none."""
    every = [point for each in found.values() for point in each.values()]
    seeds, draws = ([len(getattr(point, name)) for point in every] for name in ("seeds", "draws"))
    single = [word for word, counts in (("seed", seeds), ("subset", draws)) if min(counts, default=2) == 1]
    if not single:
        return ""
    kinds = names.listed(f"{word}s" for word in single)
    return f" Where there is only one {' or '.join(single)}, the variation between {kinds} is in no interval."


def _by_model(family: Sequence[Gain]) -> dict[Model, list[Gain]]:
    return {model: [gain for gain in family if gain.model == model] for model in dict.fromkeys(g.model for g in family)}


def _sentence(study: Study, model: Model, family: Sequence[Gain]) -> str:
    """At which sizes the model differs from training from scratch."""
    groups = {
        "clearly above": [gain for gain in family if gain.verdict == "clear" and gain.difference.value > 0],
        "clearly below": [gain for gain in family if gain.verdict == "clear" and gain.difference.value < 0],
        "equivalent": [gain for gain in family if gain.verdict == "equivalent"],
        "undecided": [gain for gain in family if gain.verdict == "undecided"],
    }
    parts = [f"{word} with {_listed(gains)}" for word, gains in groups.items() if gains]
    return f"{study.model_label(model)} against {study.model_label(SCRATCH)} from scratch: {'; '.join(parts)}."


def _listed(family: Sequence[Gain]) -> str:
    texts = (
        f"{gain.labels_per_class} labels per class ({tables.signed(100 * gain.difference.value)} points "
        f"[{tables.signed(100 * gain.difference.low)}, {tables.signed(100 * gain.difference.high)}], corrected "
        f"{tables.p_text(gain.p_holm)})"
        for gain in family
    )
    return names.listed(texts)


def _figure(study: Study, found: dict[Model, dict[int, Point]]) -> Figure:
    figure, (axes,) = style.grid(1, 1, 3.2)
    ticks = sorted({size for sizes in found.values() for size in sizes})
    for (model, sizes), shift in zip(found.items(), shifts(len(found), ticks), strict=True):
        look = style.look(model, study.encoders)
        means = [point.mean for point in sizes.values()]
        values = [mean.value for mean in means]
        lengths = (
            [mean.value - mean.low for mean in means],
            [mean.high - mean.value for mean in means],
        )
        axes.errorbar(
            [size * shift for size in sizes], values, yerr=lengths, color=look.color, linestyle=look.line,
            linewidth=0.8, elinewidth=0.9, marker=look.marker, markerfacecolor=look.face, markersize=4, capsize=1.5,
            label=study.model_label(model),
        )  # fmt: skip
    axes.set(xlabel="labelled images per class", ylabel="accuracy on test (%)", xscale="log")
    axes.set_xticks(ticks, labels=[str(tick) for tick in ticks])
    axes.set_xticks([], minor=True)
    style.percent_axis(axes.yaxis)
    style.legend(figure, *axes.get_legend_handles_labels())
    return figure


def shifts(count: int, sizes: Sequence[int]) -> list[float]:
    """Factors on the sizes of `count` models, symmetric about 1 on a log axis, so that intervals don't overlap.

    Together they take 70 % of the smallest gap between two sizes, at most of a gap from a size to its double.
    """
    gap = min([2.0, *(after / before for before, after in pairwise(sizes))])
    places = np.linspace(-0.5, 0.5, count) if count > 1 else np.zeros(1)
    return [float(gap ** (0.7 * place)) for place in places]
