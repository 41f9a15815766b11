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
from ssl_pkg.evaluation.accuracy import Row, row
from ssl_pkg.evaluation.forward import full_precision
from ssl_pkg.evaluation.width.draws import Interval
from ssl_pkg.evaluation.width.folding import fold_batch_norm
from ssl_pkg.evaluation.width.hessian import top_eigenvalue, trace
from ssl_pkg.evaluation.width.landscape import Landscape, spaced
from ssl_pkg.evaluation.width.perturb import Objective
from ssl_pkg.evaluation.width.sharpness import adaptive_average, adaptive_worst, keskar, pac_bayes_width


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
        return [*_numbers(objective, config, seed, ""), *_landscape(objective, config, seed)]
    head = network.get_submodule("fc")
    network.fc = nn.Identity()
    with torch.no_grad(), full_precision():
        features = torch.cat([network(batch) for batch in torch.split(images, config.batch_size)])
    return _numbers(Objective(head, features, labels, config.batch_size, tick), config, seed, "_head")


def collect(found: Iterable[Found]) -> tuple[list[Row], dict[str, npt.NDArray[np.float64]]]:
    """The rows of all units, and the landscape's arrays: alphas, loss, accuracy, grid and, joined, the plane."""
    rows: list[Row] = []
    arrays: dict[str, list[Any]] = {}
    for part in found:
        rows += part["rows"]
        for name, values in part["arrays"].items():
            arrays[name] = arrays.get(name, []) + values
    return rows, {name: np.array(values, dtype=np.float64) for name, values in arrays.items()}


def _numbers(objective: Objective, config: Width, seed: int, suffix: str) -> list[Unit]:
    """The measures that end in numbers, the name of each followed by `suffix`."""
    ascent, draws = config.ascent_steps, config.noise_draws
    units: list[Unit] = []

    def add(measure: Callable[[], Interval | tuple[Interval, ...]], *metrics: str) -> None:
        names = [metric + suffix for metric in metrics]
        units.append(Unit(names[0], lambda: {"rows": _rows(names, measure(), objective), "arrays": {}}))

    if not suffix:  # the head's would be the same numbers
        add(partial(_start, objective), "train_loss", "train_accuracy")
    for rho in config.worst_rho:
        name = f"adaptive_worst_{rho:g}"
        add(partial(adaptive_worst, objective, rho, ascent, normalized=False), name)
        add(partial(adaptive_worst, objective, rho, ascent, normalized=True), f"{name}_normalized")
    for rho in config.average_rho:
        name = f"adaptive_average_{rho:g}"
        add(partial(adaptive_average, objective, rho, draws, seed), name, f"{name}_normalized")
    drop, bisections = config.pac_bayes_drop, config.pac_bayes_steps
    add(partial(pac_bayes_width, objective, drop, bisections, draws, seed), "pac_bayes_sigma")
    add(partial(keskar, objective, config.keskar_epsilon, ascent), "keskar")
    add(partial(top_eigenvalue, objective, config.lanczos_steps, seed), "hessian_top")
    add(partial(trace, objective, config.hutchinson_draws, seed), "hessian_trace")
    return units


def _start(objective: Objective) -> tuple[Interval, Interval]:
    """Loss and accuracy of the model itself; without finite logits it has no accuracy."""
    start = objective.start
    return Interval(start.loss), Interval(start.accuracy if isfinite(start.normalized_loss) else nan)


def _rows(metrics: list[str], measured: Interval | tuple[Interval, ...], objective: Objective) -> list[Row]:
    intervals = (measured,) if isinstance(measured, Interval) else measured
    own = isfinite(objective.start.loss)
    reason = (
        "the loss or a derivative of it is not finite at the weights that the measure looks at"
        if own
        else "the loss of the model itself is not finite"
    )
    return [
        row("width", metric, value, objective.count, (low, high), reason=reason)
        for metric, (value, low, high) in zip(metrics, intervals, strict=True)
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
