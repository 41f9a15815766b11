"""The exponential moving average that BYOL's target and MoCo's key network are."""

import copy

import torch
from torch import nn


def frozen_copy(module: nn.Module) -> nn.Module:
    """A copy whose parameters take no gradient."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def ema_update(average: nn.Module, module: nn.Module, decay: float) -> None:
    """average <- decay · average + (1 − decay) · module, for the parameters only.

    Batch normalisation's running statistics are buffers and follow the average's own forwards.
    """
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - decay)
