"""The rows of result.json: one number each, with the dimensions that say which number it is. Imports no torch.

A row never packs a dimension into the name of its metric: the accuracy on cats is the metric `accuracy` with the class
`cat`. Readers select rows by these keys and take no name apart.
"""

from collections.abc import Mapping
from math import isfinite
from typing import Any, Final, Literal, NotRequired, cast

from pydantic import ConfigDict, TypeAdapter, with_config
from typing_extensions import TypedDict  # pydantic accepts typing's from Python 3.12 on

ECE_BINS: Final = 15  # of equal length, of confidence: over which the metric `ece` is a mean

Scope = Literal["network", "head"]  # the weights that are perturbed: all, or those of the last layer
Penalty = Literal["chosen", "common"]  # l2 of a probe's head: chosen on its holdout split, or the same for all probes

Adaptation = Literal["probe", "finetune"]  # what makes a final model of an encoder

Dimensions = TypedDict(
    "Dimensions",
    {
        "class": str,  # only the images of this class count
        "labels_per_class": int,  # of the training images
        "draw": int,  # of the training images, from 0: the number of the random subset
        "fold": int,  # of the training images, from 0
        "corruption": str,  # of the test images
        "severity": int,  # of the corruption, from 1
        "measure": str,  # of the width of an optimum, e.g. `adaptive_worst`
        "radius": float,  # of the neighbourhood that the measure looks at
        "scope": Scope,
        "normalized": bool,  # whether the loss is that of the normalised logits
        "penalty": Penalty,
        "eigenvalue": int,  # of the Hessian, from 1, the largest
    },
    total=False,
)
DIMENSIONS: Final = tuple(Dimensions.__annotations__)
INTEGER_DIMENSIONS: Final = tuple(name for name, kind in Dimensions.__annotations__.items() if kind is int)


@with_config(ConfigDict(strict=True, extra="forbid"))
class Row(Dimensions):
    """One number. Accuracies are fractions.

    `low` and `high` are a 95 % interval or, for an eigenvalue, its residual bounds; None without either. A search that
    ends at a limit has no value but a bound.
    """

    evaluation: str
    metric: str
    value: float | None  # None if the number could not be computed
    low: float | None
    high: float | None
    n: int  # samples behind the value
    adaptation: NotRequired[Adaptation]  # of the model that the number is about, if the run evaluates several
    reason: NotRequired[str]  # why there is no value
    at_least: NotRequired[float]  # a lower bound, if there is no value
    at_most: NotRequired[float]  # an upper bound, if there is no value


ROWS: Final = TypeAdapter(list[Row])


def row(
    evaluation: str,
    metric: str,
    value: float,
    n: int,
    interval: tuple[float | None, float | None] = (None, None),
    *,
    dimensions: Dimensions | None = None,
    reason: str = "it is not a finite number",
) -> Row:
    """The row of a number. JSON has no infinity: a value that is not finite becomes None, with `reason`."""
    if not isfinite(value):
        return unmeasured(evaluation, metric, n, reason, dimensions)
    low, high = (None if bound is None or not isfinite(bound) else float(bound) for bound in interval)
    content = {"value": float(value), "low": low, "high": high, "n": n}
    return cast(Row, {"evaluation": evaluation, "metric": metric, **(dimensions or {}), **content})


def unmeasured(evaluation: str, metric: str, n: int, reason: str, dimensions: Dimensions | None = None) -> Row:
    """The row of a number that could not be computed: its value is None, and `reason` says why."""
    content = {"value": None, "low": None, "high": None, "n": n, "reason": reason}
    return cast(Row, {"evaluation": evaluation, "metric": metric, **(dimensions or {}), **content})


def bounded(
    evaluation: str,
    metric: str,
    n: int,
    reason: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    dimensions: Dimensions | None = None,
) -> Row:
    """The row of a number of which only a bound is known. `reason` says why."""
    bounds = {"at_least": at_least, "at_most": at_most}
    known = {name: float(bound) for name, bound in bounds.items() if bound is not None}
    return cast(Row, {**unmeasured(evaluation, metric, n, reason, dimensions), **known})


def dimensions_of(entry: Mapping[str, Any]) -> frozenset[tuple[str, Any]]:
    """The dimensions of a row as (name, value) pairs: equal for rows of the same number in different runs."""
    return frozenset((name, entry[name]) for name in DIMENSIONS if name in entry)
