"""A ResNet stem with the max-pool before the ReLU, so that the ReLU processes a quarter of the map.

Values and gradients don't change: both functions are monotone, so max(relu(x)) = relu(max(x)), and a window without a
positive value has no gradient in either order. For the backward pass, torch keeps the pool's whole input, which is the
network's largest map, and the indices of the maxima in eight bytes each. The pool here keeps only the indices, in two
bytes each if the map has at most 32,767 elements.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class MaxPoolReLU(nn.MaxPool2d):
    """Max-pooling followed by a ReLU. Only for square windows without dilation, as in a ResNet.

    On a CPU there is no second derivative.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        """Maps (N, C, H, W) to (N, C, h, w)."""
        window = cast(tuple[int, int, int], (self.kernel_size, self.stride, self.padding))
        if input.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return F.relu_(cast(Tensor, _MaxPool.apply(input, window)))
        return F.relu_(F.max_pool2d(input, *window))


def pool_before_relu(resnet: nn.Module) -> None:
    """Moves the first ReLU of torchvision's `resnet` behind its max-pool. The state dict doesn't change."""
    resnet.relu = nn.Identity()
    resnet.maxpool.__class__ = MaxPoolReLU


class _MaxPool(torch.autograd.Function):
    """max_pool2d that saves only the indices of the maxima for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: tuple[int, int, int]) -> Tensor:
        y, indices = F.max_pool2d(x, *window, return_indices=True)
        small = torch.int16 if x.shape[2] * x.shape[3] <= torch.iinfo(torch.int16).max else torch.int32
        ctx.save_for_backward(indices.to(small))
        ctx.shape, ctx.window = x.shape, window
        is_last = x.is_contiguous(memory_format=torch.channels_last)
        ctx.format = torch.channels_last if is_last else torch.contiguous_format
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (indices,) = ctx.saved_tensors
        kernel, stride, padding = ([size] * 2 for size in ctx.window)
        # torch's function reads only the shape, dtype and memory format of the input, not its values
        grad_x = torch.empty(ctx.shape, dtype=grad.dtype, memory_format=ctx.format)
        torch.ops.aten.max_pool2d_with_indices_backward.grad_input(
            grad, grad_x, kernel, stride, padding, [1, 1], False, indices.long(), grad_input=grad_x
        )
        return grad_x, None
