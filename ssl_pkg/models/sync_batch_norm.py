"""Synchronised batch normalisation, with the statistics of all ranks' batches, on CPUs and GPUs."""

from typing import Any, cast

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ssl_pkg.distributed.collectives import all_gather, world_size


def synchronise_batch_norm(network: nn.Module) -> None:
    """Makes every batch normalisation in `network` compute its statistics over the batches of all ranks.

    The names and shapes in the state dict don't change. PyTorch's SyncBatchNorm is not used, because it refuses CPU
    tensors.
    """
    for module in network.modules() if world_size() > 1 else ():
        if isinstance(module, _BatchNorm):
            module.__class__ = _SynchronisedBatchNorm


class _SynchronisedBatchNorm(_BatchNorm):
    def _check_input_dim(self, input: Tensor) -> None:  # noqa: A002 - torch's name
        """Accepts any (N, C, ...)."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        if not self.training:
            return super().forward(input)
        mean, variance = _global_statistics(input)
        count = input.numel() // input.shape[1] * world_size()
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum or 0.0)
            self.running_var.lerp_(variance * (count / (count - 1)), self.momentum or 0.0)
        return cast(Tensor, _Normalise.apply(input, self.weight, self.bias, mean, variance, self.eps))


def _global_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance (C,) of each channel over all ranks.

    They are combined from the ranks' means and variances, because E[x²] − E[x]² would lose digits by cancellation.
    """
    x = x.detach().float()
    variance, mean = torch.var_mean(x, dim=_all_but_channels(x), correction=0)
    moments = all_gather(torch.stack([mean, variance]).unsqueeze(0))
    means, variances = moments[:, 0], moments[:, 1]
    mean = means.mean(dim=0)
    return mean, (variances + (means - mean).square()).mean(dim=0)


class _Normalise(torch.autograd.Function):
    """y = (x − μ)/√(σ² + ε)·γ + β with μ and σ² of all ranks' x (Ioffe and Szegedy 1502.03167, algorithm 1)."""

    @staticmethod
    def forward(  # noqa: PLR0917 - autograd functions take arguments by position
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, mean: Tensor, variance: Tensor, eps: float
    ) -> Tensor:
        ctx.save_for_backward(x, weight, mean, variance)
        ctx.eps, ctx.has_bias = eps, bias is not None
        return F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None, None]:
        x, weight, mean, variance = ctx.saved_tensors
        shape = (1, -1, *[1] * (x.ndim - 2))
        scale = (variance + ctx.eps).rsqrt()
        normal = ((x.float() - mean.view(shape)) * scale.view(shape)).to(grad.dtype)
        dims = _all_but_channels(x)
        sums = torch.stack([grad.float().sum(dims), (grad * normal).float().sum(dims)])
        grad_bias, grad_weight = sums.clone()
        dist.all_reduce(sums)
        mean_grad, mean_product = (sums / (x.numel() // x.shape[1] * world_size())).to(grad.dtype)
        factor = (weight * scale).to(grad.dtype).view(shape)
        grad_x = factor * (grad - mean_grad.view(shape) - normal * mean_product.view(shape))
        return grad_x, grad_weight, grad_bias if ctx.has_bias else None, None, None, None


def _all_but_channels(x: Tensor) -> list[int]:
    return [dimension for dimension in range(x.ndim) if dimension != 1]
