"""Exponential moving averages (EMA) of networks: BYOL's target network and MoCo's momentum encoder."""

import copy

import torch
from torch import nn


def frozen_copy(module: nn.Module) -> nn.Module:
    """A deep copy whose parameters don't require gradients."""
    return copy.deepcopy(module).requires_grad_(False)


@torch.no_grad()
def ema_update(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Sets average = decay · average + (1 − decay) · module, for the parameters only.

    Buffers such as batch normalisation's running statistics are updated by the average's own forward passes.
    """
    torch._foreach_lerp_(list(average.parameters()), list(module.parameters()), 1 - decay)
