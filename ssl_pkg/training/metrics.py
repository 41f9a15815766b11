"""Means of a training's metrics between two log lines."""

from typing import Any

import torch
from pydantic import BaseModel
from torch import Tensor

from ssl_pkg.run.resume import CheckpointMetadata


class AveragerState(BaseModel):
    """The state of a MetricAverager in a checkpoint."""

    model_config = CheckpointMetadata.model_config

    total: dict[str, Tensor]
    count: int


class MetricAverager:
    """Sums metrics on the device, because reading a value would synchronise with the device."""

    def __init__(self, state: AveragerState | None = None) -> None:
        self.total: dict[str, Tensor] = state.total if state else {}  # float64 scalars, by metric
        self._count = state.count if state else 0
        self._nonfinite_steps: Tensor | None = None
        self._last_step = -1

    def add(self, step: int, metrics: dict[str, Tensor]) -> None:
        """Adds the scalars of a step."""
        for name, value in metrics.items():
            addend = value.detach().double()
            self.total[name] = self.total[name].to(addend.device) + addend if name in self.total else addend
        self._count += 1
        # A sum that is not finite stays so, and this counts the steps since then.
        nonfinite = torch.stack([total.isfinite() for total in self.total.values()]).all().logical_not()
        self._nonfinite_steps = nonfinite.int() if self._nonfinite_steps is None else self._nonfinite_steps + nonfinite
        self._last_step = step

    def first_nonfinite_step(self) -> int | None:
        """The first step with a metric that is not finite, or None. Synchronises with the device."""
        steps = 0 if self._nonfinite_steps is None else int(self._nonfinite_steps)
        return self._last_step - steps + 1 if steps else None

    def mean(self) -> dict[str, float]:
        """The mean of each metric over the added steps. Synchronises with the device."""
        return {name: float(value) / self._count for name, value in self.total.items()}

    def state(self) -> dict[str, Any]:
        """The content of an AveragerState."""
        return {"total": self.total, "count": self._count}
