"""Convolutions on small maps, on a CPU, as patches times a matrix: what oneDNN is slow at in a ResNet at up to 96 px.

Milliseconds in bfloat16, oneDNN's and this file's: on one core of an AMD EPYC (Zen 4, no AMX) for 256 images, on two of
an Intel Xeon with AMX, its other cores busy, for 512:

    kernels and map                 AMD: weight gradient    Intel: output    input gradient   weight gradient
    512 -> 512 on 3x3 (96 px)       70, 58                  58, 35           54, 37           268, 40
    512 -> 512 on 2x2 (64 px)       42, 26                  35, 8            36, 8            132, 9
    512 -> 512 on 1x1 (32 px)       12, 4 (128 images)
    256 -> 512, stride 2, to 3x3    65, 29                  48, 18           49, 23           186, 21
    256 -> 512, stride 2, to 2x2    35, 12                  15, 4            19, 5            67, 5
    128 -> 256, stride 2, to 4x4                            11, 9            26, 11           55, 8
    256 -> 512, 1x1, stride 2, to 3x3                       3, 1             6, 1             13, 2
    256 -> 256 on 6x6                                       36, 45           35, 58           142, 46
    128 -> 128 on 12x12                                     8, 28            9, 93            25, 43

On larger maps the patches cost more than they save. `make bench-ablation` measures what it gives to a whole step.
"""

from enum import Enum, auto
from functools import lru_cache
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Products(Enum):
    """Which of a convolution's three computations (output, input gradient, weight gradient) are matrix products."""

    NONE = auto()
    WEIGHT_GRADIENT = auto()
    ALL = auto()


class SmallMapConv2d(nn.Conv2d):
    """torch's Conv2d, name for name, and the same function up to rounding; see the file's head.

    For square kernels without groups, dilation and bias on square maps padded by zeros, as a ResNet has them.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: A002 - torch names it
        x, stride, padding = input, self.stride[0], int(self.padding[0])
        side = (input.shape[2] + 2 * padding - weight.shape[2]) // stride + 1
        here = input.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling()
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else weight.dtype
        faster = _faster_as_products(side, stride, dtype) if here else Products.NONE
        if faster is Products.NONE:
            return cast(Tensor, super()._conv_forward(input, weight, bias))
        x, weight = x.to(dtype), weight.to(dtype)
        return cast(Tensor, _Convolution.apply(x, weight, (stride, padding), faster is Products.ALL))


def use_small_map_convolutions(network: nn.Module) -> None:
    """Makes each such convolution of `network` a SmallMapConv2d. No weight is drawn anew, no name changes."""
    for module in network.modules():
        if type(module) is nn.Conv2d and _is_plain(module):
            module.__class__ = SmallMapConv2d


def _is_plain(module: nn.Conv2d) -> bool:
    square = all(len(set(pair)) == 1 for pair in (module.kernel_size, module.stride, module.padding))
    plain = module.groups == 1 and module.dilation == (1, 1) and module.padding_mode == "zeros"
    return square and plain and module.bias is None and not isinstance(module.padding, str)


def _faster_as_products(side: int, stride: int, dtype: torch.dtype) -> Products:
    """Measured on the shapes of ResNet-18 at 32 to 96 px, by the side of the output's map."""
    amx = _has_amx() and dtype == torch.bfloat16
    if amx and side <= (4 if stride == 2 else 3):
        return Products.ALL
    return Products.WEIGHT_GRADIENT if side <= (6 if amx or stride == 2 else 3) else Products.NONE


@lru_cache
def _has_amx() -> bool:
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


class _Convolution(torch.autograd.Function):
    """y = patches(x) Wᵀ, with everything as products, or only dL/dW = (dL/dy)ᵀ patches(x)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, geometry: tuple[int, int], everything: bool) -> Tensor:
        stride, padding = geometry
        ctx.save_for_backward(x, weight)
        ctx.geometry, ctx.everything = geometry, everything
        if not everything:
            return F.conv2d(x, weight, stride=stride, padding=padding)
        columns = _patches(x, weight.shape[2], stride, padding)
        product = columns.flatten(0, 2).flatten(1) @ _matrix(weight).T
        return product.view(*columns.shape[:3], -1).permute(0, 3, 1, 2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (x, weight), (stride, padding) = ctx.saved_tensors, ctx.geometry
        outputs, inputs, kernel, _ = weight.shape
        rows = grad.permute(0, 2, 3, 1).reshape(-1, outputs)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0] and ctx.everything:
            columns = (rows @ _matrix(weight)).view(len(x), *grad.shape[2:], kernel, kernel, inputs)
            grad_x = _add_patches(columns, x.shape, stride, padding)
        elif ctx.needs_input_grad[0]:
            strides, paddings = [stride] * 2, [padding] * 2
            grad_x, _, _ = torch.ops.aten.convolution_backward(
                grad, x, weight, None, strides, paddings, [1, 1], False, [0, 0], 1, [True, False, False]
            )
        if ctx.needs_input_grad[1]:
            columns = _patches(x, kernel, stride, padding).flatten(0, 2).flatten(1)
            grad_weight = (rows.T @ columns).view(outputs, kernel, kernel, inputs).permute(0, 3, 1, 2)
        return grad_x, grad_weight, None, None


def _matrix(weight: Tensor) -> Tensor:
    """(O, I, k, k) to (O, k k I), which in channels_last memory is a view."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def _patches(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """What the kernel sees at each place of the output's map: (N, h, w, k, k, C) of x (N, C, H, W), without a copy."""
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, padding))
    return padded.unfold(1, kernel, stride).unfold(2, kernel, stride).permute(0, 1, 2, 4, 5, 3)


def _add_patches(columns: Tensor, shape: torch.Size, stride: int, padding: int) -> Tensor:
    """The transpose of `_patches`: (N, h, w, k, k, C) added up where they came from, (N, C, H, W) of this shape."""
    count, channels, height, width = shape
    _, rows, places, kernel, _, _ = columns.shape
    padded = columns.new_zeros(count, height + 2 * padding, width + 2 * padding, channels)
    for i in range(kernel):
        for j in range(kernel):
            padded[:, i : i + stride * rows : stride, j : j + stride * places : stride] += columns[:, :, :, i, j]
    return padded[:, padding : padding + height, padding : padding + width].permute(0, 3, 1, 2)
