"""Paints the synthetic images: copies of one motif, each with its own place, size, turn and colour, on a smooth ground.

What two crops of one image share is the motif; colours, sizes and light change within the image. Every image is a pure
function of (split, index): its random numbers are the words of a Philox counter generator keyed with the two.
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
WORDS: Final = 256  # random words of one image before those of its noise


@dataclass(frozen=True)
class Rendering:
    """How a split looks: lengths in pixels, `grid` motifs along each side, some of them cut off."""

    side: int
    grid: int
    radius: tuple[float, float]
    coarse: bool  # of a few pixels, in neighbouring colours


PRINT: Final = Rendering(side=96, grid=4, radius=(12.0, 15.5), coarse=False)
COARSE: Final = Rendering(side=32, grid=4, radius=(3.8, 5.0), coarse=True)


class Draws:
    """Uniform numbers of a batch of images, handed out in order: every image has its own stream."""

    def __init__(self, split: str, indices: NDArray[np.intp], noise: int):
        words = WORDS + noise // 8
        streams = [np.random.Philox(key=np.array([SPLITS.index(split), index], np.uint64)) for index in indices]
        self._raw = np.stack([stream.random_raw(words) for stream in streams])
        self._uniform = (self._raw[:, :WORDS] >> np.uint64(40)).astype(np.float32) * np.float32(2**-24)
        self._used = 0

    def uniform(self, low: float, high: float, *shape: int) -> Array:
        """(n, *shape) numbers in [low, high)."""
        count = int(np.prod(shape, dtype=int))
        taken = self._uniform[:, self._used : self._used + count]
        self._used += count
        assert taken.shape[1] == count, "WORDS is too small"
        return (np.float32(low) + np.float32(high - low) * taken).reshape(-1, *shape)

    def noise(self) -> Array:
        """(n, noise) numbers in [-1, 1]."""
        small = np.ascontiguousarray(self._raw[:, WORDS:].astype("<u8")).view(np.uint8)
        return (small.astype(np.float32) - np.float32(127.5)) / np.float32(127.5)


def labels_of(split: str, indices: NDArray[np.intp]) -> Labels:
    """The class of each image: in turn where labels are published, at random in `unlabeled`."""
    if split != "unlabeled":
        return indices % len(CLASSES)
    return (Draws(split, indices, 0).uniform(0, len(CLASSES))).astype(np.intp)


def paint(split: str, indices: NDArray[np.intp]) -> Pixels:
    """The images (n, 3, side, side), rows first."""
    look = COARSE if split == "ood" else PRINT
    draws = Draws(split, indices, look.side**2 * 3)
    draws.uniform(0, 1)  # the label's
    image = _ground(draws, look)
    _stamp(image, labels_of(split, indices), draws, look)
    image += np.float32(0.03) * draws.noise().reshape(image.shape)
    image *= 255
    image += 0.5
    return image.clip(0, 255).astype(np.uint8)


def colour(hue: Array, saturation: Array, luminance: Array) -> Array:
    """RGB (..., 3) of a hue in [0, 1), as saturated as the luminance leaves room for."""
    turns = hue[..., None] + np.array([0, 2 / 3, 1 / 3], np.float32)
    pure = np.clip(np.abs(np.mod(turns, 1) * 6 - 3) - 1, 0, 1)
    offset = pure - (pure @ LUMINANCE)[..., None]
    room = np.minimum(luminance, 1 - luminance)[..., None] * 2
    return np.asarray(np.clip(luminance[..., None] + saturation[..., None] * room * offset, 0, 1), np.float32)


def _ground(draws: Draws, look: Rendering) -> Array:
    """A smooth ground (n, 3, side, side): four colours blended from the corners."""
    hue, luminance = draws.uniform(0.45, 0.55, 4), draws.uniform(0.42, 0.58, 4)
    if look.coarse:
        hue = np.mod(hue + np.float32(0.1), 1)
    corners = colour(hue, draws.uniform(0.1, 0.3, 4), luminance)
    axis = np.linspace(0, 1, look.side, dtype=np.float32)
    weight = np.stack([1 - axis, axis])
    # corner 2a + b is a rows down and b columns right
    ground = np.einsum("nabc,ay,bx->ncyx", corners.reshape(-1, 2, 2, 3), weight, weight, optimize=True)
    return np.ascontiguousarray(ground)


def _stamp(image: Array, labels: Labels, draws: Draws, look: Rendering) -> None:
    """Paints the motifs onto `image` in place, one over the other, each with a soft shadow."""
    centre, ink, radius = _centres(draws, look), _inks(draws, look), draws.uniform(*look.radius, look.grid**2)
    angle = draws.uniform(0, 2 * np.pi, look.grid**2)
    light, shadow = draws.uniform(-0.2, 0.2, look.grid**2, 2), np.float32(0.4)
    owner, slot = (index.ravel() for index in np.indices(radius.shape))

    half = int(look.radius[1]) + 5
    corner = np.floor(centre).astype(np.intp) - half
    window = np.arange(2 * half, dtype=np.float32)
    unit = 1 / radius[owner, slot, None, None]
    x = (window - (centre - corner)[owner, slot, 0, None])[:, None, :] * unit
    y = (window - (centre - corner)[owner, slot, 1, None])[:, :, None] * unit
    cos, sin = np.cos(angle)[owner, slot, None, None], np.sin(angle)[owner, slot, None, None]
    u, v = (np.asarray(turned, np.float32) for turned in (cos * x + sin * y, cos * y - sin * x))
    edge = distances(labels[owner], u, v) / unit
    cover = np.clip(np.float32(0.5) - edge, 0, 1)
    keep = 1 - np.clip(1 - edge / np.float32(5), 0, 1) ** 2 * shadow
    shade = 1 + light[owner, slot, 0, None, None] * x + light[owner, slot, 1, None, None] * y

    pad = 2 * half
    canvas = np.pad(image, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    left, top = (corner[owner, slot] + pad).clip(0, canvas.shape[-1] - pad).T
    for i, (n, k) in enumerate(zip(owner, slot, strict=True)):
        under = canvas[n, :, top[i] : top[i] + pad, left[i] : left[i] + pad]
        under *= keep[i]
        under += cover[i] * (ink[n, k, :, None, None] * shade[i] - under)
    image[:] = canvas[:, :, pad:-pad, pad:-pad]


def _centres(draws: Draws, look: Rendering) -> Array:
    """Places (n, grid², 2), x and y, on a slightly shaken lattice that is moved as a whole."""
    period = look.side / (look.grid - 1)
    cells = np.stack(np.meshgrid(*[np.arange(look.grid)] * 2), -1).reshape(-1, 2)
    shaken = cells + draws.uniform(-1 / 12, 1 / 12, look.grid**2, 2) + draws.uniform(-0.5, 0.5, 1, 2)
    return np.asarray(shaken * period, np.float32)


def _inks(draws: Draws, look: Rendering) -> Array:
    """A colour (n, grid², 3) for each motif: cream or navy as on a chessboard; coarse ones lime or violet."""
    count = look.grid**2
    row, column = np.divmod(np.arange(count), look.grid)
    is_light = (row + column) % 2 == 0
    hue = np.where(is_light, draws.uniform(0.06, 0.18, count), draws.uniform(0.55, 0.7, count))
    if look.coarse:
        hue = np.mod(hue + np.float32(0.1), 1)
    luminance = np.where(is_light, draws.uniform(0.8, 0.92, count), draws.uniform(0.06, 0.18, count))
    return colour(hue, draws.uniform(0.3, 0.8, count), luminance)
