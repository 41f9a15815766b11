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
from analysis.words import N_, _, ngettext

_TRAINING = N_(
    "Each encoder was probed and fine-tuned on random subsets of labelled train, the same subsets for every model "
    "and seed. Fine-tuning of the random encoder is supervised training from scratch. All trainings have the same "
    "number of steps, so a small subset is trained for as many steps as a large one."
)
_OF_EACH = N_(
    "Each encoder was probed and fine-tuned on random subsets of labelled train, the same subsets for every model "
    "and seed of a study. Fine-tuning of the random encoder is supervised training from scratch. All trainings of a "
    "study have the same number of steps, so a small subset is trained for as many steps as a large one."
)
_CHOSEN = N_(
    "The penalty of the probe, and learning rate and initial head of the fine-tuning where there are several, are "
    "chosen on a holdout split of the subset. Intervals are over seeds, subsets and test images. All three are "
    "crossed samples: every seed has the same subsets, so seeds times subsets are not independent repetitions."
)


def section(study: Study, figures: Path) -> Section:
    """The curve, its numbers, and where pretraining pays."""
    made = Section(_("Few labels"), ("few_labels",))
    found = points(study)
    if not found:
        return made
    made.text(
        " ".join(
            text for text in (_(_OF_EACH if study.parts else _TRAINING), _(_CHOSEN), _lone(found), _two(found)) if text
        )
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
        _(
            "Accuracy on test over the number of labelled images of each class, with 95 % intervals. At each number of "
            "labels the models are side by side, in the order of the legend, because their intervals would overlap."
        )
        + left_out(found, LINES),
        _("where a pretrained curve is clearly above the black one (see the sentences), pretraining saves labels."),
    )
    made.table(
        "accuracy-few-labels",
        [_("Labels per class"), *map(str, sizes)],
        [
            [study.model_label(model), *(tables.percent(each[size].mean if size in each else None) for size in sizes)]
            for model, each in found.items()
        ],
        _("Accuracy on test in percent over the number of labelled images of each class, with 95 % intervals."),
    )
    return made


def _left_out(study: Study) -> str:
    """Which of the wanted numbers of labels no run has, and why; empty if all are there."""
    settings = [run.config.get("few_labels") for run in study.complete("few_labels")]
    wanted = {size for own in settings if isinstance(own, dict) for size in own.get("labels_per_class", [])}
    rows = study.results
    sizes = set(rows.loc[rows["evaluation"] == "few_labels", "labels_per_class"].dropna())
    lacking = names.listed(map(str, sorted(wanted - sizes)))
    if not lacking:
        return ""
    return _("Left out: {sizes} labels per class, because a class of train has fewer images.", sizes=lacking)


def _lone(found: Mapping[Model, Mapping[int, Point]]) -> str:
    """Which variation the intervals lack, because a sample of one shows none."""
    every = [point for each in found.values() for point in each.values()]
    seeds, draws = ([len(getattr(point, name)) for point in every] for name in ("seeds", "draws"))
    one_seed, one_subset = (min(counts, default=2) == 1 for counts in (seeds, draws))
    if one_seed and one_subset:
        return _("Where there is only one seed or subset, the variation between seeds and subsets is in no interval.")
    if one_seed:
        return _("Where there is only one seed, the variation between seeds is in no interval.")
    return _("Where there is only one subset, the variation between subsets is in no interval.") if one_subset else ""


def _two(found: Mapping[Model, Mapping[int, Point]]) -> str:
    """How well the variation between subsets is known from two."""
    if min((len(point.draws) for each in found.values() for point in each.values()), default=0) != 2:
        return ""
    return _(
        "Of some sizes there are only two subsets, which show the variation between subsets only roughly: with other "
        "subsets, a difference near the limit of being clear could be undecided."
    )


def _by_model(family: Sequence[Gain]) -> dict[Model, list[Gain]]:
    return {model: [gain for gain in family if gain.model == model] for model in dict.fromkeys(g.model for g in family)}


def _sentence(study: Study, model: Model, family: Sequence[Gain]) -> str:
    """At which sizes the model differs from training from scratch."""
    groups = {
        N_("clearly above with {sizes}"): [
            gain for gain in family if gain.verdict == "clear" and gain.difference.value > 0
        ],
        N_("clearly below with {sizes}"): [
            gain for gain in family if gain.verdict == "clear" and gain.difference.value < 0
        ],
        N_("equivalent with {sizes}"): [gain for gain in family if gain.verdict == "equivalent"],
        N_("undecided with {sizes}"): [gain for gain in family if gain.verdict == "undecided"],
    }
    return _(
        "{model} against {scratch} from scratch: {verdicts}.",
        model=study.model_label(model),
        scratch=study.model_label(SCRATCH),
        verdicts="; ".join(_(text, sizes=_listed(gains)) for text, gains in groups.items() if gains),
    )


def _listed(family: Sequence[Gain]) -> str:
    return names.listed(
        ngettext(
            "{n} label per class ({value} points [{low}, {high}], corrected {p})",
            "{n} labels per class ({value} points [{low}, {high}], corrected {p})",
            gain.labels_per_class,
            value=tables.signed(100 * gain.difference.value),
            low=tables.signed(100 * gain.difference.low),
            high=tables.signed(100 * gain.difference.high),
            p=tables.p_text(gain.p_holm),
        )
        for gain in family
    )


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
    axes.set(xlabel=_("labelled images per class"), ylabel=_("accuracy on test (%)"), xscale="log")
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
