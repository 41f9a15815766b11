"""What a training step gives to the method and to the optimizer."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssl_pkg.hardware.prepare import Hardware
from ssl_pkg.methods.base import Method
from ssl_pkg.training.optimizers import build_optimizer
from ssl_pkg.training.step import Step, Task


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_views_have_the_dtype_of_the_step_and_labels_are_unchanged(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    network, view = nn.Linear(4, 1), torch.randn(8, 4)
    cast(Any, network).after_step = lambda step, steps: None
    seen: list[Tensor] = []

    def loss(views: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        seen.extend([*views, labels])
        return network(views[0]).mean(), {}

    task = Task(
        phase="train",
        model=cast(Method, network),
        loss=loss,
        optimizer=torch.optim.SGD([{"params": network.parameters(), "lr_multiplier": 1.0}], lr=0.1),
        lr=lambda step: 0.1,
        batch=lambda step: ([view], torch.arange(8)),
        indices=lambda step: np.arange(8),
        steps=1,
        steps_per_epoch=1,
    )
    Step(task, Hardware(torch.device("cpu"), dtype, 1, compiles=False))(0)
    given, labels = seen
    assert given.dtype == dtype
    assert torch.equal(given, view.to(dtype))
    assert labels.dtype == torch.int64


def test_each_group_has_its_rate_and_the_method_gets_the_number_of_all_steps() -> None:
    slow, fast = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
    network, calls = nn.Module(), list[tuple[int, int, float]]()
    cast(Any, network).after_step = lambda step, steps: calls.append((step, steps, slow.item()))
    groups: list[dict[str, Any]] = [{"params": [slow]}, {"params": [fast], "lr_multiplier": 10.0}]
    task = Task(
        phase="train",
        model=cast(Method, network),
        loss=lambda views, labels: (slow + fast, {}),  # both gradients are 1
        optimizer=build_optimizer("sgd", groups, weight_decay=0.0, momentum=0.0),
        lr=lambda step: 0.25 / (step + 1),
        batch=lambda step: ([torch.zeros(1)], torch.zeros(1)),
        indices=lambda step: np.arange(1),
        steps=12,
        steps_per_epoch=3,
    )
    step = Step(task, Hardware(torch.device("cpu"), torch.float32, 1, compiles=False))
    for number in (0, 1):
        step(number)
    assert [slow.item(), fast.item()] == [-0.375, -3.75]  # -(1/4 + 1/8), and ten times as much
    assert calls == [(0, 12, -0.25), (1, 12, -0.375)]  # after the optimizer's step, so that an EMA has the new weights
