"""The numbers that a sweep has varied: the value of each parameter for each model, and the models of one curve."""

import math
from collections import defaultdict
from dataclasses import dataclass, replace

from analysis.estimates import Estimate, estimate
from analysis.names import Model
from analysis.study import Study
from ssl_pkg.config.overrides import key_of
from ssl_pkg.run.study_plan import read_plan


@dataclass(frozen=True)
class Curve:
    """The models that differ only in one parameter, by its value in increasing order.

    parameter: its name in the variants. model: what the models have in common; its variant has the other parameters.
    """

    parameter: str
    model: Model
    models: dict[float, Model]


def curves(study: Study) -> list[Curve]:
    """A curve for each parameter whose values are numbers, and for each model that has at least two of them."""
    numbers = _numbers(study)
    found: dict[tuple[str, Model], dict[float, Model]] = defaultdict(dict)
    for model in study.models:
        words = model.variant.split(",")
        for word in words:
            if word in numbers:
                others = ",".join(other for other in words if other != word)
                found[word.partition("=")[0], replace(model, variant=others)][numbers[word]] = model
    return [
        Curve(name, model, dict(sorted(models.items()))) for (name, model), models in found.items() if len(models) > 1
    ]


def means(study: Study, curve: Curve, evaluation: str) -> dict[float, Estimate]:
    """The accuracy at each value of the curve's parameter that has one."""
    found = {value: estimate(study, model, evaluation, "accuracy") for value, model in curve.models.items()}
    return {value: mean for value, mean in found.items() if mean is not None}


def unchanged(study: Study, evaluation: str) -> dict[Model, Estimate]:
    """The accuracies of the models that the sweep does not change, such as the supervised baseline."""
    found = {model: estimate(study, model, evaluation, "accuracy") for model in study.models if not model.variant}
    return {model: mean for model, mean in found.items() if mean is not None}


def _numbers(study: Study) -> dict[str, float]:
    """The value of each word of a variant, like `temperature=0.1`, in the plan. Values that are no number are left out.

    The word itself is a part of a folder's name, in which 1e-5 is written 1e_05. It lacks the section of its field, so
    the field is the one whose values tell the words apart.
    """
    texts: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)  # by name and field: the words with their values
    for part in study.parts or (study,):
        plan = read_plan(part.path)
        for run in plan.runs if plan else ():
            values = {key_of(setting): setting.partition("=")[2] for setting in run.settings}
            for word in run.variant.split(","):
                name = word.partition("=")[0]
                for field in (field for field in values if name in (field, field.rpartition(".")[2])):
                    texts[name, field][word] = values[field]
    telling = [words for words in texts.values() if len(set(words.values())) == len(words) > 1]
    numbers = {word: _number(text) for words in telling for word, text in words.items()}
    return {word: number for word, number in numbers.items() if number is not None}


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
