"""DistributedDataParallel around a method's loss."""

import warnings

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ssl_pkg.methods.base import Method


class _Loss(nn.Module):
    """A method's loss as a module's forward, which is what DistributedDataParallel takes."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, views: list[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.method.loss(views, labels)


def loss_of(method: Method) -> nn.Module:
    """The method's loss, whose backward leaves the mean of all ranks' gradients; they travel while it computes.

    Each rank keeps its own running statistics where they are not synchronised; rank 0's are those that are saved.
    """
    # a 1x1 kernel lies in memory the same way in both layouts, which the reducer takes for a difference
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    # Not to find any: without it the gradients travel in one piece in a process's first step and in several later, and
    # from three ranks on the order in which an element is summed depends on its place in the piece. A training that
    # goes on from a checkpoint would not end with the same bits.
    warnings.filterwarnings("ignore", "find_unused_parameters=True was specified")
    return DistributedDataParallel(
        _Loss(method), forward_sync_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=True
    )
