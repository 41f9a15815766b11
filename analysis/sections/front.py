"""The report's first page: what was asked, the answers, the main figure, the data, and what is missing."""

import datetime
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from analysis import few_labels, names, tables
from analysis.blocks import Section
from analysis.comparisons import FINETUNED, OOD_PAIRS, PROBES, STUDIES, TEST_PAIRS, comparisons
from analysis.data import data_label, data_names, data_note, data_warning
from analysis.few_labels import SCRATCH, Gain
from analysis.figures import accuracy
from analysis.records import split_sizes
from analysis.sections import findings
from analysis.study import RunKey, Study
from ssl_pkg.catalogue import RANDOM, SUPERVISED


def title(study: Study, date: datetime.date) -> dict[str, Any]:
    """Title, subtitle and warning about the data, in the form that report.typ reads."""
    methods = names.listed(map(study.method_label, study.methods))
    return {
        "title": f"Self-supervised pretraining of a ResNet-18: {study.name}",
        "subtitle": f"{methods}: from learning curves to width; {date.isoformat()}",
        "keywords": ["self-supervised learning", "ResNet-18", *map(study.method_label, study.methods), study.name],
        "data": f"data: {data_label(study)}",
        "note": _warning(study),
    }


def _warning(study: Study) -> str:
    return data_warning(data_names(study, ood=False), data_names(study, ood=True))


def section(study: Study, figures: Path) -> Section:
    """The study in short."""
    made = Section("In short", ("pretrain", "probe", "finetune", "ood", "embed"))
    made.text(question(study))
    made.items([sentence for sentence in answers(study) if sentence])
    made.figure(
        figures,
        "accuracy",
        accuracy.dots(study),
        f"The accuracies of all models. {_bars(study)}{_dotted(study)}",
        "further right is better. Bars that overlap don't show that two models are equal: both see the same images, so "
        "their difference has an interval of its own (section “Comparisons”).",
    )
    made.text(runs(study))
    return made


def question(study: Study) -> str:
    """What was asked, on which images."""
    pretrained = [method for method in study.methods if method != SUPERVISED]
    methods = names.listed(map(study.method_label, pretrained))
    images = f"The images: {names.listed(data_names(study))}." if _warning(study) else data_note(study)
    if not pretrained:
        return images
    references = ["a random one"]
    if SUPERVISED in study.methods:
        references.insert(0, "the same network trained on the labels alone")
    return (
        f"What was asked: does pretraining without labels ({methods}) help a ResNet-18 to classify images, compared "
        f"with {names.listed(references)}? A pretrained encoder is used in two ways: frozen, with a linear probe, and "
        f"fine-tuned, with all weights trained on the labels. {images}"
    )


def answers(study: Study) -> list[str]:
    """Three to five sentences."""
    return [
        _best(study),
        findings.against(study, STUDIES, STUDIES.label),
        findings.against(
            study, FINETUNED, "Fine-tuned against supervised, p corrected for these pairs only, test accuracy"
        ),
        _with_few_labels(study),
        findings.best(study, OOD_PAIRS, "Out of distribution, accuracy on all classes in percent"),
        findings.one_seed(study),
        _few_images(study),
    ]


def _best(study: Study) -> str:
    """The best model, and the best pretrained one if the first sentence does not compare two of these."""
    sentence = findings.best(study, TEST_PAIRS, "Test accuracy in percent")
    pretrained = [model for model in study.models if model.method not in (RANDOM, SUPERVISED)]
    first = list(findings.ranked_models(study, TEST_PAIRS))[:2]
    if len(pretrained) < 2 or all(model in pretrained for model in first):
        return sentence
    return f"{sentence} {findings.best(study, TEST_PAIRS, 'Of the pretrained models', pretrained)}"


def _few_images(study: Study) -> str:
    """How often an epoch passes over the images, where that is more than once, and why; empty otherwise."""
    kinds = {"pretrain": "pretraining", "finetune": "training on labels"}
    found = [(kinds[run.stage], run.training) for run in study.complete() if run.stage in kinds]
    several = [(kind, length) for kind, length in found if length.get("passes", 1) > 1]
    passes = names.listed(
        f"{length['passes']} times over the {length['images']:,} images of {length['split']} ({kind})"
        for kind, length in several
    )
    return f"Few images: an epoch passes {passes}, because it would otherwise have few steps." if passes else ""


def _with_few_labels(study: Study) -> str:
    """Which pretrained models are clearly better than training from scratch, at each number of labels."""
    family = few_labels.gains(few_labels.points(study))
    sizes = sorted({gain.labels_per_class for gain in family})
    if not sizes:
        return ""
    pretrained = [gain for gain in family if gain.model.method != RANDOM]
    parts = [_at_size(study, size, [gain for gain in pretrained if gain.labels_per_class == size]) for size in sizes]
    return (
        f"From how many labels on pretraining pays: clearly above {study.model_label(SCRATCH)} from scratch are, "
        f"{'; '.join([*parts, *_with_all_labels(study)])}."
    )


def _with_all_labels(study: Study) -> list[str]:
    """The pretrained models that are clearly above the baseline when both have all of train."""
    entries = [entry for family in (PROBES, FINETUNED) for entry in comparisons(study).get(family, [])]
    if not entries:
        return []
    above = [entry for entry in entries if entry.verdict == "clear" and entry.difference.value > 0]
    ranked = sorted(above, key=lambda entry: -entry.difference.value)
    found = [f"{study.model_label(entry.first)} {tables.signed(100 * entry.difference.value)}" for entry in ranked]
    train = split_sizes(study).get("train")
    images = f" ({train:,} images)" if train else ""
    return [f"with all labels{images}, {names.listed(found) + ' points' if found else 'none'}"]


def _at_size(study: Study, size: int, family: Sequence[Gain]) -> str:
    above = sorted(
        (gain for gain in family if gain.verdict == "clear" and gain.difference.value > 0),
        key=lambda gain: -gain.difference.value,
    )
    found = [f"{study.model_label(gain.model)} {tables.signed(100 * gain.difference.value)}" for gain in above]
    return f"with {size} per class, {names.listed(found) + ' points' if found else 'none'}"


def _bars(study: Study) -> str:
    several = study.seeds_tested > 1
    over = " over seeds and test images" if several else " over the test images, of one seed"
    return f"Bars: 95 % intervals{over}.{' Ticks: single seeds.' if several else ''}"


def _dotted(study: Study) -> str:
    """What the dotted lines are; empty without one."""
    count = sum(model.method == RANDOM and model.adaptation == "probe" for model in study.models)
    lines = "line is the probe" if count == 1 else "lines are the probes"
    return f" The dotted {lines} on the random initialisation." if count else ""


def runs(study: Study) -> str:
    """How many of the planned runs are complete, which are missing, and what is not used."""
    parts = []
    if study.planned:
        done = len(study.planned) - len(study.missing)
        parts.append(f"{done} of the {len(study.planned)} planned runs are complete.")
    parts += [_unplanned(study, part) for part in study.parts or (study,) if not part.planned]
    parts += [f"Missing: {grouped(study.missing)}."] if study.missing else []
    parts += [f"Not used: {' '.join(study.notes)}"] if study.notes else []
    return " ".join(parts)


def _unplanned(study: Study, part: Study) -> str:
    """How many runs are complete of a study, or of a part of a joined one, whose planned runs are unknown."""
    name, of = (f"{part.name} has", f" of {part.name}") if study.parts else ("the study has", "")
    return (
        f"{len(part.complete())} of the {len(part.runs)} runs{of} that were started are complete. Missing runs are "
        f"not known, because {name} no usable plan.json."
    )


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
