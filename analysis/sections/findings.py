"""The findings that the numbers support, as sentences with intervals and corrected p-values.

Those that the first page has are not repeated in the section.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Final

from analysis import names, tables, trials
from analysis.blocks import Section
from analysis.comparisons import (
    BETWEEN,
    OOD,
    OOD_STUDIES,
    OVER_PROBE,
    OVER_RANDOM,
    TEST,
    Comparison,
    Family,
    compared,
    comparisons,
)
from analysis.estimates import Estimate, estimate
from analysis.names import Model
from analysis.records import batch_size
from analysis.relation import verdicts
from analysis.sections.methods import by_study, tuned_fields
from analysis.sections.ood import drop
from analysis.study import Study
from analysis.words import N_, _, pgettext

_GROUPS: Final = {
    "above": N_("clearly above: {models}"),
    "below": N_("clearly below: {models}"),
    "equivalent": N_("equivalent: {models}"),
    "undecided": N_("undecided: {models}"),
}


def section(study: Study) -> Section:
    """The findings that the first page lacks, each with its uncertainty; no blocks without one."""
    made = Section(_("Further findings"))
    items = [sentence for sentence in _sentences(study) if sentence]
    if items:
        made.text(
            _(
                "These sentences, like the answers above, are generated from the tables of this report. Brackets are "
                "95 % intervals, not corrected for other comparisons. Each p is corrected for the other comparisons of "
                "its family. Together with an equivalence test, p decides whether a difference is called clear, "
                "equivalent (within one point) or undecided, as the section “Comparisons” explains."
            )
        )
        made.items(items)
    return made


def _sentences(study: Study) -> list[str]:
    return [
        against(study, OOD_STUDIES, _(OOD_STUDIES.label)),
        by_study(study, trials.below_probe),
        against(study, TEST, _("A linear probe on frozen features against the supervised baseline"), "probe"),
        against(study, OVER_RANDOM, _("A linear probe against the same probe on the random initialisation")),
        against(study, OVER_PROBE, _("Fine-tuning against the probe on the same encoder, test accuracy")),
        against(study, OOD, _("OOD accuracy against the supervised baseline")),
        drop(study),
        _spread(study),
        _width(study),
    ]


def tuned(study: Study) -> str:
    """Which values of each pretraining a search changed for this budget; empty if it changed none.

    The configuration records these values only: how many others were tried is unknown.
    """
    fields = by_study(study, tuned_fields)
    return fields and _(
        "Hyperparameters of the pretraining whose values were changed for this reduced budget by a search on a holdout "
        "split of labelled train, before this study: {fields}.",
        fields=fields,
    )


def lengths(study: Study) -> str:
    """How long each method was pretrained, if some saw more images than others; empty otherwise and in sweeps of it."""
    return by_study(study, _lengths)


def _lengths(study: Study) -> str:
    found: dict[str, set[tuple[int, int]]] = defaultdict(set)
    for run in study.complete("pretrain"):
        steps, batch = run.training.get("steps"), batch_size(run)
        if isinstance(steps, int) and isinstance(batch, int):
            found[run.model.method].add((steps, batch))
    if any(len(lengths) > 1 for lengths in found.values()):
        return ""
    seen = {method: lengths.pop() for method, lengths in found.items()}
    if len({steps * batch for steps, batch in seen.values()}) < 2:
        return ""
    parts = [
        _(
            "{method} {steps:,} steps of {batch:,} images",
            method=study.method_label(method),
            steps=seen[method][0],
            batch=seen[method][1],
        )
        for method in study.methods
        if method in seen
    ]
    return _(
        "The methods were not pretrained on equally many images: {lengths}. A ranking of the methods also "
        "reflects this difference.",
        lengths=names.separated(parts),
    )


def ranked_models(study: Study, family: Family) -> dict[Model, Estimate]:
    """The models with their accuracies, the highest first."""
    values = {model: estimate(study, model, family.evaluation, family.metric) for model in study.models}
    found = {model: value for model, value in values.items() if value is not None}
    return dict(sorted(found.items(), key=lambda entry: -entry[1].value))


def best(study: Study, family: Family, subject: str, models: Collection[Model] | None = None) -> str:
    """The model with the highest accuracy, and how far the next one is behind, corrected for all pairs of models.

    models: the ones to rank; all without it.
    """
    every = ranked_models(study, family)
    found = {model: value for model, value in every.items() if models is None or model in models}
    ranked = list(found)
    if not ranked:
        return ""
    value = tables.percent(found[ranked[0]])
    if len(ranked) == 1:
        only = study.model_label(ranked[0])
        return _("{subject}: the only model is {model} with {value}.", subject=subject, model=only, value=value)
    equal = [model for model in ranked if found[model].value == found[ranked[0]].value]
    highest = (
        N_("{subject}: {models} is highest with {value}; the next, {next}, is {behind}.")
        if len(equal) == 1
        else N_("{subject}: {models} are equal and highest with {value}; the second, {next}, is {behind}.")
    )
    return _(
        highest,
        subject=subject,
        models=names.listed(map(study.model_label, equal)),
        value=value,
        next=study.model_label(ranked[1]),
        behind=_behind(compared(study, family, ranked[0], ranked[1])),
    )


def _behind(entry: Comparison | None) -> str:
    """`3.1 points behind [+1.9, +4.3], p = .012: clear`."""
    if entry is None:
        return _("not comparable")
    behind = entry.difference.value >= 0  # two models with the same encoder are compared over the seeds that both have
    gap = entry.difference if behind else entry.difference.reversed()
    distance = N_("{gap:.1f} points behind") if behind else N_("{gap:.1f} points ahead over the seeds that both have")
    points = _(distance, gap=100 * gap.value)
    if gap.low is None or gap.high is None or entry.p_holm is None or entry.verdict is None:
        return _("{points}, without an interval", points=points)
    return _(
        "{points} [{low}, {high}], {p} (corrected for all pairs of models): {verdict}",
        points=points,
        low=tables.signed(100 * gap.low),
        high=tables.signed(100 * gap.high),
        p=tables.p_text(entry.p_holm),
        verdict=_(entry.verdict),
    )


def against(study: Study, family: Family, subject: str, adaptation: str | None = None) -> str:
    """The differences of a family, grouped into clearly above, clearly below, equivalent and undecided.

    adaptation: of the models to list, `probe` or `finetune`; all without it.
    """
    groups: dict[str, list[str]] = {group: [] for group in _GROUPS}
    entries = [entry for entry in comparisons(study).get(family, []) if adaptation in (None, entry.first.adaptation)]
    for entry, label in zip(entries, _labels(study, entries), strict=True):
        group = entry.verdict or "undecided"
        if group == "clear":
            group = "above" if entry.difference.value > 0 else "below"
        p = "" if entry.p_holm is None else f" ({tables.p_text(entry.p_holm)})"
        groups[group].append(f"{label} {tables.gain_text(entry.difference)}{p}")
    parts = [_(_GROUPS[group], models=names.separated(found)) for group, found in groups.items() if found]
    shown = pgettext("between groups of models", "; ").join(parts)
    return _("{subject}, in points: {groups}.", subject=subject, groups=shown) if parts else ""


def _labels(study: Study, entries: Sequence[Comparison]) -> list[str]:
    """The first model of each comparison, as short as the others allow."""
    if entries and entries[0].family in BETWEEN:
        return [
            _("{model} minus {study}", model=study.model_label(entry.first), study=entry.second.study)
            for entry in entries
        ]
    models = [entry.first for entry in entries]
    short = len({model.adaptation for model in models}) == 1
    return [study.model_label(model.encoder if short else model) for model in models]


def _spread(study: Study) -> str:
    """The standard deviation of z at the end of pretraining and its minimum, for each encoder that logs it."""
    parts = []
    for encoder in study.encoders:
        ends = [
            run.metrics["z_std"].dropna()
            for run in study.complete("pretrain", encoder)
            if "z_std" in run.metrics and run.metrics["z_std"].notna().any()
        ]
        if ends:
            low, last = min(float(end.min()) for end in ends), [float(end.iloc[-1]) for end in ends]
            ends_at = (
                N_("{model} ends at {first:.3g} (minimum {low:.3g})")
                if len(last) == 1
                else N_("{model} ends at {first:.3g} to {last:.3g} (minimum {low:.3g})")
            )
            parts.append(_(ends_at, model=study.model_label(encoder), first=min(last), last=max(last), low=low))
    if not parts:
        return ""
    return _(
        "Standard deviation of z, which is zero after a collapse and about 1/√D if z, with D values, is spread evenly: "
        "{found}.",
        found=names.separated(parts),
    )


def _width(study: Study) -> str:
    """What the chosen measure of width shows over all models."""
    return " ".join(verdicts(study, kinds=("all",)))


def seeds(study: Study) -> str:
    """That the models have one seed, or some fewer than planned, and what that means; empty otherwise."""
    if study.seeds_tested != 1:
        return study.seeds_text
    return _(
        "Each model has one seed, so every comparison is one of these trained networks and not of the methods: how "
        "much another seed would change them is unknown, and no interval or p-value includes it."
    )
