import numpy as np
import pytest
import torch
from scipy import stats

from ssl_pkg.evaluation.width.noise import gaussian, mean_interval


def test_noise_depends_only_on_seed_purpose_and_draw() -> None:
    like = torch.empty(1000)
    noise = gaussian(like, 0, "average", 1)
    torch.manual_seed(5)
    assert torch.equal(gaussian(like + 1, 0, "average", 1), noise)
    others = [gaussian(like, 1, "average", 1), gaussian(like, 0, "line", 1), gaussian(like, 0, "average", 2)]
    assert all(abs(np.corrcoef(noise, other)[0, 1]) < 0.1 for other in others)
    assert stats.kstest(noise.numpy(), "norm").pvalue > 0.01


def test_the_interval_is_students() -> None:
    draws = [1.0, 2.5, 2.0, 7.0]
    found = mean_interval(draws)
    low, high = stats.t.interval(0.95, 3, np.mean(draws), stats.sem(draws))
    assert found[:3] == pytest.approx((3.125, low, high))
    assert mean_interval([2.0])[:3] == (2.0, None, None)
