"""The loss on a fixed labelled set as a function of one flat vector of weights; every measure of width evaluates it.

Everything is computed in true float32, without autocast or TF32, because the measures are small differences of losses
and second derivatives, which rounding to a mantissa of 7 to 10 bits would hide.
"""

import copy
from collections.abc import Callable
from functools import cached_property
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from ssl_pkg.evaluation.forward import full_precision
from ssl_pkg.evaluation.width.noise import generator


class Values(NamedTuple):
    """Means over the images."""

    loss: float  # cross-entropy (nats) of the logits
    normalized_loss: float  # of the normalised logits
    accuracy: float  # fraction; an image with a nan among its logits counts as wrong

    def of(self, normalized: bool) -> float:
        """The loss of the logits, or of the normalised logits."""
        return self.normalized_loss if normalized else self.loss


class Objective:
    """L(w): the mean cross-entropy of `network` on (inputs, labels) with its weights replaced by the flat vector w.

    network: has no state besides its parameters (see folding.py). It is never changed, because w is applied with
    torch.func.functional_call. inputs: (N, ...) float32. labels: (N,) int64, on the network's device. tick: called
    after every batch; an exception from it propagates and leaves the objective unchanged.
    """

    def __init__(
        self, network: nn.Module, inputs: Tensor, labels: Tensor, batch_size: int, tick: Callable[[], None]
    ) -> None:
        self.network = network
        self.parameters = {name: weight.detach() for name, weight in network.named_parameters()}
        self.weights = torch.cat([weight.flatten() for weight in self.parameters.values()])
        self._size, self._tick = batch_size, tick
        self._take(inputs.contiguous(), labels)

    def _take(self, inputs: Tensor, labels: Tensor) -> None:
        self._inputs, self._labels, self.count = inputs, labels, len(labels)
        self._batches = list(zip(torch.split(inputs, self._size), torch.split(labels, self._size), strict=True))

    def parts(self, images: int, seed: int) -> list["Objective"]:
        """The losses of disjoint random subsets of about `images` images each, at least one.

        The sizes of the subsets differ by at most 1. They depend only on `seed` and the number of images.
        """
        order = torch.randperm(self.count, generator=generator(seed, "parts"))
        found = []
        for chosen in torch.tensor_split(order, max(1, round(self.count / images))):
            part = copy.copy(self)
            part.__dict__.pop("unperturbed", None)  # the cached means of all images
            part._take(self._inputs[chosen], self._labels[chosen])
            found.append(part)
        return found

    @cached_property
    def unperturbed(self) -> Values:
        """The means at the network's own weights."""
        return self.at(self.weights)

    @property
    def chance(self) -> float:
        """The accuracy of the best constant prediction."""
        return self._labels.bincount().max().item() / self.count

    @full_precision()
    def at(self, weights: Tensor) -> Values:
        """The means at w = `weights`."""
        total = torch.zeros(3, dtype=torch.float64, device=weights.device)
        with torch.no_grad():
            for inputs, labels in self._batches:
                logits = self._logits(weights, inputs)
                total[0] += F.cross_entropy(logits, labels, reduction="sum")
                total[1] += F.cross_entropy(normalize(logits), labels, reduction="sum")
                total[2] += ((logits.argmax(1) == labels) & ~logits.isnan().any(1)).sum()
                self._tick()
        return Values(*(total / self.count).tolist())

    @full_precision()
    def gradient(self, weights: Tensor, *, normalized: bool = False) -> tuple[float, Tensor]:
        """L(w) and dL/dw (P,) at w = `weights`; with `normalized`, of the loss of the normalised logits."""
        leaf = weights.detach().clone().requires_grad_()
        total = torch.zeros((), dtype=torch.float64, device=weights.device)
        gradient = torch.zeros_like(weights)
        for inputs, labels in self._batches:
            logits = self._logits(leaf, inputs)
            loss = F.cross_entropy(normalize(logits) if normalized else logits, labels, reduction="sum")
            gradient += torch.autograd.grad(loss, leaf)[0]
            total += loss.detach()
            self._tick()
        return total.item() / self.count, gradient / self.count

    @full_precision()
    def hessian_product(self, vector: Tensor) -> Tensor:
        """H v (P,) at the network's own weights, where H is the Hessian of L: the derivative of <dL/dw, v>."""
        leaf = self.weights.clone().requires_grad_()
        product = torch.zeros_like(vector)
        for inputs, labels in self._batches:
            loss = F.cross_entropy(self._logits(leaf, inputs), labels, reduction="sum")
            (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
            product += torch.autograd.grad(gradient, leaf, grad_outputs=vector)[0]
            self._tick()
        return product / self.count

    def split(self, flat: Tensor) -> tuple[Tensor, ...]:
        """The parts of a flat vector (P,) that belong to each parameter, in the order of `parameters`."""
        return torch.split(flat, [weight.numel() for weight in self.parameters.values()])

    def _logits(self, weights: Tensor, inputs: Tensor) -> Tensor:
        replaced = {
            name: part.view(weight.shape)
            for part, (name, weight) in zip(self.split(weights), self.parameters.items(), strict=True)
        }
        logits: Tensor = functional_call(self.network, replaced, (inputs,))
        return logits


def normalize(logits: Tensor) -> Tensor:
    """Logit normalisation of Andriushchenko et al. 2302.07011: (f - mean f) / ||f - mean f||_2.

    logits: (B, C); mean and norm of each sample's logits f are over its C classes. The result does not depend on the
    scale of the logits or on a constant added to them, so that models of equal accuracy and different confidence can be
    compared.
    """
    return F.normalize(logits - logits.mean(1, keepdim=True), dim=1)
