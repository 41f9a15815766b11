"""Optimizers and the learning rate as a function of the step."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Final

import torch
from torch import Tensor, nn

from ssl_pkg.config.schema import OptimizerName

TRUST: Final = 1e-3  # η in SimCLR's and BYOL's own code


class LARS(torch.optim.Optimizer):
    """Layer-wise adaptive rate scaling (You, Gitman and Ginsburg 1708.03888, algorithm 1).

        λ = η·‖w‖ / ‖g + β·w‖,   v ← m·v + γ·λ·(g + β·w),   w ← w − v

    The paper has ‖g‖ + β‖w‖ in the denominator of λ. SimCLR's and BYOL's own code uses the norm of the sum, and so does
    this class. γ is inside the velocity, as in the paper; BYOL's code multiplies the velocity by γ instead, which
    differs only while γ changes. Biases and batch normalisation's parameters, which have one dimension, are neither
    scaled nor decayed: λ = 1, β = 0 (SimCLR's code; 2006.07733 section 3.3).

    lr: γ, momentum: m, weight_decay: β, TRUST: η.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override] # torch overloads it for closures
        """Performs one step, without synchronising with the device."""
        for group in self.param_groups:
            parameters: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            weights = [p for p in parameters if p.ndim > 1]
            others = [p for p in parameters if p.ndim <= 1]
            if weights:
                self._move(weights, self._scaled(weights, group), group)
            if others:
                self._move(others, _gradients(others), group)

    @staticmethod
    def _scaled(weights: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """λ·(g + β·w) of each weight, with λ = 1 where a norm is 0."""
        updates = torch._foreach_add(_gradients(weights), weights, alpha=group["weight_decay"])
        weight_norms = torch.stack(torch._foreach_norm(weights))
        update_norms = torch.stack(torch._foreach_norm(updates))
        ratios = TRUST * weight_norms / update_norms
        ratios = torch.where((weight_norms > 0) & (update_norms > 0), ratios, torch.ones_like(ratios))
        torch._foreach_mul_(updates, list(ratios.unbind()))
        return list(updates)

    def _move(self, parameters: list[Tensor], updates: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            if "velocity" not in self.state[parameter]:
                self.state[parameter]["velocity"] = torch.zeros_like(parameter)
        velocities = [self.state[parameter]["velocity"] for parameter in parameters]
        torch._foreach_mul_(velocities, group["momentum"])
        torch._foreach_add_(velocities, updates, alpha=group["lr"])
        torch._foreach_sub_(parameters, velocities)


class AdamW(torch.optim.AdamW):
    """torch's fused AdamW, given contiguous views of weights in channels_last memory format.

    On a CPU, the fused kernel copies each tensor that is not contiguous, its state too, before and after the step. For
    a ResNet-18 in channels_last, a step takes 14 to 22 ms with the copies and 8 to 10 ms without (one core of an AMD
    EPYC, Zen 4). It also reads a gradient whose memory format is not the weight's in the wrong order.
    """

    def _init_group(self, group: Any, *tensors: list[Tensor], **more: Any) -> bool:  # collects the tensors of a step
        has_complex: bool = super()._init_group(group, *tensors, **more)  # type: ignore[no-untyped-call] # torch's
        parameters, gradients, *moments = tensors[:4]
        for k, parameter in enumerate(parameters):
            if parameter.ndim == 4 and parameter.is_contiguous(memory_format=torch.channels_last):
                for entries in (parameters, gradients, *moments):
                    entries[k] = entries[k].permute(0, 2, 3, 1)
            gradients[k] = gradients[k].contiguous()
        return has_complex


def _gradients(parameters: list[Tensor]) -> list[Tensor]:
    return [p.grad for p in parameters if p.grad is not None]


def build_optimizer(
    name: OptimizerName, groups: list[dict[str, Any]], *, weight_decay: float, momentum: float = 0.9
) -> torch.optim.Optimizer:
    """The optimizer over the parameters of `groups` that require a gradient. momentum: of LARS and SGD.

    `Step` sets a group's learning rate before each step: the schedule's, times the group's `lr_multiplier` (default 1).
    """
    trained = [
        {"lr_multiplier": 1.0} | group | {"params": [p for p in group["params"] if p.requires_grad]} for group in groups
    ]
    if name == "lars":
        return LARS(trained, lr=0.0, momentum=momentum, weight_decay=weight_decay)
    if name == "sgd":
        return torch.optim.SGD(trained, lr=0.0, momentum=momentum, weight_decay=weight_decay, foreach=True)
    return AdamW(trained, lr=0.0, weight_decay=weight_decay, fused=True)


def warmup_cosine(step: int, steps: int, warmup_steps: int) -> float:
    """The factor on the peak learning rate at `step`, from 0: linear warm-up, then a cosine to 0 (2002.05709, 2.3)."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return 0.5 * (1 + math.cos(math.pi * (step - warmup_steps) / max(1, steps - warmup_steps)))


def lr_schedule(peak: float, warmup_epochs: float, steps: int, steps_per_epoch: int) -> Callable[[int], float]:
    """The learning rate as a function of the step: linear warm-up to `peak`, then a cosine, 0 after the last step."""
    warmup = min(round(warmup_epochs * steps_per_epoch), steps)
    return lambda step: peak * warmup_cosine(step, steps, warmup)
