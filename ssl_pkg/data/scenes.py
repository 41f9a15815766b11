"""Renders the synthetic images: copies of one motif, each of random position, size, rotation and colour.

Two crops of an image share only the motif, because colours, sizes and shading vary within the image. Every image is a
pure function of (split, index): a Philox counter generator keyed with both gives its random numbers.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from ssl_pkg.data.shapes import CLASSES, Array, distances

Pixels = NDArray[np.uint8]
Labels = NDArray[np.intp]
SPLITS: Final = ("train", "test", "unlabeled", "ood")
LUMINANCE: Final = np.array([0.299, 0.587, 0.114], np.float32)
WORDS: Final = 256  # random words of one image, followed by those for its noise


@dataclass(frozen=True)
class Style:
    """Parameters of a split's images."""

    side: int  # pixels
    grid: int  # motifs along each side, some of them cut off by the edge
    radius: tuple[float, float]  # range of a motif's radius in pixels
    shift_hue: bool  # whether all colours differ from those of the other splits


STL10_STYLE: Final = Style(side=96, grid=4, radius=(12.0, 15.5), shift_hue=False)
OOD_STYLE: Final = Style(side=32, grid=4, radius=(3.8, 5.0), shift_hue=True)


class RandomStream:
    """Random numbers for a batch of n images. Each image has its own stream, from which each call takes the next."""

    def __init__(self, split: str, indices: NDArray[np.intp], noise: int):
        words = WORDS + noise // 8
        streams = [np.random.Philox(key=np.array([SPLITS.index(split), index], np.uint64)) for index in indices]
        self._raw = np.stack([stream.random_raw(words) for stream in streams])
        self._uniform = (self._raw[:, :WORDS] >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
        self._used = 0

    def uniform(self, low: float, high: float, *shape: int) -> Array:
        """(n, *shape) uniform numbers in [low, high)."""
        count = int(np.prod(shape, dtype=int))
        taken = self._uniform[:, self._used : self._used + count]
        self._used += count
        assert taken.shape[1] == count, "WORDS is too small"
        return (np.float32(low) + np.float32(high - low) * taken).reshape(-1, *shape)

    def noise(self) -> Array:
        """(n, noise) uniform numbers in [-1, 1]."""
        small = np.ascontiguousarray(self._raw[:, WORDS:].astype("<u8")).view(np.uint8)
        return (small.astype(np.float32) - np.float32(127.5)) / np.float32(127.5)


def labels_of(split: str, indices: NDArray[np.intp]) -> Labels:
    """The class (n,) of each image: index modulo 10, or random in `unlabeled`, whose labels are not published."""
    if split != "unlabeled":
        return indices % len(CLASSES)
    return (RandomStream(split, indices, 0).uniform(0, len(CLASSES))).astype(np.intp)


def render(split: str, indices: NDArray[np.intp]) -> Pixels:
    """Renders the images (n, 3, side, side) with these indices (n,), rows first."""
    style = OOD_STYLE if split == "ood" else STL10_STYLE
    stream = RandomStream(split, indices, style.side**2 * 3)
    stream.uniform(0, 1)  # the number that `labels_of` uses
    image = _backgrounds(stream, style)
    _draw_motifs(image, labels_of(split, indices), stream, style)
    image += np.float32(0.03) * stream.noise().reshape(image.shape)
    image *= 255
    image += 0.5
    return image.clip(0, 255).astype(np.uint8)


def colour(hue: Array, saturation: Array, luminance: Array) -> Array:
    """RGB (..., 3) of hue, saturation and luminance in [0, 1]; saturation 1 is the maximum at the luminance."""
    turns = hue[..., None] + np.array([0, 2 / 3, 1 / 3], np.float32)
    pure = np.clip(np.abs(np.mod(turns, 1) * 6 - 3) - 1, 0, 1)
    offset = pure - (pure @ LUMINANCE)[..., None]
    room = np.minimum(luminance, 1 - luminance)[..., None] * 2
    return np.asarray(np.clip(luminance[..., None] + saturation[..., None] * room * offset, 0, 1), np.float32)


def _backgrounds(stream: RandomStream, style: Style) -> Array:
    """Backgrounds (n, 3, side, side): the colours of the four corners, interpolated."""
    hue, luminance = stream.uniform(0.45, 0.55, 4), stream.uniform(0.42, 0.58, 4)
    if style.shift_hue:
        hue = np.mod(hue + np.float32(0.1), 1)
    corners = colour(hue, stream.uniform(0.1, 0.3, 4), luminance)
    axis = np.linspace(0, 1, style.side, dtype=np.float32)
    weight = np.stack([1 - axis, axis])
    # corner 2a + b is in row a and column b of the 2x2 corners
    backgrounds = np.einsum("nabc,ay,bx->ncyx", corners.reshape(-1, 2, 2, 3), weight, weight, optimize=True)
    return np.ascontiguousarray(backgrounds)


def _draw_motifs(image: Array, labels: Labels, stream: RandomStream, style: Style) -> None:
    """Draws the motifs onto the images (n, 3, side, side) in place, each with a soft shadow on those below it."""
    centre, inks = _centres(stream, style), _motif_colours(stream, style)
    radius = stream.uniform(*style.radius, style.grid**2)
    angle = stream.uniform(0, 2 * np.pi, style.grid**2)
    light, shadow = stream.uniform(-0.2, 0.2, style.grid**2, 2), np.float32(0.4)
    # all motifs of all images as one batch: number i is motif k[i] of image n[i]
    n, k = (index.ravel() for index in np.indices(radius.shape))

    half = int(style.radius[1]) + 5
    corner = np.floor(centre).astype(np.intp) - half
    window = np.arange(2 * half, dtype=np.float32)
    unit = 1 / radius[n, k, None, None]
    x = (window - (centre - corner)[n, k, 0, None])[:, None, :] * unit
    y = (window - (centre - corner)[n, k, 1, None])[:, :, None] * unit
    cos, sin = np.cos(angle)[n, k, None, None], np.sin(angle)[n, k, None, None]
    u, v = (np.asarray(turned, np.float32) for turned in (cos * x + sin * y, cos * y - sin * x))
    edge = distances(labels[n], u, v) / unit
    cover = np.clip(np.float32(0.5) - edge, 0, 1)
    keep = 1 - np.clip(1 - edge / np.float32(5), 0, 1) ** 2 * shadow
    shade = 1 + light[n, k, 0, None, None] * x + light[n, k, 1, None, None] * y

    pad = 2 * half
    canvas = np.pad(image, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    left, top = (corner[n, k] + pad).clip(0, canvas.shape[-1] - pad).T
    for i in range(len(n)):
        under = canvas[n[i], :, top[i] : top[i] + pad, left[i] : left[i] + pad]
        under *= keep[i]
        under += cover[i] * (inks[n[i], k[i], :, None, None] * shade[i] - under)
    image[:] = canvas[:, :, pad:-pad, pad:-pad]


def _centres(stream: RandomStream, style: Style) -> Array:
    """Centres (n, grid², 2) of the motifs as x and y in pixels: a grid, shifted as a whole, with jitter."""
    period = style.side / (style.grid - 1)
    cells = np.stack(np.meshgrid(*[np.arange(style.grid)] * 2), -1).reshape(-1, 2)
    jittered = cells + stream.uniform(-1 / 12, 1 / 12, style.grid**2, 2) + stream.uniform(-0.5, 0.5, 1, 2)
    return np.asarray(jittered * period, np.float32)


def _motif_colours(stream: RandomStream, style: Style) -> Array:
    """Colours (n, grid², 3) of the motifs: light and dark as on a chessboard, cream and navy, or lime and violet."""
    count = style.grid**2
    row, column = np.divmod(np.arange(count), style.grid)
    is_light = (row + column) % 2 == 0
    hue = np.where(is_light, stream.uniform(0.06, 0.18, count), stream.uniform(0.55, 0.7, count))
    if style.shift_hue:
        hue = np.mod(hue + np.float32(0.1), 1)
    luminance = np.where(is_light, stream.uniform(0.8, 0.92, count), stream.uniform(0.06, 0.18, count))
    return colour(hue, stream.uniform(0.3, 0.8, count), luminance)
