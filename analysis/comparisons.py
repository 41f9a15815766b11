"""The comparisons of the report in families, with p-values that are corrected within each family by Holm's method."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from typing import Final

from analysis import names
from analysis.estimates import NONE, Difference, Dimensions, difference
from analysis.names import Model
from analysis.outcomes import CORRUPTED_IMAGES
from analysis.statistics import holm, verdict
from analysis.study import Study
from analysis.words import N_
from ssl_pkg.catalogue import RANDOM, SUPERVISED


@dataclass(frozen=True)
class Family:
    """Comparisons that are corrected together. key: for file names; label: for people, in English."""

    key: str
    label: str
    evaluation: str
    metric: str


TEST: Final = Family("test", N_("Against the supervised baseline, test"), "test", "accuracy")
OVER_RANDOM: Final = Family(
    "over-random", N_("Linear probes against the probe on the random initialisation, test"), "test", "accuracy"
)
OVER_PROBE: Final = Family(
    "over-probe", N_("Fine-tuned against the probe on the same encoder, test"), "test", "accuracy"
)
OOD: Final = Family("ood", N_("Against the supervised baseline, OOD, all classes"), "ood", "accuracy")
OOD_SHARED: Final = Family(
    "ood-shared", N_("Against the supervised baseline, OOD, shared classes"), "ood", "accuracy_shared"
)
OOD_MASKED: Final = Family(
    "ood-masked", N_("Against the supervised baseline, OOD, logits of shared classes"), "ood", "accuracy_masked"
)
MEAN_CORRUPTED: Final = Family(
    "corrupted", N_("Against the supervised baseline, mean over corruptions"), CORRUPTED_IMAGES, "mean_accuracy"
)
TEST_CLASSES: Final = Family("test-classes", N_("Each class against the supervised baseline, test"), "test", "accuracy")
OOD_CLASSES: Final = Family("ood-classes", N_("Each class against the supervised baseline, OOD"), "ood", "accuracy")
TEST_PAIRS: Final = Family("test-pairs", N_("All pairs of models, test"), "test", "accuracy")
OOD_PAIRS: Final = Family("ood-pairs", N_("All pairs of models, OOD"), "ood", "accuracy")
STUDIES: Final = Family("studies-test", N_("The same model in two studies, test"), "test", "accuracy")
OOD_STUDIES: Final = Family("studies-ood", N_("The same model in two studies, OOD, all classes"), "ood", "accuracy")
BETWEEN: Final = (STUDIES, OOD_STUDIES)  # with PLANNED have a table in the report
PLANNED: Final = (TEST, OVER_RANDOM, OVER_PROBE, OOD, OOD_SHARED, OOD_MASKED)


@dataclass(frozen=True)
class Comparison:
    """One comparison. p_holm, p_equivalent_holm and verdict are None if the difference has no p-values."""

    family: Family
    first: Model
    second: Model
    dimensions: Dimensions
    difference: Difference
    p_holm: float | None = None
    p_equivalent_holm: float | None = None
    verdict: str | None = None

    @property
    def is_clear_gain(self) -> bool:
        """Whether the first model is clearly better."""
        return self.verdict == "clear" and self.difference.value > 0


@lru_cache(maxsize=1)
def comparisons(study: Study) -> dict[Family, list[Comparison]]:
    """Every family that has a comparison; those of the shared classes only if they differ from those of all classes."""
    found = {family: _corrected(_measured(study, family, pairs)) for family, pairs in _pairs(study).items()}
    all_classes = [entry.difference for entry in found[OOD]]
    for family in (OOD_SHARED, OOD_MASKED):
        if [entry.difference for entry in found[family]] == all_classes:
            del found[family]
    return {family: entries for family, entries in found.items() if entries}


def _pairs(study: Study) -> dict[Family, list[tuple[Model, Model, Dimensions]]]:
    finetuned = [model for model in study.models if model.adaptation == "finetune"]
    probes = [model for model in study.models if model.adaptation == "probe" and model.method != RANDOM]
    against_base = [(model, baseline(study, model), NONE) for model in [*probes, *finetuned]]
    pairs = [(first, second, NONE) for first, second in combinations(study.models, 2)]
    studies = [(*_later_first(study, pair), NONE) for *pair, _ in pairs if _of_two_studies(*pair)]
    return {
        STUDIES: studies,
        OOD_STUDIES: studies,
        TEST: against_base,
        OVER_RANDOM: [(model, random_probe(study, model), NONE) for model in probes],
        OVER_PROBE: [(model, own_probe(study, model), NONE) for model in finetuned],
        OOD: against_base,
        OOD_SHARED: against_base,
        OOD_MASKED: against_base,
        MEAN_CORRUPTED: against_base,
        TEST_CLASSES: list(_by_class(study, "test", [*probes, *finetuned])),
        OOD_CLASSES: list(_by_class(study, "ood", [*probes, *finetuned])),
        TEST_PAIRS: pairs,
        OOD_PAIRS: pairs,
    }


def _of_two_studies(first: Model, second: Model) -> bool:
    return first != second and first == replace(second, study=first.study)


def _later_first(study: Study, pair: Sequence[Model]) -> tuple[Model, Model]:
    order = [part.name for part in study.parts]
    first, second = sorted(pair, key=lambda model: order.index(model.study))
    return second, first


def _by_class(study: Study, evaluation: str, models: list[Model]) -> Iterator[tuple[Model, Model, Dimensions]]:
    rows = study.results
    classes = rows.loc[(rows["evaluation"] == evaluation) & (rows["metric"] == "accuracy"), "class"].dropna().unique()
    for model in models:
        for name in classes:
            yield model, baseline(study, model), frozenset({("class", name)})


def baseline(study: Study, model: Model) -> Model:
    """The supervised baseline with the swept values of `model` that concern it."""
    own = replace(model, method=SUPERVISED, adaptation=None)
    return names.counterpart(own, study.models) or own


def random_probe(study: Study, model: Model) -> Model:
    """The probe on the random initialisation with the swept values of `model` that concern it."""
    own = replace(model, method=RANDOM, adaptation="probe")
    return names.counterpart(own, study.models) or own


def own_probe(study: Study, model: Model) -> Model:
    """The probe on the encoder that `model` was fine-tuned from."""
    own = replace(model, adaptation="probe")
    return names.counterpart(own, study.models) or own


def _measured(study: Study, family: Family, pairs: list[tuple[Model, Model, Dimensions]]) -> list[Comparison]:
    found = []
    for first, second, dimensions in pairs:
        gap = difference(study, first, second, family.evaluation, family.metric, dimensions=dimensions)
        if gap is not None:
            found.append(Comparison(family, first, second, dimensions, gap))
    return found


def _corrected(found: list[Comparison]) -> list[Comparison]:
    """The comparisons of a family with corrected p-values and verdicts."""
    tested = [
        (place, entry.difference.p, entry.difference.p_equivalent)
        for place, entry in enumerate(found)
        if entry.difference.p is not None and entry.difference.p_equivalent is not None
    ]
    corrected = list(found)
    p_values, p_equivalents = holm([p for _, p, _ in tested]), holm([p for _, _, p in tested])
    for (place, _, _), p, p_equivalent in zip(tested, p_values, p_equivalents, strict=True):
        called = verdict(p, p_equivalent)
        corrected[place] = replace(found[place], p_holm=p, p_equivalent_holm=p_equivalent, verdict=called)
    return corrected


def compared(study: Study, family: Family, first: Model, second: Model) -> Comparison | None:
    """The comparison of two models in a family; of all pairs, in either order."""
    for entry in comparisons(study).get(family, []):
        if (entry.first, entry.second) == (first, second):
            return entry
        if (entry.second, entry.first) == (first, second):
            return replace(entry, first=first, second=second, difference=entry.difference.reversed())
    return None
