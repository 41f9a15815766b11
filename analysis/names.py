"""How models, methods, measures and stages are called in the report; an unknown name is shown as it is."""

# ruff: noqa: RUF001 (what people read has Greek letters, dashes and minus signs)

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ssl_pkg.catalogue import ADAPTATIONS, RANDOM, STAGES, SUPERVISED
from ssl_pkg.run.directory import model_name

RANDOM_PROBE: Final = model_name(RANDOM, "probe")
KINDS: Final = {stage: STAGES[stage].label for stage in ADAPTATIONS}


@dataclass(frozen=True)
class Measure:
    """A family of width measures: its label, its formula in typst's math, and what rescaling does to it."""

    label: str
    formula: str
    rescaling: str
    wider: str  # what a wide optimum shows


MEASURES: Final = {
    "adaptive_worst": Measure(
        "Adaptive worst-case sharpness",
        'max_(abs(delta_i) <= r abs(w_i)) L(w + delta) - L(w) " " "(projected ascent)"',
        "invariant",
        "small",
    ),
    "adaptive_average": Measure(
        "Adaptive average sharpness",
        "EE_(epsilon tilde.op cal(N)(0, 1)) L(w + r abs(w) epsilon) - L(w)",
        "invariant",
        "small",
    ),
    "pac_bayes_sigma": Measure(
        "PAC-Bayes width σ (magnitude-aware)",
        '"largest" sigma: EE_u "acc"(w + sigma sqrt(w^2 + epsilon^2) u) >= "acc"(w) - "drop"',
        "nearly invariant",
        "large",
    ),
    "keskar": Measure(
        "Keskar sharpness",
        "100 (max_(abs(delta_i) <= epsilon (abs(w_i) + 1)) L(w + delta) - L(w)) \\/ (1 + L(w))",
        "not invariant",
        "small",
    ),
    "hessian_top": Measure(
        "Hessian, top eigenvalue", 'lambda_max (nabla^2 L(w)) " " "(Lanczos)"', "not invariant", "small"
    ),
    "hessian_trace": Measure(
        "Hessian, trace", 'tr nabla^2 L(w) " " "(Hutchinson, Rademacher)"', "not invariant", "small"
    ),
    "train_loss": Measure("Loss on the subset", "L(w)", "–", "–"),
    "train_accuracy": Measure("Accuracy on the subset", '"acc"(w)', "–", "–"),
}
NO_WIDTH: Final = frozenset({"train_loss", "train_accuracy"})  # where the optimum lies, not how wide it is
SUFFIXES: Final = {"normalized": "normalised logits", "normalised": "normalised logits", "head": "head only"}


def kind_of(model: str) -> str:
    """`probe` or `finetune`, or nothing for a model that is neither."""
    kind = model.rpartition("-")[2]
    return kind if kind in KINDS else ""


def method_of(model: str) -> str:
    """The method that a model came from: `simclr` of `simclr-probe`."""
    return model.rpartition("-")[0] if kind_of(model) else model


def varied(method: str, variant: str) -> str:
    """How a method is called that a sweep ran several times: `simclr[temperature=0.1]`."""
    return f"{method}[{variant}]"


def plain_method(method: str) -> str:
    """The method without the sweep's variant."""
    return method.partition("[")[0]


def method_label(method: str, titles: Mapping[str, str]) -> str:
    """A method's name for people: `SimCLR`, or `SimCLR (temperature=0.1)` in a sweep.

    titles: the title of each method; a method without one is shown by its name.
    """
    plain = plain_method(method)
    variant = method.removeprefix(plain).strip("[]")
    title = "Random init." if plain == RANDOM else titles.get(plain, plain)
    return title + (f" ({variant})" if variant else "")


def model_label(model: str, titles: Mapping[str, str]) -> str:
    """A model's name for people: `SimCLR probe`. titles: as for `method_label`."""
    kind = kind_of(model)
    return f"{method_label(method_of(model), titles)} {KINDS[kind]}" if kind else method_label(model, titles)


def in_order(models: Iterable[str], methods: Sequence[str]) -> list[str]:
    """Models as the report lists them: random, supervised, then the methods in their order, probe before fine-tuned."""

    def rank(model: str) -> tuple[int, list[tuple[float, str]], int]:
        method = method_of(model)
        plain = plain_method(method)
        first = [RANDOM, SUPERVISED, *(name for name in methods if name != SUPERVISED)]
        place = first.index(plain) if plain in first else len(first)
        return place, _natural(method), ["", *KINDS].index(kind_of(model))

    return sorted(set(models), key=rank)


def _natural(text: str) -> list[tuple[float, str]]:
    """By which texts are sorted so that the numbers in them are in their own order: 0.1 before 0.15, 2 before 10."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", text)
    return [(float(part), "") if place % 2 else (-1.0, part) for place, part in enumerate(parts)]


def listed(parts: Iterable[str]) -> str:
    """`a, b and c`, each part once, empty ones left out."""
    unique = [part for part in dict.fromkeys(parts) if part]
    return " and ".join([", ".join(unique[:-1]), unique[-1]]) if len(unique) > 1 else "".join(unique)


def split_measure(name: str) -> tuple[str, str, tuple[str, ...]]:
    """Family, radius and suffixes: (`adaptive_worst`, `0.03`, (`normalized`,)) of `adaptive_worst_0.03_normalized`."""
    suffixes: list[str] = []
    rest = name
    while rest.rpartition("_")[2] in SUFFIXES and "_" in rest:
        rest, _, suffix = rest.rpartition("_")
        suffixes.insert(0, suffix)
    radius = re.fullmatch(r"(.+)_([0-9.]+(?:e[+-]?[0-9]+)?)", rest)
    if radius and radius[1] in MEASURES:
        return radius[1], radius[2], tuple(suffixes)
    return rest, "", tuple(suffixes)


def of_head(name: str) -> bool:
    """Whether a measure perturbs the head alone."""
    return "head" in split_measure(name)[2]


def measure_label(name: str) -> str:
    """A width measure's name for people, with its radius and what was done to the network."""
    family, radius, suffixes = split_measure(name)
    label = MEASURES[family].label if family in MEASURES else family
    parts = [label, *([f"radius {radius}"] if radius else []), *(SUFFIXES[suffix] for suffix in suffixes)]
    return ", ".join(parts)


def measures_in_order(names: Iterable[str]) -> list[str]:
    """Measures of the whole network first, then with normalised logits, then of the head; each by family and radius."""
    families = list(MEASURES)

    def rank(name: str) -> tuple[bool, int, int, str, float]:
        family, radius, suffixes = split_measure(name)
        place = families.index(family) if family in families else len(families)
        return "head" in suffixes, len(suffixes), place, family, float(radius or 0)

    return sorted(set(names), key=rank)
