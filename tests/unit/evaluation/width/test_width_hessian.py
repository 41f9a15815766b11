from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from small_networks import draw, labels, mlp, objective
from test_width_perturb import whole_loss
from torch import Tensor, nn

from ssl_pkg.evaluation.width.hessian import EIGENVALUES, top_eigenvalues, trace
from ssl_pkg.evaluation.width.noise import gaussian


def quadratic(matrix: Tensor) -> Any:
    """An objective at the minimum of w^T A w / 2, whose Hessian is A."""
    return SimpleNamespace(weights=torch.zeros(len(matrix)), hessian_product=lambda vector: matrix @ vector)


def values(matrix: Tensor, steps: int) -> list[float]:
    return [found.value for found in top_eigenvalues(quadratic(matrix), steps, seed=0)]


def with_spectrum(spectrum: Tensor) -> Tensor:
    basis = torch.linalg.qr(draw(len(spectrum), len(spectrum)))[0]
    return basis @ torch.diag(spectrum) @ basis.T


@pytest.mark.slow
def test_eigenvalues_and_trace_equal_those_of_the_dense_hessian() -> None:
    network, inputs, target = mlp(nn.Tanh()), draw(20, 3), labels(20, 3)
    found = objective(network, inputs, target, batch_size=8)
    dense = torch.autograd.functional.hessian(lambda flat: whole_loss(network, inputs, target, flat), found.weights)
    assert isinstance(dense, Tensor)
    expected = np.linalg.eigvalsh(dense.double().numpy())
    top = [one.value for one in top_eigenvalues(found, 30, seed=0)]
    assert top == pytest.approx(expected[:-4:-1], rel=1e-3)
    estimate = trace(found, 300, seed=0)
    assert estimate.low is not None
    assert abs(estimate.value - expected.sum()) < 2 * (estimate.value - estimate.low)
    assert estimate.value - estimate.low < 0.2 * expected.sum()  # the test above is not empty


def test_a_known_quadratic_within_one_per_cent() -> None:
    spectrum = torch.cat([torch.tensor([12.0, 9.0, 6.0]), 1 + 0.1 * draw(197)])
    matrix = with_spectrum(spectrum)
    assert values(matrix, 12) == pytest.approx([12, 9, 6], rel=0.01)
    assert trace(quadratic(matrix), 500, seed=0).value == pytest.approx(spectrum.sum().item(), rel=0.01)


def test_lanczos_finds_the_largest_not_the_absolutely_largest_eigenvalues_from_below() -> None:
    spectrum = torch.linspace(-9, 5, 60)
    matrix = with_spectrum(spectrum)
    estimates = [values(matrix, steps) for steps in (3, 5, 10, 60)]
    for place in range(EIGENVALUES):
        along = [estimate[place] for estimate in estimates]
        assert along == sorted(along)
        assert along[-1] == pytest.approx(spectrum[-1 - place].item(), rel=1e-3)


def test_the_residual_bounds_contain_an_eigenvalue_and_shrink() -> None:
    spectrum = torch.linspace(-9, 5, 60)
    matrix = with_spectrum(spectrum)
    widths = []
    for steps in (3, 6, 12, 24):
        for low, high in ((one.low, one.high) for one in top_eigenvalues(quadratic(matrix), steps, seed=0)):
            assert low is not None
            assert high is not None
            assert ((spectrum >= low - 1e-4) & (spectrum <= high + 1e-4)).any()
            widths.append(high - low)
    assert max(widths[-3:]) < 0.1 * min(widths[:3])


def test_the_residual_is_that_of_the_ritz_vectors() -> None:
    matrix = with_spectrum(torch.linspace(-9, 5, 60))
    noise = gaussian(torch.zeros(60), 0, "lanczos").double()
    krylov = torch.stack([torch.linalg.matrix_power(matrix.double(), power) @ noise for power in range(5)], 1)
    basis = torch.linalg.qr(krylov)[0]
    ritz, vectors = torch.linalg.eigh(basis.T @ matrix.double() @ basis)
    vectors = basis @ vectors
    residuals = (matrix.double() @ vectors - vectors * ritz).norm(dim=0)
    for place, found in enumerate(top_eigenvalues(quadratic(matrix), 5, seed=0)):
        assert found.value == pytest.approx(ritz[-1 - place].item(), rel=1e-3)
        assert found.high is not None
        assert found.high - found.value == pytest.approx(residuals[-1 - place].item(), rel=1e-3)


def test_lanczos_stops_when_the_krylov_space_is_exhausted() -> None:
    rank_two = torch.diag(torch.tensor([7.0, 2.0] + 30 * [0.0]))
    assert values(rank_two, 32) == pytest.approx([7, 2, 0], rel=1e-5, abs=1e-5)
    first, *others = top_eigenvalues(quadratic(torch.zeros(4, 4)), 3, seed=0)
    assert first == (0, 0, 0, "")
    assert all(np.isnan(other.value) and "only 1 dimensions" in other.reason for other in others)


def test_negative_estimates_are_returned_as_they_are() -> None:
    negative = with_spectrum(torch.linspace(-9, -1, 60))
    assert max(values(negative, 5)) < 0
    assert trace(quadratic(negative), 5, seed=0).value == pytest.approx(-300, rel=0.1)


def test_the_trace_of_a_diagonal_hessian_needs_one_draw() -> None:
    estimate = trace(quadratic(torch.diag(torch.tensor([1.0, -4.0, 9.0]))), 1, seed=0)
    assert estimate[:3] == (6.0, None, None)
