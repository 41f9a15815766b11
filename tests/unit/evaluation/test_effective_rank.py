import numpy as np
import pytest

from ssl_pkg.evaluation.effective_rank import effective_rank


def with_singular_values(values: list[float], count: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    left = np.linalg.qr(generator.normal(size=(count, len(values))))[0]
    right = np.linalg.qr(generator.normal(size=(len(values), len(values))))[0]
    return ((left * values) @ right).astype(np.float32)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_rank_is_the_exponential_of_the_entropy_of_the_singular_values(scale: float) -> None:
    shares = np.array([0.5, 0.25, 0.125, 0.125])  # entropy 1.75 bits
    matrix = scale * with_singular_values(list(8 * shares), 50)
    assert effective_rank(matrix) == pytest.approx(2**1.75, rel=1e-4)


@pytest.mark.parametrize("count", [3, 8, 40])
def test_equal_singular_values_have_full_rank(count: int) -> None:
    assert effective_rank(with_singular_values([2.0] * 3, count)) == pytest.approx(3, rel=1e-4)
    assert effective_rank(np.eye(5, 9, dtype=np.float32)) == pytest.approx(5, rel=1e-6)


def test_a_collapse_has_rank_one_and_zeros_have_rank_zero() -> None:
    one_direction = np.outer(np.arange(1, 21), [1.0, -2.0, 3.0]).astype(np.float32)
    assert effective_rank(one_direction) == pytest.approx(1, abs=1e-3)
    assert effective_rank(np.ones((20, 512), np.float32)) == pytest.approx(1, abs=1e-3)
    assert effective_rank(np.zeros((20, 3), np.float32)) == 0


@pytest.mark.parametrize("count", [60, 200, 800])  # fewer images than dimensions, and more
def test_rank_equals_that_of_the_singular_value_decomposition(count: int) -> None:
    x = np.random.default_rng(0).normal(size=(count, 200)).astype(np.float32) ** 3
    sigma = np.linalg.svd(x.astype(np.float64), compute_uv=False)
    p = sigma / sigma.sum()
    assert effective_rank(x) == pytest.approx(np.exp(-(p * np.log(p)).sum()), rel=1e-11)
