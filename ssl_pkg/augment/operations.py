"""Pixel operations on batches (n, 3, H, W) of float32 in [0, 1] with parameters per sample, for views on a GPU.

The results are those of torchvision.transforms.v2.functional on float tensors, which would need a loop over samples.
Functions whose names end in _ work in place.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

# Channel statistics of STL-10, for values in [0, 1].
MEAN = (0.4467, 0.4398, 0.4066)
STD = (0.2603, 0.2566, 0.2713)

LUMA = (0.2989, 0.587, 0.114)  # ITU-R BT.601, rounded as in torchvision
SMALLEST_CHROMA = 1e-12  # below it a pixel is grey and has no hue


def resized_crops(images: Tensor, boxes: Tensor, resolution: int) -> Tensor:
    """Crops each image and resizes the crop with antialiasing, by one matrix product along each axis.

    images: (n, 3, H, W) uint8; boxes: (n, 4), top, left, height and width in pixels. Returns (n, 3, resolution,
    resolution) uint8 in channels_last memory format. The result is rounded once, whereas Pillow rounds after each axis.
    """
    top, left, height, width = boxes.unbind(1)
    rows = _resampling_matrix(top, height, images.shape[2], resolution)
    columns = _resampling_matrix(left, width, images.shape[3], resolution)
    x = rows.unsqueeze(1) @ images.float() @ columns.unsqueeze(1).mT
    return x.round_().clamp_(0, 255).to(torch.uint8).contiguous(memory_format=torch.channels_last)


def _resampling_matrix(start: Tensor, length: Tensor, size: int, resolution: int) -> Tensor:
    """Weights (n, resolution, size) that resample [start, start + length), (n,) each, of an axis of `size` pixels.

    Bilinear with antialiasing, as in Pillow and torch's `interpolate(antialias=True)`: the filter is a triangle around
    the new pixel's centre that extends to either side by one pixel of the coarser grid. Weights outside the interval
    are 0, and the others sum to 1.
    """
    start, length = start.view(-1, 1, 1), length.view(-1, 1, 1)
    step = length / resolution
    pixels = torch.arange(0.5, size, device=start.device).view(1, 1, -1)
    centres = start + step * torch.arange(0.5, resolution, device=start.device).view(1, -1, 1)
    weights = (1 - (pixels - centres).abs() / step.clamp(min=1)).clamp_(min=0)
    weights *= (pixels > start) & (pixels < start + length)
    return weights / weights.sum(dim=2, keepdim=True)


def blur_kernel_size(side: int) -> int:
    """The odd number nearest to 10 % of the image's side, at least 3 (SimCLR, arXiv 2002.05709, appendix A)."""
    return max(3, 2 * (side // 20) + 1)


def gaussian_blur_(x: Tensor, sigma: Tensor, kernel_size: int) -> None:
    """Blurs x (n, 3, H, W) with a Gaussian of standard deviation `sigma` (n,) > 0 pixels, truncated; edges reflect.

    The blur sums shifted copies of the batch along each axis, because no library has a fast convolution with a separate
    kernel for each sample.
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
    """Multiplies x (n, 3, H, W) by `factor` (n,) >= 0 and clamps to [0, 1]."""
    x.mul_(factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def adjust_contrast_(x: Tensor, factor: Tensor) -> None:
    """Scales the difference of x (n, 3, H, W) from its mean luminance by `factor` (n,) >= 0 and clamps to [0, 1]."""
    factor = factor.view(-1, 1, 1, 1)
    mean = _luminance(x.mean(dim=(2, 3), keepdim=True))
    x.mul_(factor).add_(mean.mul_(1 - factor)).clamp_(0, 1)  # lerp_ with a weight per sample is 5 times slower


def adjust_saturation_(x: Tensor, factor: Tensor) -> None:
    """Scales each pixel's difference from its luminance by `factor` (n,) >= 0, x: (n, 3, H, W); clamps to [0, 1]."""
    torch.lerp(_luminance(x), x, factor.view(-1, 1, 1, 1), out=x).clamp_(0, 1)


def adjust_hue_(x: Tensor, turns: Tensor) -> None:
    """Shifts the hue of x (n, 3, H, W) by `turns` (n,) in [-.5, .5] and keeps value and saturation (HSV).

    With V and C the maximum and the range of a pixel's channels, its hue in sixths of a turn from red is
        H = sign(G - B) (2 + (G + B - R - V) / C),
    one expression without branches for all six sextants. In the other direction, a channel is V within one sixth of
    a turn from its own colour, V - C beyond two sixths, and linear in between.
    """
    red, green, blue = x.chunk(3, dim=1)
    high, low = x.amax(dim=1, keepdim=True), x.amin(dim=1, keepdim=True)
    chroma = high - low
    hue = (green + blue).sub_(red).sub_(high).div_(chroma.clamp(min=SMALLEST_CHROMA)).add_(2)
    hue.copysign_(green - blue).add_(6 * turns.view(-1, 1, 1, 1))
    hue.sub_(torch.div(hue, 6, out=high).round_(), alpha=6)  # into [-3, 3]
    # distance in sixths from the opposite of each channel's colour: the channel is V - C up to 1 and V from 2
    ramp = (hue - _constant((0.0, 2.0, -2.0), x.device)).abs_().sub_(3).abs_().clamp_(1, 2)
    torch.addcmul(low.sub_(chroma), ramp, chroma, out=x)


def grey_(x: Tensor) -> None:
    """Sets all three channels of x (n, 3, H, W) to the luminance."""
    x.copy_(_luminance(x))


def solarize_(x: Tensor) -> None:
    """Replaces values v of .5 or more in x (n, 3, H, W) by 1 - v; in [0, 1] that is the minimum of v and 1 - v."""
    torch.minimum(x, 1 - x, out=x)


def normalize_(x: Tensor) -> None:
    """Subtracts MEAN from the channels of x (n, 3, H, W) and divides by STD."""
    x.sub_(_constant(MEAN, x.device)).div_(_constant(STD, x.device))


def _constant(channels: tuple[float, float, float], device: torch.device) -> Tensor:
    """A constant (3, 1, 1), cached on the device, because copying it each time would synchronise with the host."""
    if torch.compiler.is_compiling():  # makes the constant a part of the kernel
        channel = torch.arange(3, device=device).view(3, 1, 1)
        return torch.where(channel == 0, channels[0], torch.where(channel == 1, channels[1], channels[2]))
    return _cached_constant(channels, device)


@lru_cache(maxsize=16)
def _cached_constant(channels: tuple[float, float, float], device: torch.device) -> Tensor:
    return torch.tensor(channels, device=device).view(3, 1, 1)


def _luminance(x: Tensor) -> Tensor:
    """Maps (n, 3, H, W) to (n, 1, H, W)."""
    red, green, blue = x.chunk(3, dim=1)
    return (red * LUMA[0]).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])
