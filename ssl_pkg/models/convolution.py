"""Convolutions on small feature maps on a CPU by im2col, because oneDNN is slow there in a ResNet at up to 96 px.

Milliseconds in bfloat16, first oneDNN's and then this file's. AMD: 256 images on one core of an AMD EPYC (Zen 4, no
AMX). Intel: 512 images on two cores of an Intel Xeon with AMX whose other cores were busy.

    kernels and map                 AMD: weight gradient    Intel: output    input gradient   weight gradient
    512 -> 512 on 3x3 (96 px)       70, 58                  58, 35           54, 37           268, 40
    512 -> 512 on 2x2 (64 px)       42, 26                  35, 8            36, 8            132, 9
    256 -> 512, stride 2, to 3x3    65, 29                  48, 18           49, 23           186, 21
    256 -> 512, stride 2, to 2x2    35, 12                  15, 4            19, 5            67, 5
    128 -> 256, stride 2, to 4x4                            11, 9            26, 11           55, 8
    256 -> 512, 1x1, stride 2, to 3x3                       3, 1             6, 1             13, 2
    256 -> 256 on 6x6                                       36, 45           35, 58           142, 46
    128 -> 128 on 12x12                                     8, 28            9, 93            25, 43

Where the output is a single position (32 px), only the taps of the kernel that lie on the map are computed. For output
and both gradients of 128 images, one core of the AMD EPYC took 11.4 ms without this and 1.7 ms with it for 512 -> 512
on 1x1, and 9.4 and 2.9 ms for 256 -> 512, stride 2.

On larger maps im2col costs more than it saves. `make bench-ablation` measures the effect on a whole training step.
"""

from enum import Enum, auto
from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Im2col(Enum):
    """Which of a convolution's computations (output, input gradient, weight gradient) use im2col."""

    NONE = auto()
    WEIGHT_GRADIENT = auto()
    ALL = auto()


class SmallMapConv2d(nn.Conv2d):
    """A Conv2d with the same state dict and the same results up to rounding that uses im2col where that is faster.

    Only for square kernels, strides and zero padding, without groups, dilation and bias, as in a ResNet.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002 - torch's name
        x, stride, padding = input, self.stride[0], int(self.padding[0])
        side = (input.shape[2] + 2 * padding - weight.shape[2]) // stride + 1
        applicable = input.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        if applicable and side == 1 and x.shape[2] == x.shape[3] and padding < weight.shape[2]:
            return cast(Tensor, _SinglePosition.apply(x.to(_dtype(weight)), weight, padding))
        dtype = _dtype(weight)
        im2col = _fastest(side, stride, dtype) if applicable else Im2col.NONE
        if im2col is Im2col.NONE:
            return cast(Tensor, super()._conv_forward(input, weight, bias))
        x, weight = x.to(dtype), weight.to(dtype)
        return cast(Tensor, _Convolution.apply(x, weight, (stride, padding), im2col is Im2col.ALL))


def use_small_map_convolutions(network: nn.Module) -> None:
    """Turns each suitable convolution of `network` into a SmallMapConv2d. Weights and their names don't change."""
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_plain(module):
            module.__class__ = SmallMapConv2d


def _is_plain(module: nn.Conv2d) -> bool:
    square = all(len(set(pair)) == 1 for pair in (module.kernel_size, module.stride, module.padding))
    plain = module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
    return square and plain and module.bias is None and not isinstance(module.padding, str)


def _fastest(side: int, stride: int, dtype: torch.dtype) -> Im2col:
    """The fastest variant for an output map with this side in pixels, as measured on ResNet-18 at 32 to 96 px."""
    amx = _has_amx() and dtype == torch.bfloat16
    if amx and side <= (4 if stride == 2 else 3):
        return Im2col.ALL
    return Im2col.WEIGHT_GRADIENT if side <= (6 if amx or stride == 2 else 3) else Im2col.NONE


@lru_cache
def _has_amx() -> bool:
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def _dtype(weight: Tensor) -> torch.dtype:
    """The dtype in which a convolution with `weight` computes."""
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype


class _SinglePosition(torch.autograd.Function):
    """A convolution whose output is 1x1, computed from the taps of the kernel that lie on the map, not on its padding.

    On a map of 1x1, this is one of the nine taps of a 3x3 kernel. The taps are cut from the weight before they are
    cast, because casting all of a weight of 512x512x3x3 takes longer than the product.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, padding: int) -> Tensor:
        size = min(x.shape[2], weight.shape[2] - padding)
        taps = weight[:, :, padding : padding + size, padding : padding + size].to(x.dtype)
        matrix, patch = _matrix(taps), _matrix(x[:, :, :size, :size])
        ctx.save_for_backward(weight, matrix, patch)
        ctx.map, ctx.padding, ctx.size = x.shape, padding, size
        return (patch @ matrix.T)[:, :, None, None]

    @staticmethod
    @torch.autograd.function.once_differentiable  # `matrix` and `patch` have no gradient
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (weight, matrix, patch), padding, size = ctx.saved_tensors, ctx.padding, ctx.size
        rows, grad_x, grad_weight = grad.flatten(1), None, None
        if ctx.needs_input_grad[0]:
            grad_x = grad.new_zeros(ctx.map).contiguous(memory_format=torch.channels_last)
            grad_x[:, :, :size, :size] = (rows @ matrix).view(len(rows), size, size, -1).permute(0, 3, 1, 2)
        if ctx.needs_input_grad[1]:
            grad_weight = torch.zeros_like(weight)
            taps = grad_weight[:, :, padding : padding + size, padding : padding + size]
            taps.copy_((rows.T @ patch).view(len(weight), size, size, -1).permute(0, 3, 1, 2))
        return grad_x, grad_weight, None


class _Convolution(torch.autograd.Function):
    """y = im2col(x) Wᵀ, its two gradients likewise if `all_parts`, else only dL/dW = (dL/dy)ᵀ im2col(x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: tuple[int, int], all_parts: bool) -> Tensor:
        stride, padding = geometry
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.all_parts = geometry, all_parts
        if not all_parts:
            return F.conv2d(x, weight, stride=stride, padding=padding)
        columns = _im2col(x, weight.shape[2], stride, padding)
        product = columns.flatten(0, 2).flatten(1) @ _matrix(weight).T
        return product.view(*columns.shape[:3], -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (x, weight), (stride, padding) = ctx.saved_tensors, ctx.geometry
        outputs, inputs, kernel, _ = weight.shape
        rows = grad.permute(0, 2, 3, 1).reshape(-1, outputs)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0] and ctx.all_parts:
            columns = (rows @ _matrix(weight)).view(len(x), *grad.shape[2:], kernel, kernel, inputs)
            grad_x = _col2im(columns, x.shape, stride, padding)
        elif ctx.needs_input_grad[0]:
            strides, paddings = [stride] * 2, [padding] * 2
            grad_x, _, _ = torch.ops.aten.convolution_backward(
                grad, x, weight, None, strides, paddings, [1, 1], False, [0, 0], 1, [True, False, False]
            )
        if ctx.needs_input_grad[1]:
            columns = _im2col(x, kernel, stride, padding).flatten(0, 2).flatten(1)
            grad_weight = (rows.T @ columns).view(outputs, kernel, kernel, inputs).permute(0, 3, 1, 2)
        return grad_x, grad_weight, None, None


def _matrix(weight: Tensor) -> Tensor:
    """Reshapes (O, I, k, k) to (O, k k I), a view if the tensor is in channels_last memory format."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def _im2col(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """The patch under the kernel at each output position, a view of padded x: (N, C, H, W) to (N, h, w, k, k, C)."""
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    return padded.unfold(1, kernel, stride).unfold(2, kernel, stride).permute(0, 1, 2, 4, 5, 3)


def _col2im(columns: Tensor, shape: torch.Size, stride: int, padding: int) -> Tensor:
    """The transpose of `_im2col`: adds up patches (N, h, w, k, k, C) at their positions in a map of `shape`."""
    count, channels, height, width = shape
    _, rows, cols, kernel, _, _ = columns.shape
    padded = columns.new_zeros(count, height + 2 * padding, width + 2 * padding, channels)
    for i in range(kernel):
        for j in range(kernel):
            padded[:, i : i + stride * rows : stride, j : j + stride * cols : stride] += columns[:, :, :, i, j]
    return padded[:, padding : padding + height, padding : padding + width].permute(0, 3, 1, 2)
