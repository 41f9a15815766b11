from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import draw, labels, mlp, objective
from test_width_perturb import whole_loss
from torch import Tensor, nn

from ssl_pkg.evaluation.width.hessian import top_eigenvalue, trace


def quadratic(matrix: Tensor) -> Any:
    """An objective at the minimum of w^T A w / 2, whose Hessian is A."""
    return SimpleNamespace(weights=torch.zeros(len(matrix)), hessian_product=lambda vector: matrix @ vector)


def test_eigenvalue_and_trace_equal_those_of_the_dense_hessian() -> None:
    network, inputs, target = mlp(nn.Tanh()), draw(20, 3), labels(20, 3)
    found = objective(network, inputs, target, batch_size=8)
    dense = torch.autograd.functional.hessian(lambda flat: whole_loss(network, inputs, target, flat), found.weights)
    assert isinstance(dense, Tensor)
    expected = np.linalg.eigvalsh(dense.double().numpy())
    assert top_eigenvalue(found, 20, seed=0).value == pytest.approx(expected[-1], rel=1e-4)
    estimate = trace(found, 300, seed=0)
    assert estimate.low is not None
    assert abs(estimate.value - expected.sum()) < 2 * (estimate.value - estimate.low)
    assert estimate.value - estimate.low < 0.2 * expected.sum()  # the test above is not empty


def test_lanczos_finds_the_largest_not_the_absolutely_largest_eigenvalue_from_below() -> None:
    basis = torch.linalg.qr(draw(60, 60))[0]
    spectrum = torch.linspace(-9, 5, 60)
    matrix = basis @ torch.diag(spectrum) @ basis.T
    estimates = [top_eigenvalue(quadratic(matrix), steps, seed=0).value for steps in (2, 5, 10, 60)]
    assert estimates == sorted(estimates)
    assert estimates[-1] == pytest.approx(5, rel=1e-5)


def test_lanczos_stops_when_the_krylov_space_is_exhausted() -> None:
    rank_two = torch.diag(torch.tensor([7.0, 2.0] + 30 * [0.0]))
    assert top_eigenvalue(quadratic(rank_two), 32, seed=0).value == pytest.approx(7, rel=1e-5)
    assert top_eigenvalue(quadratic(torch.zeros(4, 4)), 3, seed=0).value == 0


def test_the_trace_of_a_diagonal_hessian_needs_one_draw() -> None:
    estimate = trace(quadratic(torch.diag(torch.tensor([1.0, -4.0, 9.0]))), 1, seed=0)
    assert estimate == (6.0, None, None)
