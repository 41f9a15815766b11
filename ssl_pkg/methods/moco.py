"""MoCo v2 (Chen et al. 2003.04297), on MoCo (He et al. 1911.05722)."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt, validate_call
from torch import Tensor, nn

from ssl_pkg.config.batch_sizes import queue_error
from ssl_pkg.config.fields import Probability
from ssl_pkg.distributed.collectives import all_gather, local_shard, world_size
from ssl_pkg.errors import BadInput
from ssl_pkg.methods.base import without_autocast
from ssl_pkg.methods.health import representation_health
from ssl_pkg.models.batch_norm import split_batch_norm
from ssl_pkg.models.ema import ema_update, frozen_copy
from ssl_pkg.models.encoder import EMBEDDING_DIM
from ssl_pkg.models.heads import moco_projector


def queue_logits(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """Logits (N, 1 + K) of InfoNCE (1911.05722 equation 1). Column 0 is the positive key, the others are the queue.

    query, key: (N, D) with unit rows; queue: (K, D) with unit rows.
    """
    with without_autocast(query):
        positive = (query * key).sum(dim=1, keepdim=True)
        return torch.cat([positive, query @ queue.T], dim=1) / temperature


class MoCo(nn.Module):
    """A query network, its EMA as the key network (momentum encoder), and a queue of the latest keys."""

    views: ClassVar[int] = 2
    sync_batch_norm: ClassVar[bool] = False  # shuffling BN needs separate statistics per group
    queue: Tensor
    latest_keys: Tensor
    idx_shuffle: Tensor
    idx_unshuffle: Tensor

    @validate_call(config={"arbitrary_types_allowed": True, "allow_inf_nan": False})
    def __init__(
        self,
        encoder: nn.Module,
        batch_size: int,
        *,
        projector_hidden: PositiveInt,
        projector_out: PositiveInt,
        temperature: PositiveFloat,
        queue_size: PositiveInt,
        key_momentum: Probability,
        bn_splits: PositiveInt,
        symmetric: bool,
    ) -> None:
        super().__init__()
        if error := queue_error(batch_size, queue_size, bn_splits, symmetric, world_size()):
            raise BadInput(error)
        # Groups with separate batch statistics simulate the paper's GPUs; this rank has its share of the groups.
        split_batch_norm(encoder, bn_splits // world_size())
        self.encoder = encoder
        self.projector = moco_projector(EMBEDDING_DIM, projector_hidden, projector_out)
        self.key_encoder = frozen_copy(self.encoder)
        self.key_projector = frozen_copy(self.projector)
        self.register_buffer("queue", F.normalize(torch.randn(queue_size, projector_out), dim=1))
        self.register_buffer("latest_keys", torch.zeros(batch_size * (1 + symmetric), projector_out), persistent=False)
        # Shuffling BN (1911.05722 section 3.3): a query and its key must be normalised in different groups, because
        # shared statistics would reveal the positive pair. The paper shuffles at random. Here the shuffle is a fixed
        # transposition, which needs no random state and suffices because the order of a batch is random already:
        # a query's group and a key's group have only 1/bn_splits of their samples in common.
        idx_shuffle = torch.arange(batch_size).view(-1, bn_splits).T.flatten()
        self.register_buffer("idx_shuffle", idx_shuffle, persistent=False)
        self.register_buffer("idx_unshuffle", idx_shuffle.argsort(), persistent=False)
        self.symmetric = symmetric
        self.temperature = temperature
        self.key_momentum = key_momentum

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All weights, with one learning rate."""
        return [{"params": list(self.parameters())}]

    def loss(self, views: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """InfoNCE with queries from view 0 and keys from view 1 and the queue.

        With `symmetric`, the sum of this loss and that of the swapped views, as in MoCo v3 (2104.02057 algorithm 1).
        """
        first, second = views
        loss, accuracy, query, keys = self._info_nce(first, second)
        health = representation_health(all_gather(query), keys)
        if self.symmetric:
            swapped_loss, swapped_accuracy, _, swapped_keys = self._info_nce(second, first)
            loss, accuracy = loss + swapped_loss, (accuracy + swapped_accuracy) / 2
            keys = torch.cat([keys, swapped_keys])
        self.latest_keys.copy_(keys)
        return loss, {"contrast_accuracy": accuracy, **health}

    def _info_nce(self, query_view: Tensor, key_view: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The loss of one direction, its accuracy, this rank's queries without gradient, and the keys of all ranks."""
        query = F.normalize(self.projector(self.encoder(query_view)).float(), dim=1)
        with torch.no_grad():
            shuffled = local_shard(all_gather(key_view)[self.idx_shuffle])
            keys = self.key_projector(self.key_encoder(shuffled)).float()
            keys = F.normalize(all_gather(keys)[self.idx_unshuffle], dim=1)
        logits = queue_logits(query, local_shard(keys), self.queue, self.temperature)
        positive = torch.zeros(len(query), dtype=torch.long, device=logits.device)
        accuracy = (logits.detach().argmax(dim=1) == positive).float().mean()
        return F.cross_entropy(logits, positive), accuracy, query.detach(), keys

    @torch.no_grad()
    def after_step(self, step: int, steps: int) -> None:
        """Updates the key network (equation 2) and replaces the oldest keys in the queue by the latest."""
        ema_update(self.key_encoder, self.encoder, self.key_momentum)
        ema_update(self.key_projector, self.projector, self.key_momentum)
        count = len(self.latest_keys)
        start = step * count % len(self.queue)
        self.queue[start : start + count] = self.latest_keys
