"""All measures of the width of a final model's optimum, as independent units of work.

The measures are taken in eval mode on one fixed labelled subset without augmentation, after batch norm is folded into
the convolutions (folding.py). Values of two models are comparable if images, labels, `Width` and `seed` are the same.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from math import isfinite, nan
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from typing_extensions import TypedDict  # pydantic accepts typing's TypedDict from Python 3.12 on

from ssl_pkg.config.stage_settings import Width
from ssl_pkg.evaluation.forward import full_precision
from ssl_pkg.evaluation.width.folding import fold_batch_norm
from ssl_pkg.evaluation.width.hessian import EIGENVALUES, top_eigenvalues, trace
from ssl_pkg.evaluation.width.landscape import Landscape, spaced
from ssl_pkg.evaluation.width.noise import Bound, Interval
from ssl_pkg.evaluation.width.perturb import Objective
from ssl_pkg.evaluation.width.sharpness import adaptive_average, adaptive_worst, keskar, pac_bayes_width
from ssl_pkg.rows import Dimensions, Penalty, Row, bounded, row

MeasureFunction = Callable[[Objective], Interval | Bound | tuple[Interval, ...]]
EVALUATION: Final = "width"
WIDTH, FIRST_ORDER = "width", "first_order"  # metrics: the measure, and its first-order prediction


class UnitResult(TypedDict):
    """The result of a unit, in plain values that a checkpoint can hold."""

    rows: list[Row]
    arrays: dict[str, list[Any]]


@dataclass(frozen=True)
class Unit:
    """A piece of work that depends on no other unit, so that an interrupted stage resumes with the remaining units."""

    name: str
    measure: Callable[[], UnitResult]


def network_units(
    model: nn.Module, images: Tensor, labels: Tensor, config: Width, *, seed: int, tick: Callable[[], None]
) -> list[Unit]:
    """The measures and the landscape of all weights of `model`.

    model: torchvision's resnet18(num_classes=C), which is not changed. images: (N, 3, R, R) float32, normalised.
    labels: (N,) int64. All are on one device. tick: called after every batch; an exception from it ends the unit
    without a result.
    """
    objective = Objective(fold_batch_norm(model), images, labels, config.batch_size, tick)
    measures = _measures(lambda: objective, config, seed, {"scope": "network"})
    return [*measures, *_landscape(objective, config, seed)]


def head_units(
    head: Callable[[], tuple[nn.Module, Tensor]],
    labels: Tensor,
    config: Width,
    *,
    penalty: Penalty,
    seed: int,
    tick: Callable[[], None],
) -> list[Unit]:
    """The measures of a linear head, the only part that a linear probe trains.

    head: returns the head and its inputs (N, D) float32. It is called when the first unit is measured, so that a
    resumed run without units to measure does not compute the inputs again. labels: (N,) int64. penalty: the l2 that the
    head was fitted with. tick: as for `network_units`.
    """

    @cache
    def objective() -> Objective:
        return Objective(*head(), labels, config.batch_size, tick)

    return _measures(objective, config, seed, {"scope": "head", "penalty": penalty})


def head_inputs(model: nn.Module, images: Tensor, batch_size: int) -> Tensor:
    """The inputs (N, 512) of the last layer of `model` for images (N, 3, R, R), computed as in `network_units`."""
    network = fold_batch_norm(model)
    network.fc = nn.Identity()
    with torch.no_grad(), full_precision():
        return torch.cat([network(batch) for batch in torch.split(images, batch_size)])


def collect(found: Iterable[UnitResult]) -> tuple[list[Row], dict[str, npt.NDArray[np.float64]]]:
    """The rows of all units, and the landscape's arrays: alphas, loss, accuracy, grid, and the plane's rows stacked."""
    rows: list[Row] = []
    arrays: dict[str, list[Any]] = {}
    for part in found:
        rows += part["rows"]
        for name, values in part["arrays"].items():
            arrays[name] = arrays.get(name, []) + values
    return rows, {name: np.array(values, dtype=np.float64) for name, values in arrays.items()}


def _measures(objective: Callable[[], Objective], config: Width, seed: int, common: Dimensions) -> list[Unit]:
    """A unit for each measure, and one for the loss and the accuracy. common: the dimensions of every row.

    The loss and the accuracy of the whole network have no dimensions.
    """
    images, ascent, draws = config.ascent_images, config.ascent_steps, config.noise_draws
    units: list[Unit] = []

    def add(name: str, take: MeasureFunction, *quantities: tuple[str, Dimensions]) -> None:
        where = [common["penalty"], "head"] if common["scope"] == "head" else []
        units.append(_unit(" ".join([name, *where]), take, quantities, objective))

    def dimensions(name: str, normalized: bool = False) -> Dimensions:
        return {**common, "measure": name, "normalized": normalized}

    unperturbed: Dimensions = {} if common["scope"] == "network" else common
    if common.get("penalty") != "chosen":  # the loss and accuracy of the chosen head are those of the network
        add("loss and accuracy", _unperturbed, ("loss", unperturbed), ("accuracy", unperturbed))
    for rho in config.worst_rho:
        for flag in (True, False):
            worst: Dimensions = {**dimensions("adaptive_worst", flag), "radius": rho}
            ascend = partial(adaptive_worst, rho=rho, steps=ascent, images=images, seed=seed, normalized=flag)
            name = f"adaptive_worst {rho}{' normalized' if flag else ''}"
            add(name, ascend, (WIDTH, worst), (FIRST_ORDER, worst))
    for rho in config.average_rho:
        average = [dimensions("adaptive_average", flag) for flag in (False, True)]
        both: list[tuple[str, Dimensions]] = [(WIDTH, {**entry, "radius": rho}) for entry in average]
        add(f"adaptive_average {rho}", partial(adaptive_average, rho=rho, draws=draws, seed=seed), *both)
    drop, bisections = config.pac_bayes_drop, config.pac_bayes_steps
    sigma = partial(pac_bayes_width, drop=drop, steps=bisections, draws=draws, seed=seed)
    add("pac_bayes_sigma", sigma, (WIDTH, dimensions("pac_bayes_sigma")))
    box = partial(keskar, epsilon=config.keskar_epsilon, steps=ascent)
    add("keskar", box, (WIDTH, dimensions("keskar")))
    eigenvalue = dimensions("hessian_eigenvalue")
    top: list[tuple[str, Dimensions]] = [(WIDTH, {**eigenvalue, "eigenvalue": 1 + i}) for i in range(EIGENVALUES)]
    add("hessian_eigenvalue", partial(top_eigenvalues, steps=config.lanczos_steps, seed=seed), *top)
    hutchinson = partial(trace, draws=config.hutchinson_draws, seed=seed)
    add("hessian_trace", hutchinson, (WIDTH, dimensions("hessian_trace")))
    return units


def _unit(
    name: str, take: MeasureFunction, quantities: Sequence[tuple[str, Dimensions]], objective: Callable[[], Objective]
) -> Unit:
    """A unit that takes one measure. quantities: metric and dimensions of each number that `take` returns."""

    def measure() -> UnitResult:
        measured = take(objective())
        found = [measured] if isinstance(measured, Interval | Bound) else measured
        rows = [_row(metric, entry, one, objective()) for (metric, entry), one in zip(quantities, found, strict=True)]
        return {"rows": rows, "arrays": {}}

    return Unit(name, measure)


def _unperturbed(objective: Objective) -> tuple[Interval, Interval]:
    """Loss and accuracy at the network's own weights; the accuracy is nan if a logit is not finite."""
    found = objective.unperturbed
    return Interval(found.loss), Interval(found.accuracy if isfinite(found.normalized_loss) else nan)


def _row(metric: str, dimensions: Dimensions, found: Interval | Bound, objective: Objective) -> Row:
    if isinstance(found, Bound):
        at_least, at_most, reason = found
        return bounded(
            EVALUATION, metric, objective.count, reason, at_least=at_least, at_most=at_most, dimensions=dimensions
        )
    reason = (
        "the loss or a derivative of it is not finite at the weights that the measure looks at"
        if isfinite(objective.unperturbed.loss)
        else "the loss of the model itself is not finite"
    )
    value, low, high, own_reason = found
    return row(
        EVALUATION, metric, value, objective.count, (low, high), dimensions=dimensions, reason=own_reason or reason
    )


def _landscape(objective: Objective, config: Width, seed: int) -> list[Unit]:
    """A unit for the line and one for each row of the plane, so that no unit takes long."""
    landscape = Landscape(objective, seed)
    alphas = spaced(config.landscape_radius, config.line_points)
    grid = spaced(config.landscape_radius, config.plane_points)

    def line() -> UnitResult:
        loss, accuracy = landscape.line(alphas)
        return {"rows": [], "arrays": {"alphas": alphas, "loss": loss, "accuracy": accuracy, "grid": grid}}

    def plane_row(alpha: float) -> UnitResult:
        return {"rows": [], "arrays": {"plane": [landscape.row(alpha, grid)]}}

    rows = [Unit(f"plane_{index}", partial(plane_row, alpha)) for index, alpha in enumerate(grid)]
    return [Unit("line", line), *rows]
