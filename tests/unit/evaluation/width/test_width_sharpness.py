import copy
import itertools
import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_networks import convolutional, draw, fill, labels, learnable, mlp, objective
from test_width_perturb import whole_loss
from torch import Tensor, nn

from ssl_pkg.evaluation.width.folding import fold_batch_norm
from ssl_pkg.evaluation.width.hessian import top_eigenvalues
from ssl_pkg.evaluation.width.noise import Bound, Interval, gaussian, mean_interval
from ssl_pkg.evaluation.width.perturb import Objective, Values, normalize
from ssl_pkg.evaluation.width.sharpness import (
    PAC_BAYES_EPSILON,
    adaptive_average,
    adaptive_worst,
    keskar,
    pac_bayes_width,
)

ALL = 1000  # images of a maximum: more than any of these sets has


def worst(found: Objective, rho: float, steps: int, *, normalized: bool = False) -> float:
    """Adaptive worst-case sharpness with one maximum over all images."""
    return adaptive_worst(found, rho, steps, ALL, 0, normalized=normalized)[0].value


def highest_corner(found: Objective, radius: Tensor) -> float:
    """The largest loss over the corners of the box, which is the maximum over the box if the loss is convex."""
    corners = (torch.tensor(signs) for signs in itertools.product((-1.0, 1.0), repeat=len(radius)))
    return max(found.at(found.weights + signs * radius).loss for signs in corners)


@pytest.mark.parametrize("rho", [0.01, 0.3])
def test_worst_case_and_keskar_of_a_linear_model_equal_brute_force(rho: float) -> None:
    found = objective(fill(nn.Linear(2, 2)), draw(15, 2), labels(15, 2))
    start = found.unperturbed.loss
    expected = highest_corner(found, rho * found.weights.abs()) - start
    assert worst(found, rho, 10) == pytest.approx(expected, rel=1e-4)
    expected = 100 * (highest_corner(found, rho * (found.weights.abs() + 1)) - start) / (1 + start)
    assert keskar(found, rho, 10).value == pytest.approx(expected, rel=1e-4)


def test_for_a_small_radius_the_first_order_term_dominates() -> None:
    found = objective(mlp(nn.Tanh()), draw(15, 3), labels(15, 3))
    _, gradient = found.gradient(found.weights)
    expected = 1e-3 * (found.weights * gradient).abs().sum().item()
    rise, predicted = adaptive_worst(found, 1e-3, 3, ALL, 0, normalized=False)
    assert rise.value == pytest.approx(expected, rel=1e-2)
    assert predicted.value == pytest.approx(expected, rel=1e-5)


def test_the_maxima_are_averaged_over_subsets_of_m_images() -> None:
    found = objective(mlp(nn.Tanh()), draw(16, 3), labels(16, 3))
    rises = [worst(part, 0.1, 5) for part in found.parts(4, seed=3)]
    rise, predicted = adaptive_worst(found, 0.1, 5, 4, 3, normalized=False)
    assert rise[:3] == pytest.approx(mean_interval(rises)[:3])
    assert predicted.low is not None
    assert predicted.low < predicted.value
    assert rise.value > worst(found, 0.1, 5)  # smaller sets have higher maxima


class Quadratic:
    """L(w) = sum_i a_i w_i^2 / 2 with the interface of Objective, for closed forms."""

    def __init__(self, factors: Tensor, weights: Tensor) -> None:
        self.factors, self.weights, self.count = factors, weights, 1
        self.unperturbed = self.at(weights)

    def at(self, weights: Tensor) -> Values:
        loss = (self.factors * weights.square()).sum().item() / 2
        return Values(loss, loss, 1.0)

    def gradient(self, weights: Tensor, *, normalized: bool) -> tuple[float, Tensor]:
        return self.at(weights).of(normalized), self.factors * weights

    def parts(self, images: int, seed: int) -> list[Any]:
        return [self]


def test_the_sharpness_of_a_quadratic_equals_its_closed_form() -> None:
    factors, weights, rho = draw(50, seed=1).abs(), draw(50), 0.3
    found: Any = Quadratic(factors, weights)
    square = (factors * weights.square()).sum().item()
    rise, predicted = adaptive_worst(found, rho, 10, ALL, 0, normalized=False)
    assert rise.value == pytest.approx(square * ((1 + rho) ** 2 - 1) / 2, rel=1e-4)
    assert predicted.value == pytest.approx(square * rho, rel=1e-5)
    highest = (factors * (weights.abs() + rho * (weights.abs() + 1)).square()).sum().item() / 2
    assert keskar(found, rho, 10).value == pytest.approx(100 * (highest - square / 2) / (1 + square / 2), rel=1e-4)
    average, _ = adaptive_average(found, rho, 4000, seed=0)
    assert average.value == pytest.approx(square * rho**2 / 2, rel=0.02)


def test_one_step_of_the_ascent_reaches_a_corner_of_the_box() -> None:
    found: Any = Quadratic(torch.ones(5), draw(5))
    assert worst(found, 0.3, 1) == pytest.approx(found.unperturbed.loss * (1.3**2 - 1), rel=1e-5)


@pytest.mark.parametrize("steps", [1, 2])
def test_an_ascent_that_ends_lower_than_it_began_has_found_no_rise(steps: int) -> None:
    """L(w) = -sum_i w_i^2 / 2 is lower in all corners of a box that reaches beyond the maximum at 0."""
    found: Any = Quadratic(-torch.ones(5), draw(5))
    assert worst(found, 3.0, steps) == 0


def test_worst_case_with_normalised_logits_equals_a_dense_grid() -> None:
    inputs, target = draw(9, 1), labels(9, 3)
    found = objective(fill(nn.Linear(1, 3, bias=False)), inputs, target)
    factors = torch.cartesian_prod(*[torch.linspace(0.8, 1.2, 21)] * 3)
    logits = torch.einsum("gk,n->gnk", factors * found.weights, inputs[:, 0])
    losses = F.cross_entropy(normalize(logits.flatten(0, 1)), target.repeat(len(factors)), reduction="none")
    expected = losses.view(len(factors), -1).mean(1).max().item() - found.unperturbed.normalized_loss
    assert worst(found, 0.2, 20, normalized=True) == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_average_sharpness_equals_quadrature() -> None:
    target = labels(15, 2)
    inputs, network = 3.0 * target[:, None] - 1.5 + 0.5 * draw(15, 1), nn.Linear(1, 2, bias=False)
    network.weight.data = torch.tensor([[-1.0], [0.7]])
    found = objective(network, inputs, target)
    nodes, masses = np.polynomial.hermite_e.hermegauss(40)  # the loss depends on w_1 - w_0, a normal variable
    first, second = found.weights.double().tolist()
    differences = second - first + 0.5 * np.hypot(first, second) * nodes
    signs = np.where(target.numpy() == 1, -1, 1)[:, None] * inputs.double().numpy()
    expected = (np.logaddexp(0, signs * differences).mean(0) * masses).sum() / masses.sum() - found.unperturbed.loss
    average, normalized = adaptive_average(found, 0.5, 2000, seed=0)
    assert average.low is not None
    error = average.value - average.low
    assert abs(average.value - expected) < 2 * error < 0.4 * expected
    assert normalized.value > 0


@pytest.mark.slow
def test_pac_bayes_width_equals_a_dense_scan_with_other_noise() -> None:
    inputs, target = learnable(120, 3, 4)
    network = nn.Linear(3, 4)
    for _ in range(50):  # gradient descent
        gradients = torch.autograd.grad(F.cross_entropy(network(inputs), target), list(network.parameters()))
        for weight, gradient in zip(network.parameters(), gradients, strict=True):
            weight.data -= gradient
    found = objective(network, inputs, target)
    rng = np.random.default_rng(1)
    weight, bias = (parameter.detach().numpy() for parameter in network.parameters())
    noise = rng.standard_normal((600, 16))
    scan = np.geomspace(0.1, 1.5, 50)
    accuracy = []
    for sigma in scan:
        moved = np.concatenate([weight.ravel(), bias])
        moved = moved + sigma * np.sqrt(moved**2 + 1e-6) * noise
        logits = np.einsum("nf,dcf->dnc", inputs.numpy(), moved[:, :12].reshape(-1, 4, 3)) + moved[:, None, 12:]
        accuracy.append((logits.argmax(2) == target.numpy()).mean())
    expected = scan[np.flatnonzero(np.array(accuracy) >= found.unperturbed.accuracy - 0.1)[-1]]
    width = pac_bayes_width(found, 0.1, 14, 300, seed=0)
    assert isinstance(width, Interval)
    assert width.value == pytest.approx(expected, rel=0.08)
    assert width.low is not None
    assert width.high is not None
    assert 0.8 * expected < width.low < width.value < width.high < 1.25 * expected


def perturbed_to(accuracy: float) -> Any:
    """An objective whose accuracy is .9, and `accuracy` at any other weights than its own."""
    own = torch.ones(3)
    at = Values(0.1, 0.1, accuracy)
    return SimpleNamespace(weights=own, unperturbed=Values(0.1, 0.1, 0.9), chance=0.1, at=lambda weights: at)


def test_a_pac_bayes_width_outside_its_search_range_is_a_bound() -> None:
    wide = pac_bayes_width(perturbed_to(0.85), 0.1, 6, 3, seed=0)
    assert isinstance(wide, Bound)
    assert (wide.at_least, wide.at_most) == (pytest.approx(2 ** (4 - 12 / 64)), None)
    assert "stays above" in wide.reason
    narrow = pac_bayes_width(perturbed_to(0.3), 0.1, 6, 3, seed=0)
    assert isinstance(narrow, Bound)
    assert (narrow.at_least, narrow.at_most) == (None, pytest.approx(2 ** (-8 + 12 / 64)))


@pytest.mark.parametrize(("start", "limit"), [(0.9, 0.8), (0.31, 0.21), (0.2, 0.15)])
def test_near_chance_the_drop_is_half_of_the_excess_over_chance(start: float, limit: float) -> None:
    """The accuracy is start - sigma / 2, so that the width is 2 (start - limit)."""
    weights = torch.zeros(1)  # perturbed by sigma epsilon times a draw
    noise = PAC_BAYES_EPSILON * gaussian(weights, 0, "pac-bayes").abs().item()
    found: Any = SimpleNamespace(
        weights=weights,
        unperturbed=Values(1.0, 1.0, start),
        chance=0.1,
        at=lambda moved: Values(1.0, 1.0, start - moved.abs().item() / noise / 2),
    )
    width = pac_bayes_width(found, 0.1, 16, 1, seed=0)
    assert isinstance(width, Interval)
    assert width.value == pytest.approx(2 * (start - limit), rel=1e-3)


def test_a_model_at_chance_has_no_pac_bayes_width() -> None:
    inputs = draw(8, 2)
    constant = objective(fill(nn.Linear(2, 1)), inputs, torch.zeros(8, dtype=torch.int64))
    assert constant.chance == 1
    width = pac_bayes_width(constant, 0.1, 6, 3, seed=0)
    assert isinstance(width, Interval)
    assert math.isnan(width.value)
    assert "not above chance" in width.reason
    assert objective(mlp(nn.ReLU()), draw(4, 3), torch.tensor([0, 1, 1, 2])).chance == 0.5


def measured(found: Objective) -> list[float]:
    """The measures that promise not to change when a rescaling leaves the function as it is."""
    average = adaptive_average(found, 0.1, 4, seed=0)
    return [
        *(worst(found, 0.01, 4, normalized=normalized) for normalized in (False, True)),
        *(interval.value for interval in average),
    ]


@pytest.mark.slow
def test_scaling_a_convolution_before_its_batch_norm_changes_nothing() -> None:
    model, inputs, target = convolutional(), draw(12, 3, 9, 9), labels(12, 4)
    model.get_submodule("fc").bias.data -= model(inputs).mean(0)  # otherwise it predicts one class
    before = objective(fold_batch_norm(model), inputs, target)
    scaled = copy.deepcopy(model)
    convolution, norm = scaled[3], scaled[4]
    convolution.weight.data *= 3
    convolution.bias.data *= 3
    norm.running_mean *= 3
    norm.running_var = 9 * (norm.running_var + norm.eps) - norm.eps
    torch.testing.assert_close(scaled(inputs), model(inputs), rtol=1e-5, atol=1e-5)
    after = objective(fold_batch_norm(scaled), inputs, target)
    assert measured(after) == pytest.approx(measured(before), rel=1e-3)
    assert keskar(after, 1e-3, 4).value == pytest.approx(keskar(before, 1e-3, 4).value, rel=1e-3)
    right = model(inputs).argmax(1)  # above chance, so that there is a PAC-Bayes width
    both = [objective(found.network, inputs, right) for found in (before, after)]
    widths = [pac_bayes_width(found, 0.1, 8, 20, seed=0) for found in both]
    assert widths[0][0] == pytest.approx(widths[1][0], rel=1e-2)


def test_rescaled_nodes_change_the_hessian_but_not_the_adaptive_measures() -> None:
    """Dinh et al. 1703.04933: the function is the same, its Hessian as large as one likes."""
    network, inputs, target = mlp(nn.ReLU()), draw(20, 3), labels(20, 3)
    before = objective(network, inputs, target)
    scaled = copy.deepcopy(network)
    factors = torch.tensor([10.0, 0.2, 4.0, 30.0, 0.5])
    scaled[0].weight.data *= factors[:, None]
    scaled[0].bias.data *= factors
    scaled[2].weight.data /= factors
    after = objective(scaled, inputs, target)
    assert after.unperturbed == pytest.approx(before.unperturbed, rel=1e-5)
    assert measured(after) == pytest.approx(measured(before), rel=1e-3)
    tops = [top_eigenvalues(found, 20, seed=0)[0].value for found in (before, after)]
    assert tops[1] > 10 * tops[0]
    assert keskar(after, 1e-2, 4).value > 2 * keskar(before, 1e-2, 4).value


@pytest.mark.slow
def test_a_rescaled_convolution_changes_the_other_measures_by_the_predicted_factors() -> None:
    """conv (c W) -> ReLU -> conv (V / c) is the same function, with w' = t w and t known for each weight.

    Then H' = T^-1 H T^-1, and Keskar's box |delta'_i| <= epsilon (|w'_i| + 1) is |delta_i| <= epsilon (|w_i| + 1 / t_i)
    in the first network's coordinates.
    """
    body = (nn.Conv2d(2, 3, 3, bias=False), nn.ReLU(), nn.Conv2d(3, 3, 3, bias=False), nn.AdaptiveAvgPool2d(1))
    network, inputs, target = fill(nn.Sequential(*body, nn.Flatten())), draw(12, 2, 7, 7), labels(12, 3)
    scaled = copy.deepcopy(network)
    factors = torch.tensor([4.0, 0.5, 3.0])
    scaled[0].weight.data *= factors[:, None, None, None]
    scaled[2].weight.data /= factors[None, :, None, None]
    before, after = (objective(one, inputs, target) for one in (network, scaled))
    assert after.unperturbed == pytest.approx(before.unperturbed, rel=1e-5)
    assert measured(after) == pytest.approx(measured(before), rel=0.01)
    scale = after.weights / before.weights
    dense = torch.autograd.functional.hessian(lambda flat: whole_loss(network, inputs, target, flat), before.weights)
    assert isinstance(dense, Tensor)
    moved = dense / scale[:, None] / scale[None, :]
    tops = [top_eigenvalues(found, 30, seed=0)[0].value for found in (before, after)]
    predicted = torch.linalg.eigvalsh(moved)[-1].item() / torch.linalg.eigvalsh(dense)[-1].item()
    assert tops[1] / tops[0] == pytest.approx(predicted, rel=0.01)
    assert not 0.8 < predicted < 1.25
    _, gradient = before.gradient(before.weights)
    slopes = [((before.weights.abs() + 1 / t) * gradient.abs()).sum().item() for t in (torch.ones(()), scale)]
    keskars = [keskar(found, 1e-4, 3).value for found in (before, after)]
    assert keskars[1] / keskars[0] == pytest.approx(slopes[1] / slopes[0], rel=0.01)
    assert not 0.8 < slopes[1] / slopes[0] < 1.25
