"""The interval of a share of images, and how long it is with few images. Imports no torch."""

from math import sqrt
from typing import Final

Z_95: Final = 1.96  # half the length of a 95 % interval of a normal distribution, in standard deviations
LONG: Final = 0.1  # an accuracy has few images if its interval is longer than ± LONG


def wilson(correct: float, count: float, z: float = Z_95) -> tuple[float, float]:
    """Wilson score interval of the proportion correct / count (Wilson 1927); 95 % by default.

    The interval lies in [0, 1] for every count, unlike the normal approximation.
    """
    share = correct / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, float(centre - half)), min(1.0, float(centre + half))


def long_interval(count: int) -> tuple[float, float] | None:
    """The 95 % interval of an accuracy of 0.5 on `count` images, if they are few: longer than 0.5 ± LONG; else None."""
    low, high = wilson(count / 2, count)
    return (low, high) if high - low > 2 * LONG else None
