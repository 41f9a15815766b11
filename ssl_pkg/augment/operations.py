"""Pixel operations on batches (n, 3, H, W) of float32 in [0, 1], each sample with its own parameters: views on a GPU.

They compute what torchvision.transforms.v2.functional computes on float tensors, without its loop over samples. What
ends in _ works in place.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

# STL-10's own statistics, of channels in [0, 1].
MEAN = (0.4467, 0.4398, 0.4066)
STD = (0.2603, 0.2566, 0.2713)

LUMA = (0.2989, 0.587, 0.114)  # of ITU-R BT.601, as torchvision rounds it
SMALLEST_CHROMA = 1e-12  # below it a pixel is grey, and its hue doesn't matter


def resized_crops(images: Tensor, boxes: Tensor, resolution: int) -> Tensor:
    """A crop of each image, resized to resolution x resolution with antialiasing, as a product along each axis.

    images: (n, 3, H, W) uint8; boxes: (n, 4), top, left, height and width in pixels. Returns (n, 3, resolution,
    resolution) uint8 in channels_last memory format. Rounded once, where Pillow rounds after each axis.
    """
    top, left, height, width = boxes.unbind(1)
    rows = _resampling_matrix(top, height, images.shape[2], resolution)
    columns = _resampling_matrix(left, width, images.shape[3], resolution)
    x = rows.unsqueeze(1) @ images.float() @ columns.unsqueeze(1).mT
    return x.round_().clamp_(0, 255).to(torch.uint8).contiguous(memory_format=torch.channels_last)


def _resampling_matrix(start: Tensor, length: Tensor, size: int, resolution: int) -> Tensor:
    """Weights (n, resolution, size) that resample the part [start, start + length) (n,) of an axis of `size` pixels.

    Bilinear with antialiasing, as Pillow and torch's `interpolate(antialias=True)` do it: a triangle around each new
    pixel's centre, one pixel of the coarser grid to either side, cut off at the part's ends and scaled to sum 1.
    """
    start, length = start.view(-1, 1, 1), length.view(-1, 1, 1)
    step = length / resolution
    pixels = torch.arange(0.5, size, device=start.device).view(1, 1, -1)
    centres = start + step * torch.arange(0.5, resolution, device=start.device).view(1, -1, 1)
    weights = (1 - (pixels - centres).abs() / step.clamp(min=1)).clamp_(min=0)
    weights *= (pixels > start) & (pixels < start + length)
    return weights / weights.sum(dim=2, keepdim=True)


def blur_kernel_size(side: int) -> int:
    """The odd number nearest to 10 % of the side, at least 3 (SimCLR, arXiv 2002.05709, appendix A)."""
    return max(3, 2 * (side // 20) + 1)


def gaussian_blur_(x: Tensor, sigma: Tensor, kernel_size: int) -> None:
    """Blurs x (n, 3, H, W) with a Gaussian of standard deviation `sigma` (n,) > 0, cut to the kernel; edges reflect.

    Along each axis, the sum of the image moved by every offset: each sample has its own weights, for which no library
    has a fast convolution.
    """
    radius = kernel_size // 2
    offsets = torch.arange(radius + 1, device=x.device, dtype=x.dtype)
    weights = (offsets / sigma.unsqueeze(1)).square_().mul_(-0.5).exp_()  # (n, 1 + radius), from the centre outwards
    weights /= 2 * weights.sum(dim=1, keepdim=True) - weights[:, :1]
    weights = weights.T.reshape(radius + 1, -1, 1, 1, 1)
    for axis, padding in ((3, (radius, radius, 0, 0)), (2, (0, 0, radius, radius))):
        padded, size = F.pad(x, padding, mode="reflect"), x.shape[axis]
        torch.mul(padded.narrow(axis, radius, size), weights[0], out=x)
        for offset in range(1, radius + 1):
            pair = padded.narrow(axis, radius - offset, size) + padded.narrow(axis, radius + offset, size)
            x.addcmul_(pair, weights[offset])


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
    hue = (green + blue).sub_(red).sub_(high).div_(chroma.clamp(min=SMALLEST_CHROMA)).add_(2)
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


def _constant(channels: tuple[float, float, float], device: torch.device) -> Tensor:
    """(3, 1, 1), kept on the device: copying it there each time would make the host wait."""
    if torch.compiler.is_compiling():  # a part of the kernel
        channel = torch.arange(3, device=device).view(3, 1, 1)
        return torch.where(channel == 0, channels[0], torch.where(channel == 1, channels[1], channels[2]))
    return _kept(channels, device)


@lru_cache(maxsize=16)
def _kept(channels: tuple[float, float, float], device: torch.device) -> Tensor:
    return torch.tensor(channels, device=device).view(3, 1, 1)


def _luminance(x: Tensor) -> Tensor:
    """(n, 3, H, W) to (n, 1, H, W)."""
    red, green, blue = x.chunk(3, dim=1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])
