"""Sharpness: how much the loss rises in a neighbourhood of the weights that scales with each weight.

A measure is nan if a loss that it compares is not finite.
"""

import math
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from ssl_pkg.evaluation.width.noise import Bound, Interval, gaussian, mean_interval
from ssl_pkg.evaluation.width.perturb import Objective

PAC_BAYES_EPSILON = 1e-3  # Jiang et al. 1912.02178, appendix: perturbs weights that are zero, too
PAC_BAYES_RANGE = (2.0**-8, 2.0**4)  # of the bisection: results are .03 to .3 for networks and .1 to 3 for heads


def adaptive_worst(
    objective: Objective, rho: float, steps: int, images: int, seed: int, *, normalized: bool
) -> tuple[Interval, Interval]:
    """Adaptive worst-case sharpness (nats) of the loss, or of the loss of the normalised logits, and its prediction.

    The mean over random subsets S of m = about `images` images of

        max L_S(w + delta) - L_S(w)  over  ||delta / |w| ||_inf <= rho, that is |delta_i| <= rho |w_i| for every weight,

    and of its first-order term rho sum_i |w_i dL_S/dw_i|, the maximum of <dL_S/dw, delta> over the same box.

    ASAM (Kwon et al. 2102.11600, definition 2) with p = inf and eta = 0, as evaluated by Andriushchenko et al.
    2302.07011, section 2, who take the mean of the maxima over batches of m = 128 (m-sharpness, Foret et al.
    2010.01412). p = inf makes rho the relative change of each weight, so that rho means the same for a head of 5,130
    weights and for a network of 11 million. eta = 0 makes the value invariant to every w -> T w, T positive and
    diagonal, that leaves the function unchanged; weights that are zero stay zero. The intervals are over the subsets.
    """
    rises, predictions = [], []
    for part in objective.parts(images, seed):
        radius = rho * part.weights.abs()
        found = _ascend(part, radius, steps, normalized)
        rises.append(found.highest - found.unperturbed)
        predictions.append(torch.dot(radius, found.gradient.abs()).item())
    return mean_interval(rises), mean_interval(predictions)


def adaptive_average(objective: Objective, rho: float, draws: int, seed: int) -> tuple[Interval, Interval]:
    """Adaptive average sharpness (nats) of the loss, and of the loss of the normalised logits:

        E L(w + rho |w| * noise) - L(w),  noise standard normal.

    Andriushchenko et al. 2302.07011, section 2, who use rho = .05 to .4 for a ResNet-18. The noise depends only on
    `seed`: it is the same for every model of an architecture and for every rho.
    """
    unperturbed, weights = objective.unperturbed, objective.weights
    radius = rho * weights.abs()
    values = [
        objective.at(torch.addcmul(weights, radius, gaussian(weights, seed, "average", draw))) for draw in range(draws)
    ]
    return (
        mean_interval([value.loss - unperturbed.loss for value in values]),
        mean_interval([value.normalized_loss - unperturbed.normalized_loss for value in values]),
    )


def keskar(objective: Objective, epsilon: float, steps: int) -> Interval:
    """(C_epsilon, A)-sharpness in per cent, with A = I:

        100 (max L(w + delta) - L(w)) / (1 + L(w))  over  |delta_i| <= epsilon (|w_i| + 1).

    Keskar et al. 1609.04836, metric 2.1, who maximise with ten iterations of L-BFGS-B. The measure is not invariant to
    rescaling; it is included because it is widely reported. The maximum is that of the mean loss of the whole subset.
    """
    found = _ascend(objective, epsilon * (objective.weights.abs() + 1), steps, normalized=False)
    return Interval(100 * (found.highest - found.unperturbed) / (1 + found.unperturbed))


def pac_bayes_width(objective: Objective, drop: float, steps: int, draws: int, seed: int) -> Interval | Bound:
    """Magnitude-aware PAC-Bayes width: the largest sigma with

        E accuracy(w + sigma sqrt(w^2 + epsilon^2) * noise) >= accuracy(w) - d,  noise standard normal,
        d = min(drop, (accuracy(w) - chance) / 2),

    where chance is the accuracy of the best constant prediction.
    Jiang et al. 1912.02178, appendix, with their drop of .1 (their measure is 1 / sigma^2). Their noise has the
    variance sigma^2 w^2 + epsilon^2; here sigma scales epsilon too, so that the noise vanishes with sigma. Near chance
    the drop is relative, because noise can't reduce an accuracy much below chance: with d = drop a model with an
    accuracy of chance + drop would be infinitely wide. A model that is not above chance has no width.

    Found by `steps` of bisection in log sigma within PAC_BAYES_RANGE. The mean is over the same `draws` of noise for
    every sigma and every model. The value is the sigma at which the mean accuracy, interpolated linearly in log sigma,
    falls below the limit. The ends of the interval are the sigmas at which the ends of the mean's interval do; there is
    no interval if an end does not fall below the limit within the sigmas tried. If all sigmas that were tried are on
    the same side of the limit, the last one is a bound.
    """
    accuracy, chance = objective.unperturbed.accuracy, objective.chance
    if not math.isfinite(objective.unperturbed.normalized_loss):  # the model has no accuracy
        return Interval(math.nan)
    if accuracy <= chance:
        return Interval(math.nan, reason="the model's accuracy on the subset is not above chance")
    weights, limit = objective.weights, accuracy - min(drop, (accuracy - chance) / 2)
    scale = (weights.square() + PAC_BAYES_EPSILON**2).sqrt()
    noise = [scale * gaussian(weights, seed, "pac-bayes", draw) for draw in range(draws)]
    low, high = (math.log(end) for end in PAC_BAYES_RANGE)
    tried: dict[float, Interval] = {}
    for _ in range(steps):
        middle = (low + high) / 2
        noisy = (torch.add(weights, part, alpha=math.exp(middle)) for part in noise)
        tried[middle] = mean_interval([objective.at(point).accuracy for point in noisy])
        low, high = (middle, high) if tried[middle].value >= limit else (low, middle)
    curve = sorted(tried.items())
    value = _crossing([(at, mean.value) for at, mean in curve], limit)
    if value is None:
        wide = curve[0][1].value >= limit
        end = math.exp(low if wide else high)
        reason = f"the accuracy {'stays above' if wide else 'is below'} the limit at every sigma that was tried"
        return Bound(end, None, reason) if wide else Bound(None, end, reason)
    least = _crossing([(at, mean.low) for at, mean in curve if mean.low is not None], limit)
    most = _crossing([(at, mean.high) for at, mean in curve if mean.high is not None], limit)
    return Interval(value, least, most) if least is not None and most is not None else Interval(value)


def _crossing(curve: list[tuple[float, float]], bound: float) -> float | None:
    """The sigma at which a curve of (log sigma, accuracy) first falls below `bound`."""
    for (left, before), (right, after) in pairwise(curve):
        if after < bound <= before:
            return math.exp(left + (right - left) * (before - bound) / (before - after))
    return None


class _Ascent(NamedTuple):
    """The loss L(w), its gradient (P,) at w, and the largest loss found, nan if a loss is not finite."""

    unperturbed: float
    gradient: Tensor
    highest: float


def _ascend(objective: Objective, radius: Tensor, steps: int, normalized: bool) -> _Ascent:
    """The largest loss found by `steps` of projected gradient ascent from w in the box |delta_i| <= radius_i.

    A step is a multiple of radius along the sign of the gradient: 2 radius, which reaches the opposite corner, in the
    first half of the steps, then decreasing linearly to 0. The result is the maximum over all points visited, among
    them w, so it is never below L(w), and it is a lower bound of the maximum in the box.
    """
    unperturbed, first = objective.gradient(objective.weights, normalized=normalized)
    highest, gradient, delta = unperturbed, first, torch.zeros_like(radius)
    for step in range(steps):
        size = 2 * min(1.0, 2 * (1 - step / steps))
        delta = (delta + size * radius * gradient.sign()).clamp(-radius, radius)
        point = objective.weights + delta
        if step < steps - 1:
            loss, gradient = objective.gradient(point, normalized=normalized)
        else:
            loss = objective.at(point).of(normalized)
        if not math.isfinite(loss):  # max() would ignore a nan and return the maximum of the other points
            return _Ascent(unperturbed, first, math.nan)
        highest = max(highest, loss)
    return _Ascent(unperturbed, first, highest if math.isfinite(unperturbed) else math.nan)
