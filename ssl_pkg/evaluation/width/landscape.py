"""Slices of the loss along filter-normalised random directions (Li et al. 1712.09913)."""

from functools import cached_property

import torch
from torch import Tensor

from ssl_pkg.evaluation.width.draws import gaussian
from ssl_pkg.evaluation.width.perturb import Objective


class Landscape:
    """The loss over the line and the plane that two random directions span at the weights w."""

    def __init__(self, objective: Objective, seed: int) -> None:
        self._objective, self._seed = objective, seed

    @cached_property
    def first(self) -> Tensor:
        """The direction d of the line, and of the plane's rows."""
        return filter_normalized(self._objective, self._seed, 0)

    @cached_property
    def second(self) -> Tensor:
        """The direction e of the plane's columns. In so many dimensions it is all but orthogonal to d."""
        return filter_normalized(self._objective, self._seed, 1)

    def line(self, alphas: list[float]) -> tuple[list[float], list[float]]:
        """L(w + alpha d) (nats) and the accuracy there, for each alpha."""
        values = [self._objective.at(torch.add(self._objective.weights, self.first, alpha=alpha)) for alpha in alphas]
        return [value.loss for value in values], [value.accuracy for value in values]

    def row(self, alpha: float, betas: list[float]) -> list[float]:
        """L(w + alpha d + beta e) (nats) for each beta."""
        origin = torch.add(self._objective.weights, self.first, alpha=alpha)
        return [self._objective.at(torch.add(origin, self.second, alpha=beta)).loss for beta in betas]


def filter_normalized(objective: Objective, seed: int, draw: int) -> Tensor:
    """A random direction d (P,) in which every filter is as long as the weights' own:

        d_ij <- d_ij ||w_ij|| / ||d_ij||  for filter j of layer i, before that standard normal.

    Section 4 of the paper. A filter is what makes one output channel, in a linear layer one row. Parameters with one
    dimension (biases, among them those that batch norm was folded into) stay where they are, as biases and batch norm
    do in the paper. The draw is the same for every model of an architecture.
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
    """`points` even steps from -radius to radius; the middle one of an odd number is exactly 0."""
    return [radius * (2 * point / (points - 1) - 1) for point in range(points)]
