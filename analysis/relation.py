"""The relation between the width of an optimum and accuracy: the part of the report and its sentences."""

# ruff: noqa: RUF001 (texts for people have Greek letters, dashes and minus signs)

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from analysis import tables
from analysis.blocks import Section
from analysis.correlation import (
    EXACT,
    KINDS,
    LEAST,
    LEAST_INTERVAL,
    TARGETS,
    Correlation,
    comparable,
    correlations,
    enough_models,
    points,
    targets,
)
from analysis.figures import width
from analysis.measures import Measurement, chosen
from analysis.number_text import NumberText
from analysis.statistics import ALPHA
from analysis.study import Study
from analysis.widths import widths_of
from analysis.words import N_, _, ngettext

_RISING: Final = N_("models with a wider optimum have a higher {target}")
_FALLING: Final = N_("models with a wider optimum have a lower {target}")


def add(made: Section, study: Study, figures: Path) -> None:
    """Adds the correlations of the chosen measure with their figure, then those of the other measures."""
    if not comparable(study):
        made.text(
            _(
                "No correlation is computed, because the studies measured the widths with different settings (section "
                "“Comparison of studies”), so their widths are not comparable."
            )
        )
        return
    found, measure = correlations(study), chosen(widths_of(study))
    if not found or measure is None:
        text = (
            N_("No correlation is computed, because all models have the same width or the same accuracy.")
            if measure is not None and enough_models(study, measure)
            else N_("No correlation is computed, because fewer than {least} models have both a width and an accuracy.")
        )
        made.text(_(text, least=LEAST))
        return
    _explain(made)
    text = (
        N_("All models have the same value of the chosen measure, or the same accuracy.")
        if enough_models(study, measure)
        else N_("Too few models have the chosen measure for a correlation.")
    )
    made.note(" ".join(verdicts(study)) or _(text))
    _of_chosen(made, study, measure, figures)
    _others(made, study, [entry for entry in found if entry.measure != measure], figures)


def _explain(made: Section) -> None:
    made.text(
        _(
            "Spearman's rank correlation over models, each with its mean over seeds, without the random "
            "initialisation. The generalisation gap is the accuracy on the subset of train minus that on test; where "
            "all models fit the subset, it contains nothing but the test accuracy. The p-value is that of a "
            "permutation test, exact for up to {exact} models. The 95 % interval is Fisher's with the variance of "
            "Bonett and Wright; below {least_interval} models there is none, and below {least} models no correlation, "
            "because no order of three has a p-value below 1/3. Holm's correction is over all correlations of the "
            "chosen measure, and over all those of the others. The models are not an independent sample, because "
            "they share data, initialisation and, for probe and fine-tuned, the encoder. Over all models a difference "
            "between the two kinds alone, probes and fine-tuned models, can appear as a relation; within a kind it "
            "can't.",
            exact=EXACT,
            least_interval=LEAST_INTERVAL,
            least=LEAST,
        )
    )


def _of_chosen(made: Section, study: Study, measure: Measurement, figures: Path) -> None:
    """The table and the figure of the chosen measure."""
    made.table(
        "width-correlations",
        [_("Models"), *_headings(study)],
        [
            [_(label), *(_cell(study, measure, target, kind) for target in targets(study))]
            for kind, label in KINDS.items()
        ],
        _(
            "{measure}: Spearman's ρ with its 95 % interval, p, p after Holm's correction (p*), and n.",
            measure=measure.label,
        ),
        size=8,
    )
    made.figure(
        figures,
        "width-accuracy",
        width.scatter(study, [measure], correlations(study)),
        _(
            "The chosen measure against accuracy. Each point is a model (mean over seeds), without the random "
            "initialisation. ρ: Spearman's rank correlation."
        ),
        _("if wide optima are better, points fall from left to right for accuracy and rise for the gap."),
    )


def _others(made: Section, study: Study, found: Sequence[Correlation], figures: Path) -> None:
    """The measures without a conclusion of their own."""
    for kind, label in KINDS.items():
        measures = dict.fromkeys(entry.measure for entry in found if entry.kind == kind)
        made.table(
            f"width-correlations-{kind}",
            [_("Measure"), *_headings(study)],
            [
                [measure.label, *(_cell(study, measure, target, kind) for target in targets(study))]
                for measure in measures
            ],
            _(
                "The other measures, {models}: for comparison with the literature, without a conclusion.",
                models=_(label),
            ),
            size=7.5,
        )
    made.figure(
        figures,
        "width-correlations",
        width.forest([entry for entry in found if entry.kind == "all"]),
        _("Spearman's ρ of the other measures over all models; bars: 95 % interval, from five models on."),
        _("a bar across zero is compatible with no relation."),
    )


def _headings(study: Study) -> list[str]:
    """The headings of the columns of correlations."""
    return [_("ρ with {target}", target=_(TARGETS[target])) for target in targets(study)]


def _cell(study: Study, measure: Measurement, target: str, kind: str) -> str:
    for entry in correlations(study):
        if (entry.measure, entry.target, entry.kind) == (measure, target, kind):
            corrected = tables.p_text(entry.corrected).replace("p", "p*")
            p = tables.p_text(entry.p)
            text = _("{rho}, {p}, {corrected}, n = {n}", rho=_number(entry), p=p, corrected=corrected, n=entry.n)
            numbers = {name: getattr(entry, name) for name in ("low", "high", "p", "corrected", "n")}
            return NumberText(text, value=entry.rho, **numbers)
    return f"{tables.ABSENT} (n = {len(points(study, measure, target, kind))})"


def _number(entry: Correlation) -> str:
    if entry.low is None or entry.high is None:
        return tables.signed(entry.rho, 2)
    value, low, high = (tables.signed(number, 2) for number in (entry.rho, entry.low, entry.high))
    return _("{value} [{low}, {high}]", value=value, low=low, high=high)


def verdicts(study: Study, kinds: Sequence[str] = tuple(KINDS)) -> list[str]:
    """Sentences on the correlations of the chosen measure: what their n and corrected p-values allow to say."""
    measure = chosen(widths_of(study))
    found = [entry for entry in correlations(study) if entry.measure == measure and entry.kind in kinds]
    if not found or measure is None:
        return []
    relations = "; ".join(_verdict(entry) for entry in found)
    made = [_("Width of the optimum and accuracy. {measure}: {relations}.", measure=measure.label, relations=relations)]
    if any(_not_shown(entry) for entry in found):
        made.append(_("That no relation is shown is no evidence that there is none."))
    return made


def _not_shown(entry: Correlation) -> bool:
    """Whether there are enough models to show a relation, and none is shown."""
    return entry.least_corrected < ALPHA <= entry.corrected


def _verdict(entry: Correlation) -> str:
    models = {
        "all": ngettext("{n} model", "{n} models", entry.n),
        "probe": ngettext("{n} probe", "{n} probes", entry.n),
        "finetune": ngettext("{n} fine-tuned model", "{n} fine-tuned models", entry.n),
    }
    if entry.corrected < ALPHA:
        rises = (entry.rho > 0) == entry.measure.is_large_if_wide
        meaning = _(_RISING if rises else _FALLING, target=_(TARGETS[entry.target]))
    elif _not_shown(entry):
        meaning = _("no relation is shown")
    else:
        meaning = _("so few models can't show a relation, whatever their order")
    return _(
        "with {target} over {models} ρ = {rho}, {p}, corrected {corrected}: {meaning}",
        target=_(TARGETS[entry.target]),
        models=models[entry.kind],
        rho=_number(entry),
        p=tables.p_text(entry.p),
        corrected=tables.p_text(entry.corrected),
        meaning=meaning,
    )
