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
    """How a split looks: lengths in pixels, `grid` motifs along each side at most."""

    side: int
    grid: int
    radius: tuple[float, float]
    chalk: bool


PRINT: Final = Rendering(side=96, grid=3, radius=(10.0, 17.0), chalk=False)
CHALK: Final = Rendering(side=32, grid=2, radius=(5.5, 8.5), chalk=True)


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
    return (Draws(split, indices, 0).uniform(0, len(CLASSES), 1)[:, 0]).astype(np.intp)


def paint(split: str, indices: NDArray[np.intp]) -> Pixels:
    """The images (n, side, side, 3) as one sees them, rows first."""
    look = CHALK if split == "ood" else PRINT
    draws = Draws(split, indices, look.side**2 * 3)
    draws.uniform(0, 1, 1)  # the label's
    ground, level = _ground(draws, look)
    _stamp(ground, level, labels_of(split, indices), draws, look)
    ground += draws.uniform(0.01, 0.08, 1, 1, 1) * draws.noise().reshape(ground.shape)
    return (ground.clip(0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8)


def colour(hue: Array, saturation: Array, luminance: Array) -> Array:
    """RGB (..., 3) of a hue in [0, 1), as saturated as the luminance leaves room for."""
    turns = hue[..., None] + np.array([0, 2 / 3, 1 / 3], np.float32)
    pure = np.clip(np.abs(np.mod(turns, 1) * 6 - 3) - 1, 0, 1)
    offset = pure - (pure @ LUMINANCE)[..., None]
    room = np.minimum(luminance, 1 - luminance)[..., None] * 2
    return np.clip(luminance[..., None] + saturation[..., None] * room * offset, 0, 1)


def _ground(draws: Draws, look: Rendering) -> tuple[Array, Array]:
    """A smooth ground: four colours blended from the corners, with a slow wave. Returns it and its luminance (n,)."""
    axis = np.linspace(0, 1, look.side, dtype=np.float32)
    level = draws.uniform(0.06, 0.2) if look.chalk else draws.uniform(0.2, 0.8)
    level = level.reshape(-1)
    hue = draws.uniform(0, 1, 1) + draws.uniform(-0.2, 0.2, 4)
    spread = 0.03 if look.chalk else 0.12
    luminance = level[:, None] + draws.uniform(-spread, spread, 4)
    corners = colour(np.mod(hue, 1), draws.uniform(0.1, 0.9, 4), luminance.clip(0.02, 0.98))
    left = corners[:, None, 0] * (1 - axis)[:, None] + corners[:, None, 1] * axis[:, None]
    right = corners[:, None, 2] * (1 - axis)[:, None] + corners[:, None, 3] * axis[:, None]
    ground = left[:, :, None] * (1 - axis)[:, None] + right[:, :, None] * axis[:, None]
    angle, waves, phase = draws.uniform(0, 2 * np.pi, 1, 1), draws.uniform(2, 9, 1, 1), draws.uniform(0, 6.3, 1, 1)
    along = np.cos(angle) * axis[:, None] + np.sin(angle) * axis
    ground += (draws.uniform(0, spread / 2, 1, 1) * np.sin(waves * along + phase))[..., None]
    return ground, level


def _stamp(ground: Array, level: Array, labels: Labels, draws: Draws, look: Rendering) -> None:
    """Paints the motifs onto `ground` in place, one after the other."""
    count, side = look.grid**2, look.side
    radius = draws.uniform(*look.radius, count)
    centre = _centres(draws, look)
    present = draws.uniform(0, 1, count) < 0.85
    present[:, 0] = True
    ink = _ink(draws, level, look, count)
    half = int(look.radius[1] * 1.3) + 3
    corner = np.floor(centre).astype(np.intp) - half
    window = np.arange(2 * half, dtype=np.float32)
    x = window - (centre - corner)[..., 0:1]  # (n, count, window)
    y = window - (centre - corner)[..., 1:2]
    angle = draws.uniform(0, 2 * np.pi, count, 1, 1)
    cos, sin, unit = np.cos(angle), np.sin(angle), 1 / radius[..., None, None]
    u = (cos * x[:, :, None, :] + sin * y[..., None]) * unit
    v = (cos * y[..., None] - sin * x[:, :, None, :]) * unit
    distance = distances(labels, u, v) / unit
    light = draws.uniform(-0.2, 0.2, 1, 2)
    shade = 1 + (light[..., 0:1] * x)[:, :, None, :] * unit + (light[..., 1:2] * y)[..., None] * unit
    glow = draws.uniform(0.0, 0.45, 1)
    pad = 3 * half
    canvas = np.pad(ground, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    image = np.arange(len(ground))[:, None, None]
    for k in range(count):
        where = (
            image,
            corner[:, k, 1, None, None] + pad + np.arange(2 * half)[:, None],
            corner[:, k, 0, None, None] + pad + np.arange(2 * half),
        )
        edge = distance[:, k]
        if look.chalk:
            edge = np.abs(edge) - np.float32(0.9)
        cover = np.clip(np.float32(0.5) - edge, 0, 1) * present[:, k, None, None]
        halo = np.clip(1 - edge / np.float32(5), 0, 1) ** 2 * (glow * present[:, k, None])[..., None]
        paint = ink[:, k, None, None, :] * shade[:, k, ..., None]
        under = canvas[where] * (1 - halo[..., None])
        canvas[where] = under + cover[..., None] * (paint - under)
    ground[:] = canvas[:, pad:-pad, pad:-pad]


def _centres(draws: Draws, look: Rendering) -> Array:
    """Places (n, grid², 2) on a shaken grid that is turned and moved as a whole."""
    period = look.side / look.grid
    cells = (np.stack(np.meshgrid(*[np.arange(look.grid)] * 2), -1).reshape(-1, 2) + 0.5) * period
    shaken = cells.astype(np.float32) - look.side / 2 + draws.uniform(-period / 4, period / 4, look.grid**2, 2)
    angle = draws.uniform(-0.4, 0.4, 1)
    cos, sin = np.cos(angle), np.sin(angle)
    x = cos * shaken[..., 0] - sin * shaken[..., 1]
    y = sin * shaken[..., 0] + cos * shaken[..., 1]
    moved: Array = np.stack([x, y], -1) + look.side / 2 + draws.uniform(-period / 4, period / 4, 1, 2)
    return moved


def _ink(draws: Draws, level: Array, look: Rendering, count: int) -> Array:
    """A colour (n, count, 3) for each motif: lighter or darker than the ground; on a blackboard pale."""
    hue, saturation = draws.uniform(0, 1, count), draws.uniform(0.1, 1, count)
    step = draws.uniform(0.25, 0.45, count)
    lighter = draws.uniform(0.15, 0.85, count) > level[:, None]
    if look.chalk:
        return colour(hue, saturation * np.float32(0.5), draws.uniform(0.65, 0.95, count))
    return colour(hue, saturation, np.clip(level[:, None] + np.where(lighter, step, -step), 0.03, 0.97))
