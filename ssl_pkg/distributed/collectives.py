"""Collective operations between the processes of one training. With one process, each returns its input.

Each rank holds an equal share of the global batch, in rank order. DistributedDataParallel averages the ranks'
gradients. With the operations here, that average equals the gradient of one process with the global batch.
"""

from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor


def world_size() -> int:
    """The number of processes in the process group."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """This process's rank, from 0 to `world_size() - 1`."""
    return dist.get_rank() if dist.is_initialized() else 0


def local_shard(batch: Tensor) -> Tensor:
    """This rank's rows of a global batch: (B, ...) to (B / world size, ...)."""
    return batch.chunk(world_size())[rank()]


def all_gather(shard: Tensor) -> Tensor:
    """Concatenates the shards of all ranks: (B / world size, ...) to (B, ...). Differentiable."""
    return shard if world_size() == 1 else cast(Tensor, _AllGather.apply(shard))


def all_reduce_mean(values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Replaces each scalar by its mean over the ranks, without gradient."""
    if world_size() == 1:
        return values
    total = torch.stack([value.detach().float() for value in values.values()])
    dist.all_reduce(total)
    return dict(zip(values, (total / world_size()).unbind(), strict=True))


class _AllGather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shard: Tensor) -> Tensor:
        shards = [torch.empty_like(shard, memory_format=torch.contiguous_format) for _ in range(world_size())]
        dist.all_gather(shards, shard.contiguous())
        return torch.cat(shards)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        # A sum, not a mean, because DistributedDataParallel divides the parameters' gradients by the world size.
        total = grad.contiguous().clone()
        dist.all_reduce(total)
        return local_shard(total)


def broadcast(value: Any) -> Any:
    """Returns rank 0's `value` on every rank. The value must be picklable."""
    if not dist.is_initialized():
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def any_rank(*flags: bool) -> list[bool]:
    """For each flag, whether any rank has set it."""
    if not dist.is_initialized():
        return list(flags)
    numbers = torch.tensor(flags, dtype=torch.uint8)  # on the CPU, so that no rank waits for its GPU
    dist.all_reduce(numbers, op=dist.ReduceOp.MAX)
    return [bool(number) for number in numbers.tolist()]
