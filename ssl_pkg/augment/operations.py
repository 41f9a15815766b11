"""Pixel operations on batches (n, 3, H, W) of float32 in [0, 1], each sample with its own parameters.

They compute what torchvision.transforms.v2.functional computes on float tensors, without its loop over samples. What
ends in _ works in place: on a CPU the time goes into moving memory, and a few samples stay in its second-level cache.
"""

from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

# STL-10's own statistics, of channels in [0, 1].
MEAN = (0.4467, 0.4398, 0.4066)
STD = (0.2603, 0.2566, 0.2713)

_LUMA = (0.2989, 0.587, 0.114)  # of ITU-R BT.601, as torchvision rounds it
_BLOCK = 32  # pixels of a view that a blur's product makes at a time: saves 58 % of its multiplications at 96 px
_SMALLEST_CHROMA = 1e-12  # below it a pixel is grey, and its hue doesn't matter


def resampling_matrix(start: Tensor, length: Tensor, size: int, resolution: int) -> Tensor:
    """Weights (n, resolution, size) that resample the part [start, start + length) (n,) of an axis of `size` pixels.

    Bilinear with antialiasing, as Pillow and torch's `interpolate(antialias=True)` do it: a triangle around each new
    pixel's centre, one pixel of the coarser grid to either side, cut off at the part's ends and scaled to sum 1.
    A negative length reads the axis backwards from `start`: a flip.
    """
    start, length = start.view(-1, 1, 1), length.view(-1, 1, 1)
    step = length / resolution
    support = step.abs().clamp_(min=1)
    pixels = _centres(size, start.device)
    # a pixel outside is infinitely far: to say so takes one row of pixels, where a mask would take the whole matrix
    inside = (pixels - (start + length / 2)).abs_() < length.abs() / 2
    pixels = torch.where(inside, pixels / support, torch.inf)
    centres = (start + step * _centres(resolution, start.device).mT) / support
    weights = (pixels - centres).abs_().sub_(1).clamp_(max=0)  # their negative, which the division takes away
    return weights.div_(weights.sum(dim=2, keepdim=True))


def _centres(size: int, device: torch.device) -> Tensor:
    """The positions (1, 1, size) of the centres of pixels."""
    return torch.arange(0.5, size, device=device).view(1, 1, -1)


def separable(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Applies `rows` (n, R, H) to the columns and `columns` (n, S, W) to the rows of x (n, 3, H, W): (n, 3, R, S).

    Two batched matrix products, the first along the axis that x has innermost in memory: there a sample's channels
    are one matrix. Where TF32 is allowed the weights have 11 bits, which moves a pixel by a tenth of an 8-bit step.
    """
    samples, channels, height, width = x.shape
    if x.is_contiguous():
        x = (x.flatten(1, 2) @ columns.mT).view(samples, channels, height, -1)
        return rows.unsqueeze(1) @ x
    x = (x.mT.flatten(1, 2) @ rows.mT).view(samples, channels, width, -1)
    return x.mT @ columns.unsqueeze(1).mT


def blur_kernel_size(side: int) -> int:
    """The odd number nearest to 10 % of the side, at least 3 (SimCLR, arXiv 2002.05709, appendix A)."""
    return max(3, 2 * (side // 20) + 1)


def gaussian_blur_(x: Tensor, sigma: Tensor, kernel_size: int) -> None:
    """Blurs x (n, 3, H, W) with a Gaussian of standard deviation `sigma` (n,) > 0, cut to the kernel; edges reflect."""
    radius = kernel_size // 2
    offsets = torch.arange(radius + 1, device=x.device, dtype=x.dtype)
    tail = (offsets / sigma.unsqueeze(1)).square_().mul_(-0.5).exp_()  # (n, 1 + radius), from the centre outwards
    tail /= 2 * tail.sum(dim=1, keepdim=True) - tail[:, :1]
    height, width = x.shape[2:]
    rows = (tail @ _reflected_bands(height, kernel_size, x.device)).view(-1, 1, height, height)
    columns = rows
    if width != height:
        columns = (tail @ _reflected_bands(width, kernel_size, x.device)).view(-1, 1, width, width)
    y = torch.empty_like(x)
    for block, window in _blocks(width, radius):
        y[..., block] = x[..., window] @ columns[..., block, window].mT
    for block, window in _blocks(height, radius):
        x[..., block, :] = rows[..., block, window] @ y[..., window, :]


def _blocks(size: int, radius: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of an axis with the window of pixels that each draws on: a blur's matrix is zero outside of them."""
    for first in range(0, size, _BLOCK):
        last = min(first + _BLOCK, size)
        yield slice(first, last), slice(max(first - radius, 0), min(last + radius, size))


@lru_cache(maxsize=8)
def _reflected_bands(size: int, kernel_size: int, device: torch.device) -> Tensor:
    """For each offset d the flattened matrix (size, size) that adds the pixels at distance d, reflected at the edges.

    A blur's matrix is the sum of these (1 + radius, size * size), weighted by the kernel.
    """
    radius = kernel_size // 2
    bands = torch.zeros(radius + 1, size, size)
    last = size - 1
    for pixel in range(size):
        for offset in range(-radius, radius + 1):
            neighbour = last - abs(last - abs(pixel + offset))
            bands[abs(offset), pixel, neighbour] += 1
    return bands.view(radius + 1, -1).to(device)


def adjust_brightness_(x: Tensor, factor: Tensor) -> None:
    """Multiplies x (n, 3, H, W) by `factor` (n,) >= 0 and clamps."""
    x.mul_(factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def adjust_contrast_(x: Tensor, factor: Tensor) -> None:
    """Moves x (n, 3, H, W) away from the mean of its luminance by `factor` (n,) >= 0 and clamps."""
    factor = factor.view(-1, 1, 1, 1)
    mean = _luminance(x.mean(dim=(2, 3), keepdim=True))
    x.mul_(factor).add_(mean.mul_(1 - factor)).clamp_(0, 1)  # lerp_ with one number a sample is 5 times slower


def adjust_saturation_(x: Tensor, factor: Tensor) -> None:
    """Moves x (n, 3, H, W) away from each pixel's luminance by `factor` (n,) >= 0 and clamps."""
    torch.lerp(_luminance(x), x, factor.view(-1, 1, 1, 1), out=x).clamp_(0, 1)


def adjust_hue_(x: Tensor, turns: Tensor) -> None:
    """Turns the hue of x (n, 3, H, W) by `turns` (n,) in [-.5, .5]; value and saturation stay (HSV).

    With V and C a pixel's maximum and range, its hue in sixths of a turn from red is
        H = sign(G - B) (2 + (G + B - R - V) / C),
    one expression for all six sextants, so that no pixel has to choose a branch. Backwards, a channel is V within
    one sixth of its own colour, V - C beyond two sixths, and linear in between.
    """
    red, green, blue = x.chunk(3, dim=1)
    high, low = x.amax(dim=1, keepdim=True), x.amin(dim=1, keepdim=True)
    chroma = high - low
    hue = (green + blue).sub_(red).sub_(high).div_(chroma.clamp(min=_SMALLEST_CHROMA)).add_(2)
    hue.copysign_(green - blue).add_(6 * turns.view(-1, 1, 1, 1))
    hue.sub_(torch.div(hue, 6, out=high).round_(), alpha=6)  # into [-3, 3]
    # the distance from each channel's opposite colour, folded once: V - C up to 1, V from 2 on
    ramp = (hue - _constant((0.0, 2.0, -2.0), x.device)).abs_().sub_(3).abs_().clamp_(1, 2)
    torch.addcmul(low.sub_(chroma), ramp, chroma, out=x)


def grey_(x: Tensor) -> None:
    """Gives all three channels of x (n, 3, H, W) the luminance."""
    x.copy_(_luminance(x))


def solarize_(x: Tensor) -> None:
    """Inverts what is .5 or brighter in x (n, 3, H, W): in [0, 1] that is the smaller of x and 1 - x."""
    torch.minimum(x, 1 - x, out=x)


def normalize_(x: Tensor) -> None:
    """Subtracts MEAN from the channels of x (n, 3, H, W) and divides by STD."""
    x.sub_(_constant(MEAN, x.device)).div_(_constant(STD, x.device))


@lru_cache(maxsize=16)
def _constant(channels: tuple[float, float, float], device: torch.device) -> Tensor:
    """(3, 1, 1), kept on the device: copying it there each time would make the host wait."""
    return torch.tensor(channels, device=device).view(3, 1, 1)


def _luminance(x: Tensor) -> Tensor:
    """(n, 3, H, W) to (n, 1, H, W)."""
    red, green, blue = x.chunk(3, dim=1)
    return (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2])
