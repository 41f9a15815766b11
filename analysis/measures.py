"""The measures of the width of an optimum: labels, definitions, and their order in the report."""

# ruff: noqa: RUF001 (labels have Greek letters and dashes)

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Measure:
    """The label of a measure, its formula in typst's math notation, and its behaviour when the weights are rescaled."""

    label: str
    formula: str
    rescaling: str
    wider: str  # which values mean a wide optimum


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
}
WIDTH: Final = "width"  # the evaluation, and the metric of its rows that have a measure
AT_OPTIMUM: Final = {  # metrics of the optimum itself, not of its width
    "loss": Measure("Loss on the subset", "L(w)", "–", "–"),
    "accuracy": Measure("Accuracy on the subset", '"acc"(w)', "–", "–"),
}


@dataclass(frozen=True)
class Measurement:
    """A number of the evaluation `width`: a measure with its dimensions, or the loss or accuracy at the optimum."""

    metric: str
    dimensions: frozenset[tuple[str, Any]] = frozenset()

    @property
    def of_width(self) -> bool:
        """Whether the number is a width, not the loss or accuracy at the optimum."""
        return self.metric == WIDTH

    @property
    def name(self) -> str:
        """The measure, or `loss` or `accuracy`."""
        return str(self._dimension("measure") or self.metric)

    @property
    def radius(self) -> float | None:
        """The radius of the neighbourhood, for measures at several radii."""
        radius = self._dimension("radius")
        return None if radius is None else float(radius)

    @property
    def of_head(self) -> bool:
        """Whether only the last layer's weights are perturbed."""
        return bool(self._dimension("scope") == "head")

    @property
    def normalized(self) -> bool:
        """Whether the loss is that of the normalised logits."""
        return bool(self._dimension("normalized"))

    @property
    def definition(self) -> Measure | None:
        """Label and formula; None for an unknown measure."""
        return (MEASURES if self.of_width else AT_OPTIMUM).get(self.name)

    @property
    def label(self) -> str:
        """The name for people: `Adaptive worst-case sharpness, radius 0.03, normalised logits`."""
        return ", ".join([self._title, *self._details])

    @property
    def short(self) -> str:
        """The label with its details in parentheses, for use in a list."""
        return f"{self._title} ({', '.join(self._details)})" if self._details else self._title

    @property
    def _title(self) -> str:
        return self.definition.label if self.definition else self.name

    @property
    def _details(self) -> list[str]:
        return [
            *([] if self.radius is None else [f"radius {self.radius:g}"]),
            *(["normalised logits"] if self.normalized else []),
            *(["head only"] if self.of_head else []),
        ]

    def _dimension(self, name: str) -> Any:
        return dict(self.dimensions).get(name)


def in_order(found: Iterable[Measurement]) -> list[Measurement]:
    """The measurements without duplicates: first those of the network, then on normalised logits, then of the head.

    Within each group they are ordered by measure and radius.
    """
    order = [*MEASURES, *AT_OPTIMUM]

    def rank(entry: Measurement) -> tuple[bool, bool, int, str, float]:
        place = order.index(entry.name) if entry.name in order else len(order)
        return entry.of_head, entry.normalized, place, entry.name, entry.radius or 0.0

    return sorted(set(found), key=rank)
