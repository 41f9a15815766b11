"""What a method is: the protocol between `methods/` and the training loop."""

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn


class Method(Protocol):
    """A module that turns views into a loss.

    `views` is how many views of an image it takes; `splits` the splits that it can learn from; `sync_batch_norm`
    whether batch normalisation takes the whole batch's statistics where several processes share it.
    `encoder` is torchvision's ResNet-18 without its last layer; everything that a resumed run needs is in
    `state_dict()` (heads, target network, queue), so that a checkpoint of a method is its state dict.
    """

    views: ClassVar[int]
    splits: ClassVar[tuple[str, ...]]
    sync_batch_norm: ClassVar[bool]
    encoder: nn.Module

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The optimizer's groups: each has `params` and may have `lr_multiplier`, a factor on the learning rate."""
        ...

    def loss(self, views: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, and what else to log: the same work for every batch, which a GPU may record and repeat.

        A repetition runs no Python: what `after_step` needs of it is copied into a buffer.
        views: for each of the method's views a batch (B, 3, H, W), normalised, on the training device, in the
            format in which the network computes: float32, bfloat16 or float16.
        labels: (B,) int64; -1 where the split has none.
        Returns a scalar with gradient, and scalars without one that stay on the device.
        """
        ...

    def after_step(self, step: int, steps: int) -> None:
        """What follows the optimizer's step: a target network's average, a queue's new keys."""
        ...


def without_autocast(tensor: Tensor) -> torch.autocast:
    """Keeps autocast away from a part of a loss: a cosine in bfloat16, over a temperature, is off by percents."""
    return torch.autocast(tensor.device.type, enabled=False)
