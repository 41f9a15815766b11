import copy
import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_networks import convolutional, draw, fill, labels, learnable, mlp, objective
from torch import Tensor, nn

from ssl_pkg.evaluation.width.folding import fold_batch_norm
from ssl_pkg.evaluation.width.hessian import top_eigenvalue
from ssl_pkg.evaluation.width.perturb import Objective, normalize
from ssl_pkg.evaluation.width.sharpness import adaptive_average, adaptive_worst, keskar, pac_bayes_width


def highest_corner(found: Objective, radius: Tensor) -> float:
    """The largest loss over the corners of the box, which is the maximum over the box if the loss is convex."""
    corners = (torch.tensor(signs) for signs in itertools.product((-1.0, 1.0), repeat=len(radius)))
    return max(found.at(found.weights + signs * radius).loss for signs in corners)


@pytest.mark.parametrize("rho", [0.01, 0.3])
def test_worst_case_and_keskar_of_a_linear_model_equal_brute_force(rho: float) -> None:
    found = objective(fill(nn.Linear(2, 2)), draw(15, 2), labels(15, 2))
    start = found.start.loss
    expected = highest_corner(found, rho * found.weights.abs()) - start
    assert adaptive_worst(found, rho, 10, normalized=False).value == pytest.approx(expected, rel=1e-5)
    expected = 100 * (highest_corner(found, rho * (found.weights.abs() + 1)) - start) / (1 + start)
    assert keskar(found, rho, 10).value == pytest.approx(expected, rel=1e-5)


def test_for_a_small_radius_the_first_order_term_dominates() -> None:
    found = objective(mlp(nn.Tanh()), draw(15, 3), labels(15, 3))
    _, gradient = found.gradient(found.weights)
    expected = 1e-3 * (found.weights * gradient).abs().sum().item()
    assert adaptive_worst(found, 1e-3, 3, normalized=False).value == pytest.approx(expected, rel=1e-2)


def test_worst_case_with_normalised_logits_equals_a_dense_grid() -> None:
    inputs, target = draw(9, 1), labels(9, 3)
    found = objective(fill(nn.Linear(1, 3, bias=False)), inputs, target)
    factors = torch.cartesian_prod(*[torch.linspace(0.8, 1.2, 21)] * 3)
    logits = torch.einsum("gk,n->gnk", factors * found.weights, inputs[:, 0])
    losses = F.cross_entropy(normalize(logits.flatten(0, 1)), target.repeat(len(factors)), reduction="none")
    expected = losses.view(len(factors), -1).mean(1).max().item() - found.start.normalized_loss
    assert adaptive_worst(found, 0.2, 20, normalized=True).value == pytest.approx(expected, rel=1e-3)


def test_average_sharpness_equals_quadrature() -> None:
    target = labels(15, 2)
    inputs, network = 3.0 * target[:, None] - 1.5 + 0.5 * draw(15, 1), nn.Linear(1, 2, bias=False)
    network.weight.data = torch.tensor([[-1.0], [0.7]])
    found = objective(network, inputs, target)
    nodes, masses = np.polynomial.hermite_e.hermegauss(40)  # the loss depends on w_1 - w_0, a normal variable
    first, second = found.weights.double().tolist()
    differences = second - first + 0.5 * np.hypot(first, second) * nodes
    signs = np.where(target.numpy() == 1, -1, 1)[:, None] * inputs.double().numpy()
    expected = (np.logaddexp(0, signs * differences).mean(0) * masses).sum() / masses.sum() - found.start.loss
    average, normalized = adaptive_average(found, 0.5, 2000, seed=0)
    assert average.low is not None
    error = average.value - average.low
    assert abs(average.value - expected) < 2 * error < 0.4 * expected
    assert normalized.value > 0


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
    expected = scan[np.flatnonzero(np.array(accuracy) >= found.start.accuracy - 0.1)[-1]]
    width = pac_bayes_width(found, 0.1, 14, 300, seed=0)
    assert width.value == pytest.approx(expected, rel=0.08)
    assert width.low is not None
    assert width.high is not None
    assert 0.8 * expected < width.low < width.value < width.high < 1.25 * expected


def test_pac_bayes_width_stays_in_its_range() -> None:
    inputs = draw(8, 2)
    always_right = objective(fill(nn.Linear(2, 1)), inputs, torch.zeros(8, dtype=torch.int64))
    assert pac_bayes_width(always_right, 0.1, 6, 3, seed=0) == (pytest.approx(16), None, None)
    assert pac_bayes_width(always_right, 0.1, 6, 1, seed=0).low is None


def measured(found: Objective) -> list[float]:
    """The measures that promise not to change when a rescaling leaves the function as it is."""
    average = adaptive_average(found, 0.1, 4, seed=0)
    return [
        *(adaptive_worst(found, 0.01, 4, normalized=normalized).value for normalized in (False, True)),
        *(interval.value for interval in average),
    ]


def test_scaling_a_convolution_before_its_batch_norm_changes_nothing() -> None:
    model, inputs, target = convolutional(), draw(12, 3, 9, 9), labels(12, 4)
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
    widths = [pac_bayes_width(found, 0.1, 8, 20, seed=0).value for found in (before, after)]
    assert widths[0] == pytest.approx(widths[1], rel=1e-2)


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
    assert after.start == pytest.approx(before.start, rel=1e-5)
    assert measured(after) == pytest.approx(measured(before), rel=1e-3)
    tops = [top_eigenvalue(found, 20, seed=0).value for found in (before, after)]
    assert tops[1] > 10 * tops[0]
    assert keskar(after, 1e-2, 4).value > 2 * keskar(before, 1e-2, 4).value
