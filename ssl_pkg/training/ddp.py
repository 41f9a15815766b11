"""DistributedDataParallel around a method's loss."""

import warnings

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ssl_pkg.methods.base import Method


class _Loss(nn.Module):
    """A method's loss as a module's forward, which DistributedDataParallel requires."""

    def __init__(self, method: Method) -> None:
        super().__init__()
        self.method = method

    def forward(self, views: list[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return self.method.loss(views, labels)


def distributed_loss(method: Method) -> nn.Module:
    """The method's loss in DistributedDataParallel, so that its backward averages the gradients over all ranks.

    Running statistics that are not synchronised differ between the ranks. The saved ones are rank 0's.
    """
    # The memory of a 1x1 kernel is the same in both layouts, but its strides differ, which DDP warns about.
    warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides")
    # find_unused_parameters keeps DDP's buckets fixed. Otherwise DDP rebuilds its buckets after a process's first step,
    # and from three ranks on the summation order depends on an element's place in its bucket: a resumed training would
    # not end with the same bits.
    warnings.filterwarnings("ignore", "find_unused_parameters=True was specified")
    return DistributedDataParallel(
        _Loss(method), forward_sync_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=True
    )
