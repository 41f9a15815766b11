"""The inputs that a training step gives to the method."""

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ssl_pkg.hardware.prepare import Hardware
from ssl_pkg.methods.base import Method
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
