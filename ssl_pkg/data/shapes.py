"""The ten motifs of the synthetic images, as signed distance functions.

Each function takes coordinates u, v (any shape, float32; v points down) in units of the motif's radius and returns the
distance to the motif's edge, negative inside. Near the edge the value approximates the true distance well enough for
antialiasing. No motif is a rotated, mirrored or scaled copy of another.
"""

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


def ring(u: Array, v: Array) -> Array:
    """A circle with a round hole."""
    return np.abs(np.hypot(u, v) - np.float32(0.66)) - np.float32(0.24)


def window(u: Array, v: Array) -> Array:
    """A square of four panes."""
    a, b = np.abs(np.abs(u) - np.float32(0.46)), np.abs(np.abs(v) - np.float32(0.46))
    return np.maximum(a, b) - np.float32(0.33)


def triangle(u: Array, v: Array) -> Array:
    """An equilateral triangle with a hole."""
    whole = np.maximum(np.float32(0.8660254) * np.abs(u) - np.float32(0.5) * v, v) - np.float32(0.57)
    return np.asarray(np.abs(whole + np.float32(0.15)) - np.float32(0.15), np.float32)


def zigzag(u: Array, v: Array) -> Array:
    """A zigzag line of four strokes."""
    slope = np.abs(np.mod(u + np.float32(0.5), np.float32(1.0)) - np.float32(0.5)) - np.float32(0.25)
    line = np.abs(v - np.float32(1.7) * slope) * np.float32(0.507) - np.float32(0.13)
    return np.asarray(np.maximum(line, np.abs(u) - np.float32(0.95)), np.float32)


def star(u: Array, v: Array) -> Array:
    """A star with five points."""
    sector = 2 * np.pi / 5
    angle = np.abs(np.mod(np.arctan2(u, -v) + sector / 2, sector) - sector / 2)
    radius = np.hypot(u, v)
    # the edge from a point (radius 1, angle 0) to a notch (radius .42, angle sector / 2)
    notch_x, notch_y = 0.42 * np.cos(sector / 2), 0.42 * np.sin(sector / 2)
    length = np.hypot(notch_y, 1 - notch_x)
    normal_x, normal_y = np.float32(notch_y / length), np.float32((1 - notch_x) / length)
    return np.asarray(
        (radius * np.cos(angle) - np.float32(1)) * normal_x + radius * np.sin(angle) * normal_y, np.float32
    )


def cross(u: Array, v: Array) -> Array:
    """A plus sign."""
    a, b = np.abs(u), np.abs(v)
    return np.maximum(np.maximum(a, b) - np.float32(0.95), np.minimum(a, b) - np.float32(0.29))


def moon(u: Array, v: Array) -> Array:
    """A crescent."""
    bite = np.float32(0.72) - np.hypot(u - np.float32(0.55), v)
    return np.asarray(np.maximum(np.hypot(u + np.float32(0.15), v) - np.float32(0.9), bite), np.float32)


def heart(u: Array, v: Array) -> Array:
    """A heart."""
    scale = np.float32(0.62)
    a, b = np.abs(u) * scale, np.float32(0.52) - v * scale  # the point of the heart is at (0, 0), its notch at (0, 1)
    lobe = np.hypot(a - np.float32(0.25), b - np.float32(0.75)) - np.float32(0.35355339)
    along = np.maximum(a + b, 0) * np.float32(0.5)
    wedge = np.sqrt(np.minimum(a**2 + (b - 1) ** 2, (a - along) ** 2 + (b - along) ** 2)) * np.sign(a - b)
    return np.asarray(np.where(a + b > 1, lobe, wedge) / scale, np.float32)


def flower(u: Array, v: Array) -> Array:
    """Six round petals around a hole."""
    sector = np.pi / 3
    angle = np.mod(np.arctan2(v, u), sector) - sector / 2
    radius = np.hypot(u, v)
    petal = np.hypot(radius * np.cos(angle) - np.float32(0.66), radius * np.sin(angle)) - np.float32(0.3)
    return np.asarray(np.maximum(np.minimum(petal, radius - np.float32(0.62)), np.float32(0.24) - radius), np.float32)


def stick(u: Array, v: Array) -> Array:
    """A long bar with round ends."""
    return np.hypot(np.maximum(np.abs(u) - np.float32(0.72), 0), v) - np.float32(0.26)


MOTIFS: Final[dict[str, Callable[[Array, Array], Array]]] = {
    "cross": cross,
    "flower": flower,
    "heart": heart,
    "moon": moon,
    "ring": ring,
    "star": star,
    "stick": stick,
    "triangle": triangle,
    "window": window,
    "zigzag": zigzag,
}
CLASSES: Final = tuple(MOTIFS)  # in alphabetical order, as in STL-10


def distances(labels: NDArray[np.intp], u: Array, v: Array) -> Array:
    """Signed distances (n, ...) to motif `labels[i]` at the points u[i], v[i]. labels: (n,); u, v: (n, ...)."""
    result = np.empty(u.shape, np.float32)
    for label, motif in enumerate(MOTIFS.values()):
        here = np.flatnonzero(labels == label)
        result[here] = motif(u[here], v[here])
    return result
