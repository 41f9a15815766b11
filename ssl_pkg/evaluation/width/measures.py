"""All measures of the width of a final model's optimum, as independent units of work.

The measures are taken in eval mode on one fixed labelled subset without augmentation, after batch norm is folded into
the convolutions (folding.py). Values of two models are comparable if images, labels, `Width` and `seed` are the same.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import isfinite, nan
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from typing_extensions import TypedDict  # pydantic accepts typing's TypedDict from Python 3.12 on

from ssl_pkg.catalogue import Width
from ssl_pkg.evaluation.forward import full_precision
from ssl_pkg.evaluation.width.folding import fold_batch_norm
from ssl_pkg.evaluation.width.hessian import top_eigenvalue, trace
from ssl_pkg.evaluation.width.landscape import Landscape, spaced
from ssl_pkg.evaluation.width.noise import Interval
from ssl_pkg.evaluation.width.perturb import Objective
from ssl_pkg.evaluation.width.sharpness import adaptive_average, adaptive_worst, keskar, pac_bayes_width
from ssl_pkg.rows import Dimensions, Row, Scope, row

MeasureFunction = Callable[[], Interval | tuple[Interval, ...]]


class UnitResult(TypedDict):
    """The result of a unit, in plain values that a checkpoint can hold."""

    rows: list[Row]
    arrays: dict[str, list[Any]]


@dataclass(frozen=True)
class Unit:
    """A piece of work that depends on no other unit, so that an interrupted stage resumes with the remaining units."""

    name: str
    measure: Callable[[], UnitResult]


def width_units(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    config: Width,
    *,
    scope: Scope,
    seed: int,
    tick: Callable[[], None],
) -> list[Unit]:
    """The measures and the landscape of all weights of `model`, or the measures of its last layer.

    model: torchvision's resnet18(num_classes=C), which is not changed. images: (N, 3, R, R) float32, normalised.
    labels: (N,) int64. All are on one device. scope: `network`, or `head` for the last layer, the only part that a
    linear probe trains; the input of the head is computed only once, here. tick: called after every batch; an exception
    from it ends the unit without a result.
    """
    network: nn.Module = fold_batch_norm(model)
    if scope == "network":
        objective = Objective(network, images, labels, config.batch_size, tick)
        return [*_measures(objective, config, seed, scope), *_landscape(objective, config, seed)]
    head = network.get_submodule("fc")
    network.fc = nn.Identity()
    with torch.no_grad(), full_precision():
        features = torch.cat([network(batch) for batch in torch.split(images, config.batch_size)])
    return _measures(Objective(head, features, labels, config.batch_size, tick), config, seed, scope)


def collect(found: Iterable[UnitResult]) -> tuple[list[Row], dict[str, npt.NDArray[np.float64]]]:
    """The rows of all units, and the landscape's arrays: alphas, loss, accuracy, grid, and the plane's rows stacked."""
    rows: list[Row] = []
    arrays: dict[str, list[Any]] = {}
    for part in found:
        rows += part["rows"]
        for name, values in part["arrays"].items():
            arrays[name] = arrays.get(name, []) + values
    return rows, {name: np.array(values, dtype=np.float64) for name, values in arrays.items()}


def _measures(objective: Objective, config: Width, seed: int, scope: Scope) -> list[Unit]:
    """A unit for each measure; for the whole network also a unit for its loss and accuracy."""
    ascent, draws = config.ascent_steps, config.noise_draws
    units: list[Unit] = []

    def add(
        take: MeasureFunction, measure: str, radius: float | None = None, normalized: tuple[bool, ...] = (False,)
    ) -> None:
        dimensions = [_dimensions(measure, radius, scope, flag) for flag in normalized]
        units.append(_unit(_name(dimensions[0]), take, [("width", entry) for entry in dimensions], objective))

    if scope == "network":  # the loss and accuracy of the head are those of the network
        quantities: list[tuple[str, Dimensions]] = [("loss", {}), ("accuracy", {})]
        units.append(_unit("loss and accuracy", partial(_start, objective), quantities, objective))
    for rho in config.worst_rho:
        for flag in (False, True):
            add(partial(adaptive_worst, objective, rho, ascent, normalized=flag), "adaptive_worst", rho, (flag,))
    for rho in config.average_rho:
        add(partial(adaptive_average, objective, rho, draws, seed), "adaptive_average", rho, (False, True))
    drop, bisections = config.pac_bayes_drop, config.pac_bayes_steps
    add(partial(pac_bayes_width, objective, drop, bisections, draws, seed), "pac_bayes_sigma")
    add(partial(keskar, objective, config.keskar_epsilon, ascent), "keskar")
    add(partial(top_eigenvalue, objective, config.lanczos_steps, seed), "hessian_top")
    add(partial(trace, objective, config.hutchinson_draws, seed), "hessian_trace")
    return units


def _dimensions(measure: str, radius: float | None, scope: Scope, normalized: bool) -> Dimensions:
    found: Dimensions = {"measure": measure, "scope": scope, "normalized": normalized}
    if radius is not None:
        found["radius"] = radius
    return found


def _name(dimensions: Dimensions) -> str:
    """The unit's name in progress lines and checkpoints: `adaptive_worst 0.002 normalized head`."""
    words = [dimensions["measure"]]
    words += [str(dimensions["radius"])] if "radius" in dimensions else []
    words += ["normalized"] if dimensions["normalized"] else []
    words += ["head"] if dimensions["scope"] == "head" else []
    return " ".join(words)


def _unit(name: str, take: MeasureFunction, quantities: list[tuple[str, Dimensions]], objective: Objective) -> Unit:
    """A unit that takes one measure. quantities: metric and dimensions of each value that `take` returns."""
    return Unit(name, lambda: {"rows": _rows(quantities, take(), objective), "arrays": {}})


def _start(objective: Objective) -> tuple[Interval, Interval]:
    """Loss and accuracy at the network's own weights; the accuracy is nan if a logit is not finite."""
    start = objective.start
    return Interval(start.loss), Interval(start.accuracy if isfinite(start.normalized_loss) else nan)


def _rows(
    quantities: list[tuple[str, Dimensions]], measured: Interval | tuple[Interval, ...], objective: Objective
) -> list[Row]:
    intervals = (measured,) if isinstance(measured, Interval) else measured
    reason = (
        "the loss or a derivative of it is not finite at the weights that the measure looks at"
        if isfinite(objective.start.loss)
        else "the loss of the model itself is not finite"
    )
    return [
        row("width", metric, value, objective.count, (low, high), dimensions=dimensions, reason=reason)
        for (metric, dimensions), (value, low, high) in zip(quantities, intervals, strict=True)
    ]


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
