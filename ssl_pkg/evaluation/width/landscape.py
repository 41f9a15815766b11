"""The loss along filter-normalised random directions (Li et al. 1712.09913)."""

from functools import cached_property

import torch
from torch import Tensor

from ssl_pkg.evaluation.width.noise import gaussian
from ssl_pkg.evaluation.width.perturb import Objective


class Landscape:
    """The loss on the line and on the plane through the weights w that two random directions span."""

    def __init__(self, objective: Objective, seed: int) -> None:
        self._objective, self._seed = objective, seed

    @cached_property
    def first(self) -> Tensor:
        """The direction d of the line; in the plane it leads from row to row."""
        return filter_normalized(self._objective, self._seed, 0)

    @cached_property
    def second(self) -> Tensor:
        """The direction e from column to column of the plane, nearly orthogonal to d in so many dimensions."""
        return filter_normalized(self._objective, self._seed, 1)

    def line(self, alphas: list[float]) -> tuple[list[float], list[float]]:
        """The loss L(w + alpha d) in nats, and the accuracy at w + alpha d, for each alpha."""
        values = [self._objective.at(torch.add(self._objective.weights, self.first, alpha=alpha)) for alpha in alphas]
        return [value.loss for value in values], [value.accuracy for value in values]

    def row(self, alpha: float, betas: list[float]) -> list[float]:
        """The loss L(w + alpha d + beta e) in nats for each beta."""
        origin = torch.add(self._objective.weights, self.first, alpha=alpha)
        return [self._objective.at(torch.add(origin, self.second, alpha=beta)).loss for beta in betas]


def filter_normalized(objective: Objective, seed: int, draw: int) -> Tensor:
    """A random direction d (P,) whose filters have the norms of the filters of the weights w (section 4 of the paper):

        d_ij <- d_ij ||w_ij|| / ||d_ij||  for filter j of layer i, where d_ij is standard normal.

    A filter is the part of a weight that computes one output channel; in a linear layer it is one row. For parameters
    with one dimension, which are biases, d is 0: the paper ignores biases and batch norm too. The direction before
    scaling is the same for every model of an architecture.
    """
    noise = gaussian(objective.weights, seed, "landscape", draw)
    direction = []
    for part, weight in zip(objective.split(noise), objective.parameters.values(), strict=True):
        if weight.dim() > 1:
            filters = part.view(len(weight), -1)
            lengths = weight.reshape(len(weight), -1).norm(dim=1, keepdim=True)
            direction.append((filters * (lengths / filters.norm(dim=1, keepdim=True))).flatten())
        else:
            direction.append(torch.zeros_like(part))
    return torch.cat(direction)


def spaced(radius: float, points: int) -> list[float]:
    """`points` equally spaced values from -radius to radius; for an odd number the middle value is exactly 0."""
    return [radius * (2 * point / (points - 1) - 1) for point in range(points)]
