"""Random noise that is the same for every model and device, and means over draws of it."""

import math
import statistics
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor


class Interval(NamedTuple):
    """A value, nan if it can't be computed, and the ends of its interval, None without one.

    The interval is 95 % over draws or subsets. For an eigenvalue it is the residual bounds.
    """

    value: float
    low: float | None = None
    high: float | None = None
    reason: str = ""  # why the value is nan; empty if a loss or derivative is not finite


class Bound(NamedTuple):
    """A number of which only a bound is known; exactly one of the two bounds is not None."""

    at_least: float | None
    at_most: float | None
    reason: str


def generator(seed: int, purpose: str, draw: int = 0) -> torch.Generator:
    """The generator for draw number `draw` of `purpose`, on the CPU, so that every device gets the same noise."""
    state = np.random.SeedSequence([seed, draw, *purpose.encode()]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))


def gaussian(like: Tensor, seed: int, purpose: str, draw: int = 0) -> Tensor:
    """Standard normal noise with the shape and device of `like`; it depends only on shape, seed, purpose and draw."""
    return torch.randn(like.shape, generator=generator(seed, purpose, draw)).to(like.device)


def mean_interval(draws: list[float]) -> Interval:
    """Mean of independent draws and its 95 % interval by Student's t; a single draw has no interval.

    Student's t matters for few draws: with three, the interval is 4.3 standard errors to either side, not 1.96. If a
    draw is not finite, the mean is nan.
    """
    if not all(map(math.isfinite, draws)):
        return Interval(math.nan)
    mean = statistics.fmean(draws)
    if len(draws) < 2:
        return Interval(mean)
    half = float(stdtrit(len(draws) - 1, 0.975)) * statistics.stdev(draws) / math.sqrt(len(draws))
    return Interval(mean, mean - half, mean + half)
