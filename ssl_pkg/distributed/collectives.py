"""What the processes of one training do together inside a network. With one process, each of these does nothing.

Every rank holds an equal part of the global batch, in rank order. DistributedDataParallel averages the ranks'
gradients; with the functions here that average is the gradient of one process with the whole batch.
"""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Which of them this one is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def own(batch: Tensor) -> Tensor:
    """This rank's rows of a global batch."""
    return batch.chunk(world_size())[rank()]


def gather(part: Tensor) -> Tensor:
    """The global batch of which `part` is this rank's rows; gradients find their way back to the ranks' parts."""
    return part if world_size() == 1 else cast(Tensor, _Gather.apply(part))


def averaged(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Scalars without gradient, each as its mean over the ranks."""
    if world_size() == 1:
        return values
    total = torch.stack([value.detach().float() for value in values.values()])
    dist.all_reduce(total)
    return dict(zip(values, (total / world_size()).unbind(), strict=True))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor) -> Tensor:
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # the sum of what all ranks' losses say about this part; their mean is taken with the parameters' gradients
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        return own(total)


def shared(value: Any) -> Any:
    """Rank 0's `value`, on every rank."""
    if not dist.is_initialized():
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def largest(*flags: bool) -> list[bool]:
    """Of each flag whether it is set on any rank."""
    if not dist.is_initialized():
        return list(flags)
    numbers = torch.tensor(flags, dtype=torch.uint8)  # on the CPU, so that no rank waits for its GPU
    dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
    return [bool(number) for number in numbers.tolist()]
