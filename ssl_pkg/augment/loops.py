"""The loops over one image's pixels that make a view on a CPU, compiled by numba; `cpu.py` runs them.

One image fits a core's second-level cache, and an operation costs only the images that drew it. SimCLR's views of 96
pixels, draws included, take 67 microseconds on one core of an AMD EPYC (Zen 3); operations on batches, in PyTorch, took
315. No sum is reordered or contracted for a processor's vector instructions. An image is three planes of float32 in
[0, 1], (3, side * side); every operation works in place.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from ssl_pkg.augment.operations import LUMA, MEAN, SMALLEST_CHROMA, STD
from ssl_pkg.augment.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION, Integers

Bytes = npt.NDArray[np.uint8]
Singles = npt.NDArray[np.float32]
Records = npt.NDArray[np.void]
F = TypeVar("F", bound=Callable[..., Any])

_PLACES = 1024  # sums over neighbours are made for this many at a time, which stay in the first-level cache
_SUMS = 64  # a mean is summed in this many parts, or each addition would wait for the one before

# numba computes in float32 only among float32, and takes globals for constants
_ZERO, _HALF, _ONE, _TWO, _THREE, _SIX = (np.float32(number) for number in (0, 0.5, 1, 2, 3, 6))
_BYTE, _LAST_BYTE = np.float32(1 / 255), np.float32(255)
_RED, _GREEN, _BLUE = (np.float32(weight) for weight in LUMA)
_SMALLEST_CHROMA = np.float32(SMALLEST_CHROMA)
_MEANS, _STDS = (tuple(np.float32(number) for number in numbers) for numbers in (MEAN, STD))


def _loop(function: F) -> F:
    """Compiles a part of a view."""
    return cast(F, numba.njit(nogil=True)(function))


def _inlined(function: F) -> F:
    """Makes an expression part of the loop that it stands in."""
    return cast(F, numba.njit(inline="always")(function))


def make_some(  # noqa: PLR0917 - as `cpu.py` declares it
    images: Bytes, drawn: Records, weights: Singles, firsts: Integers, radius: int,
    first: int, stride: int, views: Singles,
) -> None:  # fmt: skip
    """Every `stride`-th view from number `first` on: images (B, 3, W, H), views (B, side * side * 3)."""
    side = weights.shape[1]
    x = np.empty((3, side * side), np.float32)
    for number in range(first, len(images), stride):
        d = drawn[number]
        crop(images[number], int(d.top), int(d.left), int(d.height), int(d.width), d.flip != 0, weights, firsts, x)
        for operation in d.order:
            if operation == BRIGHTNESS and d.brightness != 1:
                brightness(x, np.float32(d.brightness))
            elif operation == CONTRAST and d.contrast != 1:
                contrast(x, np.float32(d.contrast))
            elif operation == SATURATION and d.saturation != 1:
                saturation(x, np.float32(d.saturation))
            elif operation == HUE and d.hue != 0:
                hue(x, np.float32(d.hue))
        if d.grey != 0:
            grey(x)
        if d.sigma > 0:
            blur(x, side, d.sigma, radius)
        if d.solarize != 0:
            solarize(x)
        _write(x, views[number])


@_loop
def crop(  # noqa: PLR0917 - as the loop above calls it
    image: Bytes, top: int, left: int, height: int, width: int, flip: bool,
    weights: Singles, firsts: Integers, x: Singles,
) -> None:  # fmt: skip
    """Fills x with the part of the image (3, W, H), resized with antialiasing, perhaps mirrored.

    What torch's kernel for bytes does, byte for byte up to three pixels for one: each row, then each column, and both
    times rounded to a byte. weights and firsts: of `cpu.resampling`.
    """
    side, taps = weights.shape[1:]
    narrowed = np.empty((height, side), np.float32)
    sums = np.empty(max(height, side), np.float32)
    column, row = sums[:height], sums[:side]
    for channel in range(3):
        for place in range(side):
            _fill(column, _HALF)
            start = firsts[width, place]
            for tap in range(min(taps, width - start)):
                weight, pixels = weights[width, place, tap], image[channel, left + start + tap, top : top + height]
                for i in range(height):
                    column[i] += weight * np.float32(pixels[i])
            to = side - 1 - place if flip else place
            for i in range(height):
                narrowed[i, to] = min(np.floor(column[i]), _LAST_BYTE)
        for place in range(side):
            _fill(row, _HALF)
            start = firsts[height, place]
            for tap in range(min(taps, height - start)):
                weight, across = weights[height, place, tap], narrowed[start + tap]
                for i in range(side):
                    row[i] += weight * across[i]
            out = x[channel, place * side : (place + 1) * side]
            for i in range(side):
                out[i] = min(np.floor(row[i]), _LAST_BYTE) * _BYTE


@_loop
def _fill(target: Singles, value: np.float32) -> None:
    for i in range(len(target)):
        target[i] = value


@_inlined
def _clamped(value: np.float32) -> np.float32:
    return min(max(value, _ZERO), _ONE)


@_inlined
def _luminance(red: np.float32, green: np.float32, blue: np.float32) -> np.float32:
    return red * _RED + green * _GREEN + blue * _BLUE


@_loop
def brightness(x: Singles, factor: np.float32) -> None:
    """Multiplies by factor >= 0 and clamps."""
    for channel in range(3):
        plane = x[channel]
        for i in range(len(plane)):
            plane[i] = _clamped(plane[i] * factor)


@_loop
def contrast(x: Singles, factor: np.float32) -> None:
    """Moves away from the mean luminance by factor >= 0 and clamps."""
    red, green, blue = x[0], x[1], x[2]
    sums, count = np.zeros(_SUMS, np.float32), len(red)
    for start in range(0, count, _SUMS):
        r, g, b = red[start : start + _SUMS], green[start : start + _SUMS], blue[start : start + _SUMS]
        for i in range(len(r)):
            sums[i] += _luminance(r[i], g[i], b[i])
    rest = np.float32(sums.sum() / count) * (_ONE - factor)
    for channel in range(3):
        plane = x[channel]
        for i in range(count):
            plane[i] = _clamped(plane[i] * factor + rest)


@_loop
def saturation(x: Singles, factor: np.float32) -> None:
    """Moves away from each pixel's luminance by factor >= 0 and clamps."""
    red, green, blue = x[0], x[1], x[2]
    for i in range(len(red)):
        rest = _luminance(red[i], green[i], blue[i]) * (_ONE - factor)
        red[i] = _clamped(red[i] * factor + rest)
        green[i] = _clamped(green[i] * factor + rest)
        blue[i] = _clamped(blue[i] * factor + rest)


@_inlined
def _ramp(turned: np.float32) -> np.float32:
    return min(max(abs(abs(turned) - _THREE), _ONE), _TWO)


@_loop
def hue(x: Singles, turns: np.float32) -> None:
    """Turns the hue by turns in [-.5, .5]; see `operations.adjust_hue_`."""
    red, green, blue = x[0], x[1], x[2]
    for i in range(len(red)):
        r, g, b = red[i], green[i], blue[i]
        high, low = max(r, g, b), min(r, g, b)
        chroma = high - low
        position = (g + b - r - high) / max(chroma, _SMALLEST_CHROMA) + _TWO
        position = (position if g >= b else -position) + _SIX * turns
        position -= _SIX * np.rint(position / _SIX)
        base = low - chroma
        red[i] = base + chroma * _ramp(position)
        green[i] = base + chroma * _ramp(position - _TWO)
        blue[i] = base + chroma * _ramp(position + _TWO)


@_loop
def grey(x: Singles) -> None:
    """Gives all three channels the luminance."""
    red, green, blue = x[0], x[1], x[2]
    for i in range(len(red)):
        luminance = _luminance(red[i], green[i], blue[i])
        red[i], green[i], blue[i] = luminance, luminance, luminance


@_loop
def blur(x: Singles, side: int, sigma: float, radius: int) -> None:
    """Blurs with a Gaussian of standard deviation sigma > 0, cut to `radius` pixels to each side; edges reflect."""
    offsets = np.arange(radius + 1)
    exact = np.exp(-0.5 * (offsets / sigma) ** 2)
    weights = (exact / (2 * exact.sum() - exact[0])).astype(np.float32)
    wide = side + 2 * radius
    padded, blurred = np.zeros(side * wide + 2 * radius, np.float32), np.empty(side * wide, np.float32)
    high = np.empty(wide * side, np.float32)
    for channel in range(3):
        plane = x[channel]
        for y in range(side):
            row, to = plane[y * side : (y + 1) * side], padded[y * wide : (y + 1) * wide]
            _copy(row, to[radius : radius + side])
            for k in range(1, radius + 1):
                to[radius - k], to[radius + side - 1 + k] = row[k], row[side - 1 - k]
        _add_neighbours(padded, weights, 1, blurred)
        for y in range(-radius, side + radius):
            inside = abs(y) if y < side else 2 * (side - 1) - y
            _copy(blurred[inside * wide :], high[(y + radius) * side : (y + radius + 1) * side])
        _add_neighbours(high, weights, side, plane)


@_loop
def _copy(source: Singles, target: Singles) -> None:
    for i in range(len(target)):
        target[i] = source[i]


@_loop
def _add_neighbours(source: Singles, weights: Singles, apart: int, sums: Singles) -> None:
    """For each place the weighted sum of those that lie up to a radius of times `apart` before and behind it."""
    radius = len(weights) - 1
    for start in range(0, len(sums), _PLACES):
        out, centre = sums[start : start + _PLACES], source[start + radius * apart :]
        weight = weights[0]
        for i in range(len(out)):
            out[i] = weight * centre[i]
        for k in range(1, radius + 1):
            weight = weights[k]
            before, behind = source[start + (radius - k) * apart :], source[start + (radius + k) * apart :]
            for i in range(len(out)):
                out[i] += weight * (before[i] + behind[i])


@_loop
def solarize(x: Singles) -> None:
    """Inverts what is .5 or brighter."""
    for channel in range(3):
        plane = x[channel]
        for i in range(len(plane)):
            plane[i] = min(plane[i], _ONE - plane[i])


@_loop
def _write(x: Singles, view: Singles) -> None:
    """Normalises x into the view (side * side * 3), the channels side by side."""
    red, green, blue = x[0], x[1], x[2]
    for i in range(len(red)):
        view[3 * i] = (red[i] - _MEANS[0]) / _STDS[0]
        view[3 * i + 1] = (green[i] - _MEANS[1]) / _STDS[1]
        view[3 * i + 2] = (blue[i] - _MEANS[2]) / _STDS[2]
