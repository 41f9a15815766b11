"""The protocol that a pretraining method implements for the training loop."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn


class Method(Protocol):
    """A module that computes a loss from views.

    The constructor takes `encoder` and `batch_size`, then by keyword the fields of `model` in the method's YAML.

    views: number of views of each image.
    sync_batch_norm: whether batch normalisation uses the statistics of all ranks' batches.
    encoder: torchvision's ResNet-18 without its last layer.

    The state dict holds everything that a resumed run needs (heads, target network, queue), because a checkpoint stores
    only the state dict.
    """

    views: ClassVar[int]
    sync_batch_norm: ClassVar[bool]
    encoder: nn.Module

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups: each has `params` and may have `lr_multiplier`, a constant factor
        on the scheduled learning rate."""
        ...

    def loss(self, views: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Computes the loss of a batch, and metrics to log.

        On a GPU, a CUDA graph captures this function once and replays it without running Python. The computation must
        therefore be the same for every batch, and values that `after_step` needs must be copied into a buffer.

        views: one batch (B, 3, H, W) for each view, normalised, on the training device, in the network's dtype
            (float32, bfloat16 or float16).
        labels: (B,) int64; -1 if the split has no labels.
        Returns a scalar with gradient, and scalars by name without gradient, on the device. Metrics of two views come
        from `representation_health` (health.py).
        """
        ...

    def after_step(self, step: int, steps: int) -> None:
        """Updates state after optimizer step `step` of `steps`, such as an EMA or a queue."""
        ...


def without_autocast(tensor: Tensor) -> torch.autocast:
    """Disables autocast on the tensor's device, because a cosine in bfloat16 over a temperature is off by percents."""
    return torch.autocast(tensor.device.type, enabled=False)
