"""Sharpness: how much the loss rises in a neighbourhood of the weights that scales with each weight.

A measure is nan if a loss that it compares is not finite.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor

from ssl_pkg.evaluation.width.noise import Interval, gaussian, mean_interval
from ssl_pkg.evaluation.width.perturb import Objective, Values

PAC_BAYES_EPSILON = 1e-3  # Jiang et al. 1912.02178, appendix: perturbs weights that are zero, too
PAC_BAYES_RANGE = (2.0**-8, 2.0**4)  # of the bisection: results are .03 to .3 for networks and .1 to 3 for heads


def adaptive_worst(objective: Objective, rho: float, steps: int, *, normalized: bool) -> Interval:
    """Adaptive worst-case sharpness (nats) of the loss, or of the loss of the normalised logits:

        max L(w + delta) - L(w)  over  ||delta / |w| ||_inf <= rho, that is |delta_i| <= rho |w_i| for every weight.

    ASAM (Kwon et al. 2102.11600, definition 2) with p = inf and eta = 0, as evaluated by Andriushchenko et al.
    2302.07011, who use radii of .001 to .008 for a ResNet-18. p = inf makes rho the relative change of each weight, so
    that rho means the same for a head of 5,130 weights and for a network of 11 million. eta = 0 makes the value
    invariant to every w -> T w, T positive and diagonal, that leaves the function unchanged; weights that are zero stay
    zero. The maximum is that of the mean loss of the whole subset, not of single batches (m-sharpness with m = n).
    """
    start = _loss(objective.start, normalized)
    return Interval(_maximum(objective, rho * objective.weights.abs(), steps, normalized) - start)


def adaptive_average(objective: Objective, rho: float, draws: int, seed: int) -> tuple[Interval, Interval]:
    """Adaptive average sharpness (nats) of the loss, and of the loss of the normalised logits:

        E L(w + rho |w| * noise) - L(w),  noise standard normal.

    Andriushchenko et al. 2302.07011, section 2, who use rho = .05 to .4 for a ResNet-18. The noise depends only on
    `seed`: it is the same for every model of an architecture and for every rho.
    """
    start, weights = objective.start, objective.weights
    radius = rho * weights.abs()
    values = [
        objective.at(torch.addcmul(weights, radius, gaussian(weights, seed, "average", draw))) for draw in range(draws)
    ]
    return (
        mean_interval([value.loss - start.loss for value in values]),
        mean_interval([value.normalized_loss - start.normalized_loss for value in values]),
    )


def keskar(objective: Objective, epsilon: float, steps: int) -> Interval:
    """(C_epsilon, A)-sharpness in per cent, with A = I:

        100 (max L(w + delta) - L(w)) / (1 + L(w))  over  |delta_i| <= epsilon (|w_i| + 1).

    Keskar et al. 1609.04836, metric 2.1, who maximise with ten iterations of L-BFGS-B. The measure is not invariant to
    rescaling; it is included because it is widely reported.
    """
    start = objective.start.loss
    radius = epsilon * (objective.weights.abs() + 1)
    highest = _maximum(objective, radius, steps, normalized=False)
    return Interval(100 * (highest - start) / (1 + start))


def pac_bayes_width(objective: Objective, drop: float, steps: int, draws: int, seed: int) -> Interval:
    """Magnitude-aware PAC-Bayes width: the largest sigma with

        E accuracy(w + sigma sqrt(w^2 + epsilon^2) * noise) >= accuracy(w) - drop,  noise standard normal.

    Jiang et al. 1912.02178, appendix, with their drop of .1 (their measure is 1 / sigma^2). Found by `steps` of
    bisection in log sigma within PAC_BAYES_RANGE. The mean is over the same `draws` of noise for every sigma and every
    model. The value is the sigma at which the mean accuracy, interpolated linearly in log sigma, falls below the bound.
    The ends of the interval are the sigmas at which the ends of the mean's interval do; there is no interval if an end
    does not fall below the bound within the sigmas tried.
    """
    if not math.isfinite(objective.start.normalized_loss):  # the model has no accuracy
        return Interval(math.nan)
    weights = objective.weights
    scale = (weights.square() + PAC_BAYES_EPSILON**2).sqrt()
    noise = [scale * gaussian(weights, seed, "pac-bayes", draw) for draw in range(draws)]
    bound = objective.start.accuracy - drop
    low, high = (math.log(end) for end in PAC_BAYES_RANGE)
    tried: dict[float, Interval] = {}
    for _ in range(steps):
        middle = (low + high) / 2
        noisy = (torch.add(weights, part, alpha=math.exp(middle)) for part in noise)
        tried[middle] = mean_interval([objective.at(point).accuracy for point in noisy])
        low, high = (middle, high) if tried[middle].value >= bound else (low, middle)
    curve = sorted(tried.items())
    value = _crossing([(at, accuracy.value) for at, accuracy in curve], bound)
    if value is None:  # every sigma tried is on the same side of the bound
        value = math.exp(high if curve[0][1].value >= bound else low)
    least = _crossing([(at, accuracy.low) for at, accuracy in curve if accuracy.low is not None], bound)
    most = _crossing([(at, accuracy.high) for at, accuracy in curve if accuracy.high is not None], bound)
    return Interval(value, least, most) if least is not None and most is not None else Interval(value)


def _crossing(curve: list[tuple[float, float]], bound: float) -> float | None:
    """The sigma at which a curve of (log sigma, accuracy) first falls below `bound`."""
    for (left, before), (right, after) in pairwise(curve):
        if after < bound <= before:
            return math.exp(left + (right - left) * (before - bound) / (before - after))
    return None


def _maximum(objective: Objective, radius: Tensor, steps: int, normalized: bool) -> float:
    """The largest loss found by `steps` of projected gradient ascent from w in the box |delta_i| <= radius_i.

    A step is a multiple of radius along the sign of the gradient: 2 radius, which reaches the opposite corner, in the
    first half of the steps, then decreasing linearly to 0. The result is the maximum over all points visited, among
    them w, so it is never below L(w).
    """
    best = _loss(objective.start, normalized)
    delta = torch.zeros_like(radius)
    for step in range(steps):
        loss, gradient = objective.gradient(objective.weights + delta, normalized=normalized)
        if not math.isfinite(loss):  # max() would ignore a nan and return the maximum of the other points
            return math.nan
        best = max(best, loss)
        size = 2 * min(1.0, 2 * (1 - step / steps))
        delta = (delta + size * radius * gradient.sign()).clamp(-radius, radius)
    last = _loss(objective.at(objective.weights + delta), normalized)
    return max(best, last) if math.isfinite(last) else math.nan


def _loss(values: Values, normalized: bool) -> float:
    return values.normalized_loss if normalized else values.loss
