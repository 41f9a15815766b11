"""Loops over the pixels of one image that make a view on a CPU, compiled by numba; `cpu.py` runs them.

One image fits into a core's L2 cache, and an operation runs only for the images that need it. One of SimCLR's views of
96 pixels, including its random parameters, takes 67 microseconds on one core of an AMD EPYC (Zen 3); batched operations
in PyTorch took 315. The compiler neither reorders sums nor contracts them to fused multiply-adds. An image is three
planes of float32 in [0, 1], (3, side * side); operations work in place.
"""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

from ssl_pkg.augment.operations import LUMA, MEAN, SMALLEST_CHROMA, STD
from ssl_pkg.augment.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION, Integers

Bytes = npt.NDArray[np.uint8]
Floats32 = npt.NDArray[np.float32]
Records = npt.NDArray[np.void]
F = TypeVar("F", bound=Callable[..., Any])

_BLOCK = 1024  # pixels convolved at a time, because that many sums stay in the L1 cache
_PARTIAL_SUMS = 64  # of a mean, because in a single sum each addition would wait for the one before

# numba computes in float32 only if all operands are float32; it compiles globals as constants
_ZERO, _HALF, _ONE, _TWO, _THREE, _SIX = (np.float32(number) for number in (0, 0.5, 1, 2, 3, 6))
_BYTE_SCALE, _LAST_BYTE = np.float32(1 / 255), np.float32(255)
_RED, _GREEN, _BLUE = (np.float32(weight) for weight in LUMA)
_SMALLEST_CHROMA = np.float32(SMALLEST_CHROMA)
_MEANS, _STDS = (tuple(np.float32(number) for number in numbers) for numbers in (MEAN, STD))


def _loop(function: F) -> F:
    """Compiles a function that `make_views` calls."""
    return cast(F, numba.njit(nogil=True)(function))


def _inlined(function: F) -> F:
    """Compiles a function inline in the loops that call it."""
    return cast(F, numba.njit(inline="always")(function))


def make_views(  # noqa: PLR0917 - `cpu.py` declares the signature by position
    images: Bytes, parameters: Records, weights: Floats32, firsts: Integers, radius: int,
    first: int, stride: int, views: Floats32,
) -> None:  # fmt: skip
    """Makes every `stride`-th view, starting at index `first`, so that each thread makes a part of the batch.

    images: (B, 3, W, H); parameters: (B,); weights, firsts: from `cpu.resampling_tables`; radius: of the blur, in
    pixels; views: (B, side * side * 3), the output.
    """
    side = weights.shape[1]
    x = np.empty((3, side * side), np.float32)
    for number in range(first, len(images), stride):
        p = parameters[number]
        crop(images[number], int(p.top), int(p.left), int(p.height), int(p.width), p.flip != 0, weights, firsts, x)
        for operation in p.order:
            if operation == BRIGHTNESS and p.brightness != 1:
                brightness(x, np.float32(p.brightness))
            elif operation == CONTRAST and p.contrast != 1:
                contrast(x, np.float32(p.contrast))
            elif operation == SATURATION and p.saturation != 1:
                saturation(x, np.float32(p.saturation))
            elif operation == HUE and p.hue != 0:
                hue(x, np.float32(p.hue))
        if p.grey != 0:
            grey(x)
        if p.sigma > 0:
            blur(x, side, p.sigma, radius)
        if p.solarize != 0:
            solarize(x)
        _write(x, views[number])


@_loop
def crop(  # noqa: PLR0917 - numba functions take arguments by position
    image: Bytes, top: int, left: int, height: int, width: int, flip: bool,
    weights: Floats32, firsts: Integers, x: Floats32,
) -> None:  # fmt: skip
    """Crops the image (3, W, H), resizes the crop with antialiasing, mirrors it if `flip`, and writes it to x.

    Rows are resized first, then columns; both results are rounded to bytes, as torch's kernel for uint8 does. Results
    are equal to torch's byte for byte for reductions by a factor of up to 3. weights, firsts: from
    `cpu.resampling_tables`.
    """
    side, taps = weights.shape[1:]
    narrowed = np.empty((height, side), np.float32)
    sums = np.empty(max(height, side), np.float32)
    column, row = sums[:height], sums[:side]
    for channel in range(3):
        for position in range(side):
            _fill(column, _HALF)
            start = firsts[width, position]
            for tap in range(min(taps, width - start)):
                weight, pixels = weights[width, position, tap], image[channel, left + start + tap, top : top + height]
                for i in range(height):
                    column[i] += weight * np.float32(pixels[i])
            to = side - 1 - position if flip else position
            for i in range(height):
                narrowed[i, to] = min(np.floor(column[i]), _LAST_BYTE)
        for position in range(side):
            _fill(row, _HALF)
            start = firsts[height, position]
            for tap in range(min(taps, height - start)):
                weight, across = weights[height, position, tap], narrowed[start + tap]
                for i in range(side):
                    row[i] += weight * across[i]
            out = x[channel, position * side : (position + 1) * side]
            for i in range(side):
                out[i] = min(np.floor(row[i]), _LAST_BYTE) * _BYTE_SCALE


@_loop
def _fill(target: Floats32, value: np.float32) -> None:
    for i in range(len(target)):
        target[i] = value


@_inlined
def _clamped(value: np.float32) -> np.float32:
    return min(max(value, _ZERO), _ONE)


@_inlined
def _luminance(red: np.float32, green: np.float32, blue: np.float32) -> np.float32:
    return red * _RED + green * _GREEN + blue * _BLUE


@_loop
def brightness(x: Floats32, factor: np.float32) -> None:
    """Multiplies by factor >= 0 and clamps to [0, 1]."""
    for channel in range(3):
        plane = x[channel]
        for i in range(len(plane)):
            plane[i] = _clamped(plane[i] * factor)


@_loop
def contrast(x: Floats32, factor: np.float32) -> None:
    """Scales the difference from the image's mean luminance by factor >= 0 and clamps to [0, 1]."""
    red, green, blue = x[0], x[1], x[2]
    sums, count = np.zeros(_PARTIAL_SUMS, np.float32), len(red)
    for start in range(0, count, _PARTIAL_SUMS):
        r, g, b = (
            red[start : start + _PARTIAL_SUMS],
            green[start : start + _PARTIAL_SUMS],
            blue[start : start + _PARTIAL_SUMS],
        )
        for i in range(len(r)):
            sums[i] += _luminance(r[i], g[i], b[i])
    rest = np.float32(sums.sum() / count) * (_ONE - factor)
    for channel in range(3):
        plane = x[channel]
        for i in range(count):
            plane[i] = _clamped(plane[i] * factor + rest)


@_loop
def saturation(x: Floats32, factor: np.float32) -> None:
    """Scales each pixel's difference from its luminance by factor >= 0 and clamps to [0, 1]."""
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
def hue(x: Floats32, turns: np.float32) -> None:
    """Shifts the hue by `turns` in [-.5, .5]; see `operations.adjust_hue_` for the formula."""
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
def grey(x: Floats32) -> None:
    """Sets all three channels to the luminance."""
    red, green, blue = x[0], x[1], x[2]
    for i in range(len(red)):
        luminance = _luminance(red[i], green[i], blue[i])
        red[i], green[i], blue[i] = luminance, luminance, luminance


@_loop
def blur(x: Floats32, side: int, sigma: float, radius: int) -> None:
    """Blurs with a Gaussian of standard deviation sigma > 0 pixels, truncated at `radius` pixels; edges reflect."""
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
        _convolve(padded, weights, 1, blurred)
        for y in range(-radius, side + radius):
            inside = abs(y) if y < side else 2 * (side - 1) - y
            _copy(blurred[inside * wide :], high[(y + radius) * side : (y + radius + 1) * side])
        _convolve(high, weights, side, plane)


@_loop
def _copy(source: Floats32, target: Floats32) -> None:
    for i in range(len(target)):
        target[i] = source[i]


@_loop
def _convolve(source: Floats32, weights: Floats32, stride: int, sums: Floats32) -> None:
    """Convolves with a symmetric kernel, of which `weights` are the right half with the centre; writes to `sums`.

    Neighbours are `stride` elements apart: 1 along rows, the width along columns.
    """
    radius = len(weights) - 1
    for start in range(0, len(sums), _BLOCK):
        out, centre = sums[start : start + _BLOCK], source[start + radius * stride :]
        weight = weights[0]
        for i in range(len(out)):
            out[i] = weight * centre[i]
        for k in range(1, radius + 1):
            weight = weights[k]
            before, after = source[start + (radius - k) * stride :], source[start + (radius + k) * stride :]
            for i in range(len(out)):
                out[i] += weight * (before[i] + after[i])


@_loop
def solarize(x: Floats32) -> None:
    """Replaces values v of .5 or more by 1 - v."""
    for channel in range(3):
        plane = x[channel]
        for i in range(len(plane)):
            plane[i] = min(plane[i], _ONE - plane[i])


@_loop
def _write(x: Floats32, view: Floats32) -> None:
    """Normalises x (3, side * side) and writes it to the view (side * side * 3), channels last."""
    red, green, blue = x[0], x[1], x[2]
    for i in range(len(red)):
        view[3 * i] = (red[i] - _MEANS[0]) / _STDS[0]
        view[3 * i + 1] = (green[i] - _MEANS[1]) / _STDS[1]
        view[3 * i + 2] = (blue[i] - _MEANS[2]) / _STDS[2]
