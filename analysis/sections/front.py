"""The report's first page: what was asked, the answers, the main figure, the data, and what is missing."""

import datetime
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from analysis import few_labels, names, planned, tables, words
from analysis.blocks import Section
from analysis.comparisons import OOD_PAIRS, STUDIES, TEST, TEST_PAIRS, comparisons
from analysis.data import data_label, data_list, data_note, study_warning
from analysis.few_labels import Gain
from analysis.figures import accuracy
from analysis.names import Model
from analysis.records import class_count, image_count, split_sizes
from analysis.sections import findings
from analysis.selection import ROWS, left_out
from analysis.study import Study
from analysis.words import N_, _, ngettext, pgettext
from ssl_pkg.catalogue import ADAPTATIONS, RANDOM, SUPERVISED
from ssl_pkg.intervals import long_interval


def title(study: Study, date: datetime.date) -> dict[str, Any]:
    """Title, subtitle and warning about the data, in the form that report.typ reads."""
    methods = names.listed(map(study.method_label, study.methods))
    return {
        "title": _("Self-supervised pretraining of a ResNet-18: {study}", study=study.name),
        "subtitle": _("{methods}: from learning curves to width; {date}", methods=methods, date=words.dated(date)),
        "keywords": [_("self-supervised learning"), "ResNet-18", *map(study.method_label, study.methods), study.name],
        "data": _("data: {data}", data=data_label(study)),
        "note": study_warning(study),
    }


def section(study: Study, figures: Path) -> Section:
    """The study in short."""
    made = Section(_("In short"), ("pretrain", "probe", "finetune", "ood", "embed"))
    if missing := planned.incomplete(study):
        made.note(missing)
    made.text(question(study))
    made.items([sentence for sentence in answers(study) if sentence])
    made.figure(
        figures,
        "accuracy",
        accuracy.dots(study),
        _("The accuracies of all models. {bars}", bars=" ".join(filter(None, (_bars(study), _dotted(study)))))
        + left_out(study.models, ROWS),
        _(
            "further right is better. Bars that overlap don't show that two models are equal: both see the same "
            "images, so their difference has an interval of its own (section “Comparisons”)."
        ),
    )
    made.text(planned.runs(study))
    return made


def question(study: Study) -> str:
    """What was trained on which images, and what was asked."""
    note = "" if study_warning(study) else data_note(study)
    return " ".join(filter(None, (_trained(study), _asked(study), note)))


def _trained(study: Study) -> str:
    """The kind of images, their classes, size and numbers, as far as the complete runs recorded these."""
    images = data_list(study, ood=False)
    if not images:
        return ""
    facts = [images]
    if classes := class_count(study):
        facts.append(ngettext("{n} class", "{n} classes", classes))
    sides = sorted({side for run in study.complete() if (side := run.resolution)})
    facts += [_("{sides} px", sides=names.listed(map(str, sides)))] if sides else []
    if counts := names.listed(_numbers(study)):
        text = N_("ResNet-18 networks were trained and tested on these images ({facts}): {counts}.")
    else:
        text = N_("ResNet-18 networks were trained and tested on these images ({facts}).")
    return _(text, facts=names.separated(facts), counts=counts)


def _numbers(study: Study) -> Iterator[str]:
    """The number of images for each use."""
    sizes, splits = split_sizes(study), {run.training.get("split") for run in study.complete("pretrain")}
    if "unlabeled" in sizes and "unlabeled" in splits:
        yield _("{n:,} without labels for pretraining", n=sizes["unlabeled"])
    if "train" in sizes:
        text = (
            N_("{n:,} with labels for probes, fine-tuning and supervised training, and without them for pretraining")
            if "train" in splits
            else N_("{n:,} with labels for probes, fine-tuning and supervised training")
        )
        yield _(text, n=sizes["train"])
    if "test" in sizes:
        yield _("{n:,} for test", n=sizes["test"])
    if count := image_count(study, "ood"):
        yield _("{n:,} out of distribution", n=count)


def _asked(study: Study) -> str:
    """The question of the study; empty without a pretraining."""
    pretrained = [method for method in study.methods if method != SUPERVISED]
    methods = names.listed(map(study.method_label, pretrained))
    if not pretrained:
        return ""
    references = (
        _("the same network trained on the labels alone and a random one")
        if SUPERVISED in study.methods
        else _("a random one")
    )
    return _(
        "What was asked: does pretraining without labels ({methods}) help a ResNet-18 to classify images, compared "
        "with {references}? A pretrained encoder is used in two ways: frozen, with a linear probe, and fine-tuned, "
        "with all weights trained on the labels.",
        methods=methods,
        references=references,
    )


def answers(study: Study) -> list[str]:
    """The answer in plain words, then the sentences with its numbers, some of them empty."""
    return [
        " ".join(filter(None, (_pays(study), findings.seeds(study)))),
        findings.tuned(study),
        findings.lengths(study),
        _best(study),
        findings.against(study, STUDIES, _(STUDIES.label)),
        findings.against(
            study,
            TEST,
            _("Fine-tuned against supervised, p corrected for all comparisons with the baseline, test accuracy"),
            "finetune",
        ),
        _with_few_labels(study),
        findings.best(study, OOD_PAIRS, _("Out of distribution, accuracy on all classes in percent")),
        _few_images(study),
        *_few_tested(study),
    ]


def _pays(study: Study) -> str:
    """Whether pretraining helps when both have all labels: the question of the study, without numbers."""
    entries = comparisons(study).get(TEST, [])
    if not entries:
        return ""
    clear = [entry for entry in entries if entry.verdict == "clear"]
    above = [study.model_label(entry.first) for entry in entries if entry.is_clear_gain]
    if above:
        text = N_("With all labels, pretraining helps here. Clearly better than the supervised baseline: {models}.")
    elif len(clear) == len(entries) and not _adaptations_missing(study):
        text = N_("With all labels, pretraining does not help here: every pretrained model is clearly worse.")
    else:
        text = N_("With all labels, it is not shown that pretraining helps: no pretrained model is clearly better.")
    return _(text, models=names.listed(above))


def _adaptations_missing(study: Study) -> bool:
    """Whether a planned probe or fine-tuning may be missing, other than the probe on the random initialisation."""
    if not all(part.planned for part in study.parts or (study,)):  # without plan.json it is not known
        return True
    return any(stage in ADAPTATIONS and model.method != RANDOM for stage, model, _seed in study.missing)


def _best(study: Study) -> str:
    """The best model, and the best pretrained one if the first sentence does not compare two of these."""
    sentence = findings.best(study, TEST_PAIRS, _("Test accuracy in percent"))
    pretrained = [model for model in study.models if model.method not in (RANDOM, SUPERVISED)]
    first = list(findings.ranked_models(study, TEST_PAIRS))[:2]
    if len(pretrained) < 2 or all(model in pretrained for model in first):
        return sentence
    among = findings.best(study, TEST_PAIRS, _("Of the pretrained models"), pretrained)
    return f"{sentence} {among}"


def _few_images(study: Study) -> str:
    """How often an epoch passes over the images, where that is more than once, and why; empty otherwise."""
    kinds = {"pretrain": _("pretraining"), "finetune": _("training on labels")}
    found = [(kinds[run.stage], run.training) for run in study.complete() if run.stage in kinds]
    several = [(kind, length) for kind, length in found if length.get("passes", 1) > 1]
    passes = names.listed(
        ngettext(
            "{n} time over the {images:,} images of {split} ({kind})",
            "{n} times over the {images:,} images of {split} ({kind})",
            length["passes"],
            images=length["images"],
            split=length["split"],
            kind=kind,
        )
        for kind, length in several
    )
    if not passes:
        return ""
    return _("Few images: an epoch passes {passes}, because it would otherwise have few steps.", passes=passes)


_FEW: Final = {
    "test": N_("Few test images: on {n}, an accuracy of 50 % has a 95 % interval of {low:.0f} to {high:.0f} %."),
    "ood": N_(
        "Few out-of-distribution images: on {n}, an accuracy of 50 % has a 95 % interval of {low:.0f} to {high:.0f} %."
    ),
}


def _few_tested(study: Study) -> list[str]:
    """A sentence for each set of test images that is so small that no accuracy on it is known well."""
    made = []
    for evaluation, text in _FEW.items():
        count = image_count(study, evaluation)
        interval = long_interval(count) if count else None
        if interval:
            made.append(_(text, n=count, low=100 * interval[0], high=100 * interval[1]))
    return made


def _with_few_labels(study: Study) -> str:
    """Which pretrained models are clearly better than training from scratch, at each number of labels."""
    family = few_labels.gains(few_labels.points(study))
    pretrained = [gain for gain in family if gain.model.method != RANDOM]
    sizes = sorted({gain.labels_per_class for gain in pretrained})
    if not sizes:
        return ""
    parts = [_at_size(study, size, [gain for gain in pretrained if gain.labels_per_class == size]) for size in sizes]
    groups = pgettext("between groups of models", "; ").join([*parts, *_with_all_labels(study)])
    return _(
        "Gains over supervised training from scratch in points, by number of labels (clear differences only): "
        "{groups}.",
        groups=groups,
    )


def _with_all_labels(study: Study) -> list[str]:
    """The pretrained models that are clearly above the baseline when both have all of train."""
    entries = comparisons(study).get(TEST, [])
    if not entries:
        return []
    above = [(entry.first, entry.difference, entry.p_holm) for entry in entries if entry.is_clear_gain]
    train = split_sizes(study).get("train")
    labels = _("all labels ({images:,} images)", images=train) if train else _("all labels")
    return [_gained(study, labels, above)]


def _at_size(study: Study, size: int, family: Sequence[Gain]) -> str:
    above = [gain for gain in family if gain.verdict == "clear" and gain.difference.value > 0]
    labels = _("{size} per class", size=size)
    return _gained(study, labels, [(gain.model, gain.difference, gain.p_holm) for gain in above])


def _gained(study: Study, labels: str, above: Iterable[tuple[Model, tables.Gap, float | None]]) -> str:
    """The models that gain with these labels: each gain with its interval and corrected p, the largest first."""
    found = [
        f"{study.model_label(model)} {tables.gain_text(gain)}" + ("" if p is None else f" ({tables.p_text(p)})")
        for model, gain, p in sorted(above, key=lambda entry: -entry[1].value)
    ]
    if not found:
        return _("with {labels}, none", labels=labels)
    return _("with {labels}, {models}", labels=labels, models=names.separated(found))


def _bars(study: Study) -> str:
    if study.seeds_tested > 1:
        return _("Bars: 95 % intervals over seeds and test images. Ticks: single seeds.")
    return _("Bars: 95 % intervals over the test images, of one seed.")


def _dotted(study: Study) -> str:
    """What the dotted lines are; empty without one."""
    count = sum(model.is_random_probe for model in study.models)
    if not count:
        return ""
    if count == 1:
        return _("The dotted line is the probe on the random initialisation.")
    return _("The dotted lines are the probes on the random initialisation.")
