"""All measures of the width of the optimum at which a final model stands, as units of work.

They are taken on the network with batch norm folded into its convolutions (folding.py), in eval mode, on one fixed
labelled subset without augmentation. Models can be compared if images, labels, `Width` and `seed` are the same.
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
from typing_extensions import TypedDict  # pydantic, which checks it in a checkpoint, takes typing's from Python 3.12 on

from ssl_pkg.catalogue import Width
from ssl_pkg.evaluation.forward import full_precision
from ssl_pkg.evaluation.width.draws import Interval
from ssl_pkg.evaluation.width.folding import fold_batch_norm
from ssl_pkg.evaluation.width.hessian import top_eigenvalue, trace
from ssl_pkg.evaluation.width.landscape import Landscape, spaced
from ssl_pkg.evaluation.width.perturb import Objective
from ssl_pkg.evaluation.width.sharpness import adaptive_average, adaptive_worst, keskar, pac_bayes_width
from ssl_pkg.rows import Dimensions, Row, Scope, row


class Found(TypedDict):
    """What a unit finds, in plain values that JSON and a checkpoint hold."""

    rows: list[Row]
    arrays: dict[str, list[Any]]


@dataclass(frozen=True)
class Unit:
    """One piece of work. None depends on another, so an interrupted stage goes on with those that it has not done."""

    name: str
    measure: Callable[[], Found]


def width_units(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    config: Width,
    *,
    head_only: bool,
    seed: int,
    tick: Callable[[], None],
) -> list[Unit]:
    """The measures of all weights of `model`, and its landscape; with `head_only`, those of its last layer alone.

    model: torchvision's resnet18(num_classes=C), which is not changed. images: (N, 3, R, R) float32, normalised;
    labels: (N,) int64; all on one device. The head is what a linear probe stands in an optimum of. Its metrics end
    in `_head` and cost next to nothing, for the features that it sees are computed once, here.
    tick: called after every batch; what it raises ends the unit without a result and changes nothing.
    """
    network: nn.Module = fold_batch_norm(model)
    if not head_only:
        objective = Objective(network, images, labels, config.batch_size, tick)
        return [*_measures(objective, config, seed, "network"), *_landscape(objective, config, seed)]
    head = network.get_submodule("fc")
    network.fc = nn.Identity()
    with torch.no_grad(), full_precision():
        features = torch.cat([network(batch) for batch in torch.split(images, config.batch_size)])
    return _measures(Objective(head, features, labels, config.batch_size, tick), config, seed, "head")


def collect(found: Iterable[Found]) -> tuple[list[Row], dict[str, npt.NDArray[np.float64]]]:
    """The rows of all units, and the landscape's arrays: alphas, loss, accuracy, grid and, joined, the plane."""
    rows: list[Row] = []
    arrays: dict[str, list[Any]] = {}
    for part in found:
        rows += part["rows"]
        for name, values in part["arrays"].items():
            arrays[name] = arrays.get(name, []) + values
    return rows, {name: np.array(values, dtype=np.float64) for name, values in arrays.items()}


Quantity = tuple[str, Dimensions]  # a metric and its dimensions


def _measures(objective: Objective, config: Width, seed: int, scope: Scope) -> list[Unit]:
    """The measures that are single numbers, one unit each; of the network also its loss and accuracy."""
    ascent, draws = config.ascent_steps, config.noise_draws
    units: list[Unit] = []

    def add(
        take: Callable[[], Interval | tuple[Interval, ...]],
        measure: str,
        radius: float | None = None,
        normalized: tuple[bool, ...] = (False,),
    ) -> None:
        quantities = [_quantity(measure, radius, scope, on_normalized) for on_normalized in normalized]
        units.append(_unit(_name(quantities[0]), take, quantities, objective))

    if scope == "network":  # the head has the same loss and accuracy
        units.append(
            _unit("loss and accuracy", partial(_start, objective), [("loss", {}), ("accuracy", {})], objective)
        )
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


def _quantity(measure: str, radius: float | None, scope: Scope, normalized: bool) -> Quantity:
    dimensions: Dimensions = {"measure": measure, "scope": scope, "normalized": normalized}
    if radius is not None:
        dimensions["radius"] = radius
    return "width", dimensions


def _name(quantity: Quantity) -> str:
    """The unit's name in progress lines and checkpoints: `adaptive_worst 0.002 normalized head`."""
    _, entry = quantity
    words = [entry["measure"], str(entry.get("radius", "")), "normalized" if entry["normalized"] else ""]
    return " ".join(word for word in [*words, "head" if entry["scope"] == "head" else ""] if word)


def _unit(
    name: str, take: Callable[[], Interval | tuple[Interval, ...]], quantities: list[Quantity], objective: Objective
) -> Unit:
    return Unit(name, lambda: {"rows": _rows(quantities, take(), objective), "arrays": {}})


def _start(objective: Objective) -> tuple[Interval, Interval]:
    """Loss and accuracy at the network's own weights; the accuracy is nan if a logit is not finite."""
    start = objective.start
    return Interval(start.loss), Interval(start.accuracy if isfinite(start.normalized_loss) else nan)


def _rows(quantities: list[Quantity], measured: Interval | tuple[Interval, ...], objective: Objective) -> list[Row]:
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
    """The line, and the plane row by row: so that no unit is long."""
    landscape = Landscape(objective, seed)
    alphas = spaced(config.landscape_radius, config.line_points)
    grid = spaced(config.landscape_radius, config.plane_points)

    def line() -> Found:
        loss, accuracy = landscape.line(alphas)
        return {"rows": [], "arrays": {"alphas": alphas, "loss": loss, "accuracy": accuracy, "grid": grid}}

    def plane_row(alpha: float) -> Found:
        return {"rows": [], "arrays": {"plane": [landscape.row(alpha, grid)]}}

    rows = [Unit(f"plane_{index}", partial(plane_row, alpha)) for index, alpha in enumerate(grid)]
    return [Unit("line", line), *rows]
