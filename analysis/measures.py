"""The measures of the width of an optimum: labels, definitions, and their order in the report."""

# ruff: noqa: RUF001 (labels have Greek letters and dashes)

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from analysis.words import N_, _

LARGE: Final = N_("large")


@dataclass(frozen=True)
class Measure:
    """The label of a measure, its formula in typst's math notation, and its behaviour when the weights are rescaled.

    They are translated where they are used.
    """

    label: str
    formula: str
    rescaling: str
    wider: str  # which values mean a wide optimum


MEASURES: Final = {
    "adaptive_worst": Measure(
        N_("Adaptive worst-case sharpness"),
        N_('EE_S max_(abs(delta_i) <= r abs(w_i)) L_S (w + delta) - L_S (w) " " "(projected ascent)"'),
        N_("invariant"),
        N_("small"),
    ),
    "adaptive_average": Measure(
        N_("Adaptive average sharpness"),
        "EE_(epsilon tilde.op cal(N)(0, 1)) L(w + r abs(w) epsilon) - L(w)",
        N_("invariant"),
        N_("small"),
    ),
    "pac_bayes_sigma": Measure(
        N_("PAC-Bayes width σ (magnitude-aware)"),
        N_('"largest" sigma: EE_u "acc"(w + sigma sqrt(w^2 + epsilon^2) u) >= "acc"(w) - d'),
        N_("nearly invariant"),
        LARGE,
    ),
    "keskar": Measure(
        N_("Keskar sharpness"),
        "100 (max_(abs(delta_i) <= epsilon (abs(w_i) + 1)) L(w + delta) - L(w)) \\/ (1 + L(w))",
        N_("not invariant"),
        N_("small"),
    ),
    "hessian_eigenvalue": Measure(
        N_("Hessian, eigenvalue"),
        N_('lambda_1 >= lambda_2 >= lambda_3 "of" nabla^2 L(w) " " "(Lanczos)"'),
        N_("not invariant"),
        N_("small"),
    ),
    "hessian_trace": Measure(
        N_("Hessian, trace"), N_('tr nabla^2 L(w) " " "(Hutchinson, Rademacher)"'), N_("not invariant"), N_("small")
    ),
}
WIDTH: Final = "width"  # the evaluation, and the metric of its rows that are a width
FIRST_ORDER: Final = "first_order"  # the metric of the first-order prediction of a worst-case sharpness
AT_OPTIMUM: Final = {  # metrics of the optimum itself, not of its width
    "loss": Measure(N_("Loss on the subset"), "L(w)", "–", "–"),
    "accuracy": Measure(N_("Accuracy on the subset"), '"acc"(w)', "–", "–"),
}


@dataclass(frozen=True)
class Measurement:
    """A number of the evaluation `width`: a measure with its dimensions, or the loss or accuracy at the optimum.

    A worst-case sharpness has two numbers, which differ in `metric`: the rise that was found, and its first-order
    prediction.
    """

    metric: str
    dimensions: frozenset[tuple[str, Any]] = frozenset()

    @property
    def of_width(self) -> bool:
        """Whether the number is a width, not a prediction of it or the loss or accuracy at the optimum."""
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
    def at_common_penalty(self) -> bool:
        """Whether the head was fitted again with the penalty that is the same for all probes."""
        return bool(self._dimension("penalty") == "common")

    @property
    def first_order(self) -> "Measurement":
        """The first-order prediction of this sharpness."""
        return replace(self, metric=FIRST_ORDER)

    @property
    def normalized(self) -> bool:
        """Whether the loss is that of the normalised logits."""
        return bool(self._dimension("normalized"))

    @property
    def definition(self) -> Measure | None:
        """Label and formula; None for an unknown measure."""
        return (AT_OPTIMUM | MEASURES).get(self.name)

    @property
    def is_large_if_wide(self) -> bool:
        """Whether large values mean a wide optimum, as for a width; False for a sharpness."""
        return self.definition is not None and self.definition.wider == LARGE

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
        place = self._dimension("eigenvalue")
        label = _(self.definition.label) if self.definition else self.name
        return label if place is None else f"{label} {place}"

    @property
    def _details(self) -> list[str]:
        return [
            *([] if self.radius is None else [_("radius {radius:g}", radius=self.radius)]),
            *([_("normalised logits")] if self.normalized else []),
            *([_("head only")] if self.of_head else []),
            *([_("common l2")] if self.at_common_penalty else []),
            *([_("first order")] if self.metric == FIRST_ORDER else []),
        ]

    @property
    def place(self) -> tuple[bool, bool, bool, bool, int, str, float, int, str]:
        """The sort key of the report's order."""
        order = [*MEASURES, *AT_OPTIMUM]
        known = order.index(self.name) if self.name in order else len(order)
        penalty, place = self.at_common_penalty, int(self._dimension("eigenvalue") or 0)
        what = known, self.name, self.radius or 0.0, place, self.metric
        return self.of_head, penalty, self.metric == FIRST_ORDER, self.normalized, *what

    def _dimension(self, name: str) -> Any:
        return dict(self.dimensions).get(name)


def in_order(found: Iterable[Measurement]) -> list[Measurement]:
    """The measurements without duplicates: first those of the network, then on normalised logits, then of the head.

    Within each group they are ordered by measure and radius.
    """
    return sorted(set(found), key=lambda entry: entry.place)


def chosen(measures: Iterable[Measurement]) -> Measurement | None:
    """The measure that the report draws its conclusion from: the one argued for in its text, at the smallest radius.

    It is the same for every study, whatever the results: adaptive worst-case sharpness of the network on normalised
    logits. The smallest radius is the one that is most likely to be local. None if it was not measured.
    """
    for entry in in_order(measures):
        if entry.of_width and entry.name == "adaptive_worst" and entry.normalized and not entry.of_head:
            return entry
    return None
