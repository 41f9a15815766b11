"""The random parameters of views, sampled on the host as a pure function of (seed, epoch, sample index, view number).

There is no generator state, so a view depends neither on the batch of its sample nor on the number of workers, ranks or
restarts. Sampling takes one microsecond per view in batches of 256.
"""

import math
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import numpy.typing as npt

from ssl_pkg.config.fields import Jitter
from ssl_pkg.config.schema import View

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
_Words = npt.NDArray[np.uint64]

# SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014; the mixer is
# Stafford's variant 13.
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))

# The four operations of colour jitter, numbered as in torchvision, and their 24 possible orders.
BRIGHTNESS, CONTRAST, SATURATION, HUE = range(4)
_ORDERS = np.array(list(permutations(range(4))), dtype=np.int64)

# RandomResizedCrop's attempts and aspect ratios are torchvision's defaults; the blur's sigma is SimCLR's.
_ATTEMPTS = 10
_RATIO = (3 / 4, 4 / 3)
_SIGMA = (0.1, 2.0)


@dataclass(frozen=True, eq=False)
class Parameters:
    """The parameters of B views, as arrays (B,). An operation that is not applied to a view has its neutral value."""

    top: Integers  # of the crop, in pixels of the image
    left: Integers
    height: Integers
    width: Integers
    flip: Booleans
    order: Integers  # (B, 4), the operations of colour jitter in their order
    brightness: Floats  # factor, neutral 1
    contrast: Floats  # factor, neutral 1
    saturation: Floats  # factor, neutral 1
    hue: Floats  # shift in turns, neutral 0
    grey: Booleans
    sigma: Floats  # of the blur, in pixels of the view, neutral 0
    solarize: Booleans

    def __len__(self) -> int:
        return len(self.top)


def uniform(seed: int, epoch: int, indices: Integers, view: int, count: int) -> Floats:
    """(B, count) uniform numbers in [0, 1) for the samples `indices` (B,), a pure function of the arguments.

    The fields seed one SplitMix64 stream per sample; these are its first `count` numbers. A larger `count` doesn't
    change the first numbers.
    """
    state = np.zeros(1, dtype=np.uint64)
    for field in (seed, epoch, view, indices):
        state = _mix((state ^ np.asarray(field).astype(np.uint64)) + _GAMMA)
    counters = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
    words = _mix(state[:, np.newaxis] + counters)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(seed: int, epoch: int, n: int) -> Integers:
    """The order (n,) of an epoch's n samples, a pure function of the arguments."""
    key = np.array([seed, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(n)


def sample_parameters(  # noqa: PLR0917 - seed, epoch, index, view: the same order as in `uniform`
    view: View, seed: int, epoch: int, indices: Integers, view_number: int, height: int, width: int
) -> Parameters:
    """Samples the parameters of one view of each sample in `indices` (B,), for images of height x width pixels.

    The distributions are those of torchvision's RandomResizedCrop, RandomHorizontalFlip, ColorJitter, RandomGrayscale,
    GaussianBlur and RandomSolarize. Each parameter uses a fixed position in the sample's random stream, so that two
    configurations that differ in one operation sample the same parameters for all the others.
    """
    u = uniform(seed, epoch, indices, view_number, 2 * _ATTEMPTS + 13)
    areas, ratios, u = u[:, :_ATTEMPTS], u[:, _ATTEMPTS : 2 * _ATTEMPTS], u[:, 2 * _ATTEMPTS :]
    crop_height, crop_width = _crop_sizes(areas, ratios, view.crop_area, height, width)
    fits = crop_height > 0
    whole_height, whole_width = _central_crop(height, width)
    crop_height, crop_width = np.where(fits, crop_height, whole_height), np.where(fits, crop_width, whole_width)
    free_height, free_width = height - crop_height, width - crop_width
    jitter = view.jitter or Jitter(probability=0.0, brightness=0.0, contrast=0.0, saturation=0.0, hue=0.0)
    jittered = u[:, 3] < jitter.probability
    return Parameters(
        top=np.where(fits, _integers(u[:, 0], free_height + 1), free_height // 2),
        left=np.where(fits, _integers(u[:, 1], free_width + 1), free_width // 2),
        height=crop_height,
        width=crop_width,
        flip=u[:, 2] < view.flip,
        order=_ORDERS[np.where(jittered, _integers(u[:, 4], len(_ORDERS)), 0)],
        brightness=np.where(jittered, _factors(u[:, 5], jitter.brightness), 1.0),
        contrast=np.where(jittered, _factors(u[:, 6], jitter.contrast), 1.0),
        saturation=np.where(jittered, _factors(u[:, 7], jitter.saturation), 1.0),
        hue=np.where(jittered, _between(u[:, 8], -jitter.hue, jitter.hue), 0.0),
        grey=u[:, 9] < view.grey,
        sigma=np.where(u[:, 10] < view.blur, _between(u[:, 11], *_SIGMA), 0.0),
        solarize=u[:, 12] < view.solarize,
    )


def _mix(words: _Words) -> _Words:
    """SplitMix64's mixing function, a bijection of 64-bit words in which each input bit affects all output bits."""
    words = (words ^ (words >> np.uint64(30))) * _MULTIPLIERS[0]
    words = (words ^ (words >> np.uint64(27))) * _MULTIPLIERS[1]
    return words ^ (words >> np.uint64(31))


def _crop_sizes(
    areas: Floats, ratios: Floats, area: tuple[float, float], height: int, width: int
) -> tuple[Integers, Integers]:
    """Height and width (B,) of the first attempted crop that fits into the image, or 0 if none fits.

    An attempt samples the area uniformly and the ratio of width to height log-uniformly.
    """
    target = height * width * _between(areas, *area)
    ratio = np.exp(_between(ratios, math.log(_RATIO[0]), math.log(_RATIO[1])))
    widths = np.rint(np.sqrt(target * ratio)).astype(np.int64)
    heights = np.rint(np.sqrt(target / ratio)).astype(np.int64)
    fits = (widths > 0) & (widths <= width) & (heights > 0) & (heights <= height)
    first = np.arange(len(fits)), fits.argmax(axis=1)
    return np.where(fits[first], heights[first], 0), np.where(fits[first], widths[first], 0)


def _central_crop(height: int, width: int) -> tuple[int, int]:
    """Height and width of the largest central crop with an allowed ratio, used if no attempt fits."""
    if width < _RATIO[0] * height:
        return round(width / _RATIO[0]), width
    if width > _RATIO[1] * height:
        return height, round(height * _RATIO[1])
    return height, width


def _between(u: Floats, low: float, high: float) -> Floats:
    return low + (high - low) * u


def _factors(u: Floats, strength: float) -> Floats:
    return _between(u, max(0.0, 1.0 - strength), 1.0 + strength)


def _integers(u: Floats, bound: Integers | int) -> Integers:
    """Uniform integers in [0, bound) from uniform numbers."""
    return np.floor(u * bound).astype(np.int64)
