"""A ResNet's stem with its max-pool before the ReLU: the same numbers, and the ReLU has a quarter of the map to do.

Both are monotone, so max(relu(x)) = relu(max(x)), and a window without a positive number has no gradient either way.
For the gradient torch keeps the pool's whole input, which is the network's largest map, and the places of the maxima in
eight bytes each; here the pool keeps the places alone, in two bytes where a map has no more than 32,767 of them.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class MaxPoolReLU(nn.MaxPool2d):
    """The ReLU of torch's MaxPool2d. Only for square windows without dilation, as a ResNet has them.

    On a CPU it can be differentiated once.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch names it
        """(N, C, H, W) to (N, C, h, w)."""
        window = cast(tuple[int, int, int], (self.kernel_size, self.stride, self.padding))
        if input.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling():
            return F.relu_(cast(Tensor, _MaxPool.apply(input, window)))
        return F.relu_(F.max_pool2d(input, *window))


def pool_before_relu(resnet: nn.Module) -> None:
    """Has `resnet`, torchvision's, apply its first ReLU after its max-pool. No name of its state changes."""
    resnet.relu = nn.Identity()
    resnet.maxpool.__class__ = MaxPoolReLU


class _MaxPool(torch.autograd.Function):
    """max_pool2d that keeps nothing but the places of the maxima."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, window: tuple[int, int, int]) -> Tensor:
        y, places = F.max_pool2d(x, *window, return_indices=True)
        small = torch.int16 if x.shape[2] * x.shape[3] <= torch.iinfo(torch.int16).max else torch.int32
        ctx.save_for_backward(places.to(small))
        ctx.shape, ctx.window = x.shape, window
        is_last = x.is_contiguous(memory_format=torch.channels_last)
        ctx.format = torch.channels_last if is_last else torch.contiguous_format
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (places,) = ctx.saved_tensors
        kernel, stride, padding = ([size] * 2 for size in ctx.window)
        # of the input, torch's function looks at shape, format and order in memory, and at no number
        grad_x = torch.empty(ctx.shape, dtype=grad.dtype, memory_format=ctx.format)
        torch.ops.aten.max_pool2d_with_indices_backward.grad_input(
            grad, grad_x, kernel, stride, padding, [1, 1], False, places.long(), grad_input=grad_x
        )
        return grad_x, None
