"""The differences between accuracies as data frames: of models, of test and OOD, and with few labels."""

import pandas as pd

from analysis import shift
from analysis.comparisons import comparisons
from analysis.few_labels import gains, points
from analysis.study import Study


def compared(study: Study) -> pd.DataFrame:
    """Every comparison of two models: the difference with its interval, p-values and verdict; values are fractions.

    p_holm and p_equivalent_holm are corrected within the family; they are empty, as the verdict is, if the difference
    has no p-values.
    """
    rows = [
        [
            *(entry.first.name, entry.first.variant, entry.first.study),
            *(entry.second.name, entry.second.variant, entry.second.study),
            *(family.evaluation, family.metric, dict(entry.dimensions).get("class")),
            *(entry.difference.value, entry.difference.low, entry.difference.high, entry.difference.p),
            *(entry.p_holm, entry.p_equivalent_holm, family.label, entry.verdict, entry.difference.paired_by),
        ]
        for family, entries in comparisons(study).items()
        for entry in entries
    ]
    columns = ["first", "first_variant", "first_study", "second", "second_variant", "second_study"]
    columns += ["evaluation", "metric", "class"]
    numbers = ["value", "low", "high", "p", "p_holm", "p_equivalent_holm"]
    frame = pd.DataFrame(rows, columns=[*columns, *numbers, "family", "verdict", "paired_by"])
    return frame.astype(dict.fromkeys(numbers, float))


def changes(study: Study) -> pd.DataFrame:
    """OOD accuracy minus test accuracy, on the shared classes, of every model that has both."""
    found = {model: shift.change(study, model) for model in study.models}
    rows = [
        [model.name, model.variant, model.study, gap.value, gap.low, gap.high] for model, gap in found.items() if gap
    ]
    return pd.DataFrame(rows, columns=["model", "variant", "study", "value", "low", "high"])


def few_labels(study: Study) -> pd.DataFrame:
    """Accuracy with few labels, with the gain over training from scratch; p_holm is corrected for all gains."""
    found = points(study)
    above = {(gain.model, gain.labels_per_class): gain for gain in gains(found)}
    rows = []
    for model, sizes in found.items():
        for size, point in sizes.items():
            mean, gain = point.mean, above.get((model, size))
            compared = (gain.difference.value, gain.difference.low, gain.difference.high) if gain else (None,) * 3
            verdict = (gain.p_holm, gain.verdict) if gain else (None, None)
            own = [model.name, model.variant, model.study, size]
            rows.append([*own, mean.value, mean.low, mean.high, *compared, *verdict])
    columns = ["model", "variant", "study", "labels_per_class", "value", "low", "high", "gain", "gain_low", "gain_high"]
    return pd.DataFrame(rows, columns=[*columns, "p_holm", "verdict"])
