"""Batch normalisation of groups: what several GPUs with a part of the batch each would do, on one."""

from typing import Any, cast

import torch
from torch import Tensor, nn


def split_batch_norm(network: nn.Module, groups: int) -> None:
    """Has every BatchNorm2d in `network` take statistics of its own for each of `groups` equal parts of its batch.

    Names and shapes of its state stay. The running statistics follow the groups one after the other.
    """
    for module in network.modules() if groups > 1 else ():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = SplitBatchNorm2d
            cast(Any, module).groups = groups


class SplitBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d, name for name, that in training normalises `groups` parts of the batch apart."""

    groups: int

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch names it
        """(N, C, H, W) to the same shape. Raises ValueError in training if N is no multiple of `groups`."""
        if not self.training:
            return super().forward(input)
        if len(input) % self.groups:
            raise ValueError(f"{len(input)} samples can't be split into {self.groups} equal groups")
        if torch.compiler.is_compiling():  # into one pass over all groups, where torch's own would be one for each
            return self.in_one_pass(input)
        return torch.cat([super(SplitBatchNorm2d, self).forward(group) for group in input.chunk(self.groups)])

    def in_one_pass(self, x: Tensor) -> Tensor:
        """The same from the definition (Ioffe and Szegedy 1502.03167, algorithm 1)."""
        grouped = x.reshape(self.groups, -1, *x.shape[1:]).to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(grouped, dim=(1, 3, 4), correction=0, keepdim=True)
        y = ((grouped - mean) * (variance + self.eps).rsqrt()).flatten(0, 1)
        self._follow(mean.flatten(1), variance.flatten(1), x.numel() // x.shape[1] // self.groups)
        y = y * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return y.to(x.dtype)

    @torch.no_grad()
    def _follow(self, means: Tensor, variances: Tensor, count: int) -> None:
        """Moves the running statistics by each group's (G, C), of `count` values a channel."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        momentum = self.momentum or 0.0
        kept = (1 - momentum) ** self.groups
        later = torch.arange(self.groups - 1, -1, -1, device=means.device).unsqueeze(1)  # how many groups follow
        shares = momentum * (1 - momentum) ** later
        self.num_batches_tracked.add_(self.groups)
        self.running_mean.mul_(kept).add_((shares * means).sum(0))
        self.running_var.mul_(kept).add_((shares * variances).sum(0) * (count / (count - 1)))
