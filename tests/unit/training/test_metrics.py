"""Means of a training's metrics, compared with Python's own sums."""

import math

import pytest
import torch

from ssl_pkg.training.metrics import AveragerState, MetricAverager

LOSSES = [0.1 * 1.7**step for step in range(9)]


def test_the_mean_is_over_the_steps_since_the_start() -> None:
    averager = MetricAverager()
    for step, loss in enumerate(LOSSES):
        averager.add(step, {"loss": torch.tensor(loss, dtype=torch.float64), "accuracy": torch.tensor(step / 8)})
    assert averager.mean() == pytest.approx({"loss": math.fsum(LOSSES) / 9, "accuracy": 0.5}, rel=1e-12)


def test_a_restored_averager_has_the_mean_of_all_steps() -> None:
    straight, first = MetricAverager(), MetricAverager()
    for step, loss in enumerate(LOSSES):
        straight.add(step, {"loss": torch.tensor(loss)})
    for step, loss in enumerate(LOSSES[:4]):
        first.add(step, {"loss": torch.tensor(loss)})
    resumed = MetricAverager(AveragerState.model_validate(first.state()))
    for step, loss in enumerate(LOSSES[4:], start=4):
        resumed.add(step, {"loss": torch.tensor(loss)})
    assert resumed.mean() == straight.mean()


def test_small_addends_are_not_lost_in_a_large_sum() -> None:
    averager = MetricAverager()
    averager.add(0, {"loss": torch.tensor(2.0**24)})
    for step in range(1, 5):
        averager.add(step, {"loss": torch.tensor(1.0)})  # float32 has no 2²⁴ + 1
    assert averager.mean()["loss"] == (2**24 + 4) / 5


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_the_first_step_that_is_not_finite_is_named_whatever_follows(value: float) -> None:
    averager = MetricAverager()
    for step in range(5, 12):
        assert averager.first_nonfinite_step() == (7 if step > 7 else None)
        bad = value if step == 7 else 1.0
        averager.add(step, {"loss": torch.tensor(1.0), "size": torch.tensor(bad)})
