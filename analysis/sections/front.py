"""The report's first page: title, facts about the runs and the data, and findings generated from the numbers."""

import datetime
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from analysis import names, statistics, tables, trials
from analysis.blocks import Section
from analysis.comparisons import (
    FINETUNED,
    OOD,
    OOD_PAIRS,
    OVER_PROBE,
    OVER_RANDOM,
    PROBES,
    TEST_PAIRS,
    Comparison,
    Family,
    compared,
    comparisons,
)
from analysis.data import data_label, data_names, data_warning
from analysis.estimates import estimate
from analysis.names import Model
from analysis.outcomes import outcomes
from analysis.relation import verdicts
from analysis.study import RunKey, Study


def title(study: Study, date: datetime.date) -> dict[str, Any]:
    """Title, subtitle, warning about the data, and facts of the study, in the form that report.typ reads."""
    methods = names.listed(map(study.method_label, study.methods))
    return {
        "title": f"Self-supervised pretraining of a ResNet-18: {study.name}",
        "subtitle": f"{methods}: from learning curves to width",
        "data": f"data: {data_label(study)}",
        "note": data_warning(data_names(study, ood=False), data_names(study, ood=True)),
        "facts": [list(fact) for fact in _facts(study, date) if fact[1]],
    }


def _facts(study: Study, date: datetime.date) -> list[tuple[str, str]]:
    sources = [run.provenance for run in study.complete()]
    starts = [start for source in sources for start in _starts(source)]
    roots = {str(source.get("data", {}).get("root", "")) for source in sources if isinstance(source.get("data"), dict)}
    return [
        (
            "Data",
            ", ".join(data_names(study))
            + (f" (read from {names.listed(sorted(roots - {''}))})" if roots - {""} else ""),
        ),
        ("Methods", names.listed(map(study.method_label, study.methods))),
        ("Seeds", ", ".join(map(str, study.seeds))),
        ("Runs", _runs(study)),
        ("Missing", grouped(study.missing)),
        ("Not used", " ".join(study.notes)),
        ("Code", names.listed(_values(starts, "commit"))),
        ("Versions", names.listed(_versions(start) for start in starts)),
        ("Hardware", names.listed(_hardware(start) for start in starts)),
        ("Date", date.isoformat()),
    ]


def _runs(study: Study) -> str:
    """How many of the planned runs are complete."""
    if not study.planned:
        begun = f"{len(study.complete())} of the {len(study.runs)} that were started are complete"
        return f"{begun}; missing runs are not known, because the study has no usable plan.json"
    done = len(study.planned) - len(study.missing)
    return f"{done} of the {len(study.planned)} planned runs are complete"


def grouped(keys: Iterable[RunKey]) -> str:
    """Runs grouped by stage: `ood of byol-probe (seeds 0, 1); width of …`."""
    stages: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for stage, model, seed in keys:
        stages[stage][model.full_name].append(seed)
    parts = []
    for stage, models in stages.items():
        seeds = {tuple(found) for found in models.values()}
        if len(seeds) == 1:
            parts.append(f"{stage} of {names.listed(models)} ({_seeds(next(iter(seeds)))})")
        else:
            parts.append(f"{stage} of " + names.listed(f"{model} ({_seeds(found)})" for model, found in models.items()))
    return "; ".join(parts)


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"


def _values(sources: Iterable[dict[str, Any]], key: str) -> list[str]:
    return sorted({str(source[key]) for source in sources if source.get(key)})


def _starts(source: dict[str, Any]) -> list[dict[str, Any]]:
    """The provenance of each start of a run that differs from the start before."""
    starts = source.get("starts")
    found = [start for start in starts if isinstance(start, dict)] if isinstance(starts, list) else []
    return found or [source]


def _versions(source: dict[str, Any]) -> str:
    versions = source.get("versions")
    return ", ".join(f"{name} {value}" for name, value in versions.items()) if isinstance(versions, dict) else ""


def _hardware(source: dict[str, Any]) -> str:
    hardware = source.get("hardware")
    if not isinstance(hardware, dict):
        return ""
    parts = [
        f"{hardware.get('name', '')} ({hardware.get('device', 'unknown device')})",
        str(hardware.get("precision", "")),
    ]
    if hardware.get("device") == "cpu":
        parts.append(f"threads: {hardware.get('threads', '?')}")
    return ", ".join(part for part in [*parts, f"processes: {source.get('world_size', 1)}"] if part)


def findings(study: Study) -> Section:
    """Sentences generated from the numbers, each with its uncertainty."""
    made = Section("Findings")
    made.text(
        "These sentences are generated from the tables of this report. Brackets are 95 % intervals. Each p is "
        "corrected for the other comparisons of its family; with an equivalence test it decides whether a difference "
        "is called clear, equivalent (within one point) or undecided, as the section “Comparisons” explains."
    )
    made.items([sentence for sentence in _sentences(study) if sentence])
    return made


def _sentences(study: Study) -> list[str]:
    return [
        _one_seed(study),
        _tuned(study),
        _best(study, TEST_PAIRS, "Test accuracy in percent"),
        _against(study, FINETUNED, "Fine-tuning against the supervised baseline, test accuracy"),
        trials.below_probe(study),
        _against(study, PROBES, "A linear probe on frozen features against the supervised baseline"),
        _against(study, OVER_RANDOM, "A linear probe against the same probe on the random initialisation"),
        _against(study, OVER_PROBE, "Fine-tuning against the probe on the same encoder, test accuracy"),
        _best(study, OOD_PAIRS, "OOD accuracy, all classes, in percent"),
        _against(study, OOD, "OOD accuracy against the supervised baseline"),
        _drop(study),
        _spread(study),
        _width(study),
    ]


def _tuned(study: Study) -> str:
    """Which fields of each pretraining were tuned for this budget; empty if none was."""
    fields = {
        run.model.method: run.config["method"].get("tuned") or []
        for run in reversed(study.of("pretrain"))
        if isinstance(run.config.get("method"), dict)
    }
    if not any(fields.values()):
        return ""
    parts = []
    for method in (method for method in study.methods if method in fields):
        named = names.listed(str(name).rpartition(".")[2].replace("_", " ") for name in fields[method])
        parts.append(f"{study.method_label(method)} {len(fields[method]) or 'none'}" + (f" ({named})" if named else ""))
    return (
        "Hyperparameters of the pretraining that were tuned for this reduced budget on a holdout split of labelled "
        f"train, before this study: {', '.join(parts)}. A rank among methods includes this difference in effort."
    )


def _best(study: Study, family: Family, subject: str) -> str:
    """The model with the highest accuracy, and how far the next one is behind, corrected for all pairs of models."""
    values = {model: estimate(study, model, family.evaluation, family.metric) for model in study.models}
    found = {model: value for model, value in values.items() if value is not None}
    ranked = sorted(found, key=lambda model: -found[model].value)
    if not ranked:
        return ""
    if len(ranked) == 1:
        return f"{subject}: the only model is {study.model_label(ranked[0])} with {tables.percent(found[ranked[0]])}."
    equal = [model for model in ranked if found[model].value == found[ranked[0]].value]
    highest, following = ("is highest", "next") if len(equal) == 1 else ("are equal and highest", "second")
    first = (
        f"{subject}: {names.listed(map(study.model_label, equal))} {highest} with {tables.percent(found[ranked[0]])}"
    )
    entry = compared(study, family, ranked[0], ranked[1])
    return f"{first}; the {following}, {study.model_label(ranked[1])}, is {_behind(entry)}."


def _behind(entry: Comparison | None) -> str:
    """`3.1 points behind [+1.9, +4.3], p = .012: clear`."""
    if entry is None:
        return "not comparable"
    gap = entry.difference
    numbers = f"{100 * gap.value:.1f} points behind"
    if gap.low is None or gap.high is None or entry.p_holm is None:
        return f"{numbers}, without an interval"
    interval = f"[{tables.signed(100 * gap.low)}, {tables.signed(100 * gap.high)}]"
    return f"{numbers} {interval}, {tables.p_text(entry.p_holm)} (corrected for all pairs of models): {entry.verdict}"


def _against(study: Study, family: Family, subject: str) -> str:
    """The differences of a family, grouped into clearly above, clearly below, equivalent and undecided."""
    groups: dict[str, list[str]] = {"clearly above": [], "clearly below": [], "equivalent": [], "undecided": []}
    entries = comparisons(study).get(family, [])
    labels = {entry.first: study.model_label(entry.first) for entry in entries}
    if len({model.adaptation for model in labels}) == 1:
        labels = {model: study.model_label(model.encoder) for model in labels}
    for entry in entries:
        group = entry.verdict or "undecided"
        if group == "clear":
            group = "clearly above" if entry.difference.value > 0 else "clearly below"
        p = "" if entry.p_holm is None else f" ({tables.p_text(entry.p_holm)})"
        groups[group].append(f"{labels[entry.first]} {tables.gain_text(entry.difference)}{p}")
    parts = [f"{group}: {', '.join(found)}" for group, found in groups.items() if found]
    return f"{subject}, in points: {'; '.join(parts)}." if parts else ""


def _drop(study: Study) -> str:
    found = {model: _shift(study, model) for model in study.models if model != names.RANDOM_PROBE}
    changes = {model: gap for model, gap in found.items() if gap is not None}
    if len(changes) < 2:
        return ""
    best, worst = (end(changes, key=lambda model: changes[model].value) for end in (max, min))
    texts = [
        f"{tables.signed(100 * changes[model].value)} points [{tables.signed(100 * changes[model].low)}, "
        f"{tables.signed(100 * changes[model].high)}] ({study.model_label(model)})"
        for model in (best, worst)
    ]
    return (
        f"OOD accuracy minus test accuracy: from {texts[0]} to {texts[1]}. The two sets hold different images, so "
        "this difference includes their difficulty as well as the shift."
    )


def _shift(study: Study, model: Model) -> statistics.Difference | None:
    """The OOD accuracy of a model minus its test accuracy, over the seeds that have both; None without predictions."""
    test, ood = (outcomes(study, model, evaluation, "accuracy") for evaluation in ("test", "ood"))
    if test is None or ood is None:
        return None
    seeds = tuple(seed for seed in test.seeds if seed in ood.seeds)
    if not seeds:
        return None
    return statistics.difference(ood.of(seeds), test.of(seeds), same_images=False, same_seeds=True)


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
            values = f"{min(last):.3g}" if len(last) == 1 else f"{min(last):.3g} to {max(last):.3g}"
            parts.append(f"{study.model_label(encoder)} ends at {values} (minimum {low:.3g})")
    return f"Standard deviation of z, which is zero after a collapse: {'; '.join(parts)}." if parts else ""


def _width(study: Study) -> str:
    """What the chosen measure of width shows over all models."""
    return " ".join(verdicts(study, kinds=("all",)))


def _one_seed(study: Study) -> str:
    if study.seeds_tested != 1:
        return study.seeds_text
    return (
        "Each model has one seed, so every comparison is one of these trained networks and not of the methods: how "
        "much another seed would change them is unknown, and no interval or p-value includes it."
    )
