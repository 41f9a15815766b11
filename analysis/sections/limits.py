"""What the numbers of the study do not show, generated from its data, budget, seeds and verdicts."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from analysis import few_labels, names, tables
from analysis.blocks import Section
from analysis.comparisons import OOD_PAIRS, PLANNED, TEST, TEST_PAIRS, Family, compared, comparisons
from analysis.correlation import comparable, correlations, enough_models
from analysis.data import data_list, data_names, data_warning
from analysis.measures import chosen
from analysis.names import Model
from analysis.records import mapping
from analysis.sections import findings
from analysis.sections.methods import by_study
from analysis.statistics import ALPHA
from analysis.study import Study
from analysis.widths import widths_of
from analysis.words import N_, _, ngettext
from ssl_pkg.config.presets import is_reduced


def section(study: Study) -> Section:
    """A sentence for each question that the numbers leave open; no blocks if none is known."""
    made = Section(_("What can't be concluded"))
    undecided = [*_undecided(study), *_few_labels(study)]
    if undecided:
        text = N_(
            "The numbers of this report do not answer the following questions. An undecided comparison is no evidence "
            "that the models are equal."
        )
    else:
        text = N_("The numbers of this report do not answer the following questions.")
    items = [*_items(study), *undecided, *_width(study)]
    if items:
        made.text(_(text))
        made.items(items)
    return made


def _items(study: Study) -> Iterator[str]:
    if study.models:
        yield from _data(study)
    yield from _budgets(study)
    if study.seeds_tested == 1:
        yield _("How much other seeds would change the numbers: each model has one seed.")
    elif study.models and study.seeds_text:
        yield _("How much other seeds would change the numbers: some models have fewer seeds than planned.")
    if findings.tuned(study):
        yield _("Whether another search of the pretraining's hyperparameters would give another order of the methods.")
    if baseline := by_study(study, _labelled):
        yield baseline
    yield from _best(study, TEST_PAIRS, _("Which model has the highest test accuracy."))
    yield from _best(study, OOD_PAIRS, _("Which model has the highest OOD accuracy."))


def _data(study: Study) -> Iterator[str]:
    """That other images could give other numbers: first those of the study, then those out of distribution."""
    names_seen = data_names(study, ood=False), data_names(study, ood=True)
    if data_warning(names_seen[0]):
        data = data_list(study, ood=False)
        yield _("How the models compare on STL-10 or other images: this study used {data}.", data=data)
    elif data_warning(*names_seen):
        yield _("How the models compare on other images than {data}.", data=data_list(study, ood=False))
        data = data_list(study, ood=True)
        yield _("How the models compare on CIFAR-10 or other OOD images: for OOD, this study used {data}.", data=data)
    else:
        yield _("How the models compare on other images than {data}.", data=data_list(study))


def _budgets(study: Study) -> Iterator[str]:
    """How long the methods of each budget were pretrained, which is no evidence about longer trainings."""
    budgets: dict[tuple[str, bool], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for run in study.complete("pretrain"):
        budget, method = mapping(run.config.get("budget")), mapping(run.config.get("method"))
        if "name" in budget and {"epochs", "batch_size"} <= method.keys():
            label = study.method_label(run.model.method)
            budgets[str(budget["name"]), is_reduced(budget)][_length(budget, method)].append(label)
    for (name, reduced), lengths in budgets.items():
        text = (
            N_(
                "How the methods compare after longer pretraining, or with larger images: {methods} had the reduced "
                "budget “{budget}” ({length})."
            )
            if reduced
            else N_(
                "How the methods compare after longer pretraining, or with larger images: {methods} had the budget "
                "“{budget}” ({length})."
            )
        )
        each = (_("{methods}: {length}", methods=names.listed(found), length=one) for one, found in lengths.items())
        length = next(iter(lengths)) if len(lengths) == 1 else "; ".join(each)
        yield _(text, methods=names.listed(chain.from_iterable(lengths.values())), budget=name, length=length)


def _labelled(study: Study) -> str:
    """That another length of the labelled training could give other differences from the baseline."""
    lengths = {mapping(run.config.get("finetune")).get("epochs") for run in study.of("finetune")}
    epochs = lengths.pop() if len(lengths) == 1 else None
    finetuned = [entry for entry in comparisons(study).get(TEST, []) if entry.first.adaptation == "finetune"]
    if not isinstance(epochs, int) or not any(entry.is_clear_gain for entry in finetuned):
        return ""
    return ngettext(
        "Whether the supervised baseline would reach the pretrained models with a longer training: both had {n} "
        "epoch on the labels.",
        "Whether the supervised baseline would reach the pretrained models with a longer training: both had {n} "
        "epochs on the labels.",
        epochs,
    )


def _length(budget: Mapping[str, Any], method: Mapping[str, Any]) -> str:
    text = (
        N_("{epochs:g} epochs in batches of {batch}, at most {steps} steps, at {pixels} px")
        if budget.get("max_steps")
        else N_("{epochs:g} epochs in batches of {batch}, at {pixels} px")
    )
    values = {"epochs": method["epochs"], "batch": method["batch_size"], "pixels": budget.get("resolution", "?")}
    return _(text, steps=budget.get("max_steps"), **values)


def _best(study: Study, family: Family, question: str) -> Iterator[str]:
    """The models whose difference from the first one is not clear; nothing if the first one is clearly the best."""
    ranked = list(findings.ranked_models(study, family))
    near = []
    for model in ranked[1:]:
        entry = compared(study, family, ranked[0], model)
        if entry is not None and entry.verdict != "clear" and not _planned(study, family, model, ranked[0]):
            near.append(f"{study.model_label(model)} ({tables.gain_text(entry.difference.reversed())})")
    if near:
        yield _(
            "{question} {model} has the highest value, but is not clearly better than these, in points: {near}.",
            question=question,
            model=study.model_label(ranked[0]),
            near=names.separated(near),
        )


def _planned(study: Study, family: Family, model: Model, best: Model) -> bool:
    """Whether a planned comparison, corrected for fewer others than all pairs, shows that `best` is clearly better."""
    alike = [other for other in PLANNED if (other.evaluation, other.metric) == (family.evaluation, family.metric)]
    entries = [compared(study, other, model, best) for other in alike]
    return any(entry is not None and entry.verdict == "clear" and entry.difference.value < 0 for entry in entries)


def _undecided(study: Study) -> Iterator[str]:
    for family in (family for family in PLANNED if family in comparisons(study)):
        entries = comparisons(study)[family]
        found = [study.model_label(entry.first) for entry in entries if entry.verdict in (None, "undecided")]
        if found:
            yield _(
                "{family}: undecided for {models} ({count} of {total} comparisons).",
                family=_(family.label),
                models=names.listed(found),
                count=len(found),
                total=len(entries),
            )


def _few_labels(study: Study) -> Iterator[str]:
    family = few_labels.gains(few_labels.points(study))
    found = [
        _("{model} with {labels}", model=study.model_label(gain.model), labels=gain.labels_per_class)
        for gain in family
        if gain.verdict == "undecided"
    ]
    if found:
        yield _(
            "Few labels, against supervised training from scratch: undecided for these models and labels per class: "
            "{models}.",
            models=names.listed(found),
        )


def _width(study: Study) -> Iterator[str]:
    """Whether the chosen measure is related to accuracy, or a cause of it if a correlation is significant."""
    measure = chosen(widths_of(study))
    if measure is None:
        return
    if not comparable(study):
        yield _("Whether models with a wide optimum are more accurate: the studies measured the widths differently.")
        return
    accuracies = ("test", "ood")
    found = [entry for entry in correlations(study) if entry.measure == measure and entry.kind == "all"]
    found = [entry for entry in found if entry.target in accuracies]
    if any(entry.corrected < ALPHA for entry in found):
        yield _(
            "Whether a wide optimum is a cause of accuracy: the correlations are over few models, not an experiment."
        )
        return
    count = max((entry.n for entry in found), default=0)
    if count:
        text = N_(
            "Whether models with a wide optimum are more accurate: over {count} models no correlation with test or OOD "
            "accuracy is significant ({measure})."
        )
    elif enough_models(study, measure):
        text = N_(
            "Whether models with a wide optimum are more accurate: all models have the same width or the same accuracy "
            "({measure})."
        )
    else:
        text = N_("Whether models with a wide optimum are more accurate: there are too few models ({measure}).")
    yield _(text, count=count, measure=measure.label)
