"""Batch normalisation with statistics per group of the batch, which simulates several GPUs on one device."""

from typing import Any, cast

import torch
from torch import Tensor, nn


def split_batch_norm(network: nn.Module, groups: int) -> None:
    """Makes every BatchNorm2d in `network` compute separate statistics for `groups` equal parts of the batch.

    The names and shapes in the state dict don't change. Each group updates the running statistics, in order.
    """
    for module in network.modules() if groups > 1 else ():
        if isinstance(module, nn.BatchNorm2d):
            module.__class__ = SplitBatchNorm2d
            cast(Any, module).groups = groups


class SplitBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm2d with the same state dict that normalises `groups` parts of the batch separately in training."""

    groups: int

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Normalises (N, C, H, W). Raises ValueError in training if N is not a multiple of `groups`."""
        if not self.training:
            return super().forward(input)
        if len(input) % self.groups:
            raise ValueError(f"{len(input)} samples can't be split into {self.groups} equal groups")
        if torch.compiler.is_compiling():  # into one kernel for all groups instead of one per group
            return self.in_one_pass(input)
        return torch.cat([super(SplitBatchNorm2d, self).forward(group) for group in input.chunk(self.groups)])

    def in_one_pass(self, x: Tensor) -> Tensor:
        """`forward` in training, computed for all groups at once (Ioffe and Szegedy 1502.03167, algorithm 1)."""
        grouped = x.reshape(self.groups, -1, *x.shape[1:]).to(torch.promote_types(x.dtype, torch.float32))
        variance, mean = torch.var_mean(grouped, dim=(1, 3, 4), correction=0, keepdim=True)
        y = ((grouped - mean) * (variance + self.eps).rsqrt()).flatten(0, 1)
        self._update_running_stats(mean.flatten(1), variance.flatten(1), x.numel() // x.shape[1] // self.groups)
        y = y * self.weight.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)
        return y.to(x.dtype)

    @torch.no_grad()
    def _update_running_stats(self, means: Tensor, variances: Tensor, count: int) -> None:
        """Updates the running statistics by those of all G groups, (G, C), in order; `count` values per channel."""
        assert self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None
        momentum = self.momentum or 0.0
        kept = (1 - momentum) ** self.groups
        # Group g is followed by G - 1 - g groups, whose updates each decay its contribution.
        later = torch.arange(self.groups - 1, -1, -1, device=means.device).unsqueeze(1)
        weights = momentum * (1 - momentum) ** later
        self.num_batches_tracked.add_(self.groups)
        self.running_mean.mul_(kept).add_((weights * means).sum(0))
        self.running_var.mul_(kept).add_((weights * variances).sum(0) * (count / (count - 1)))
