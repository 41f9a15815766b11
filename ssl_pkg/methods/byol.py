"""BYOL (Grill et al. 2006.07733)."""

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import PositiveFloat, PositiveInt, validate_call
from torch import Tensor, nn

from ssl_pkg.config.fields import Probability
from ssl_pkg.distributed.collectives import all_gather
from ssl_pkg.methods.health import representation_health
from ssl_pkg.models.ema import ema_update, frozen_copy
from ssl_pkg.models.encoder import EMBEDDING_DIM
from ssl_pkg.models.heads import byol_mlp


def regression_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """‖q/‖q‖ − z′/‖z′‖‖² = 2 − 2·cos(q, z′), averaged over the batch (section 3.1, equation 2).

    prediction, target: (N, D), any scale. The target gets no gradient.
    """
    return 2 - 2 * F.cosine_similarity(prediction, target.detach(), dim=1).mean()


def target_decay(base: float, step: int, steps: int) -> float:
    """The EMA decay τ = 1 − (1 − τ_base)·(cos(πk/K) + 1)/2 at step k of K, from τ_base to 1 (section 3.3)."""
    return 1 - (1 - base) * (math.cos(math.pi * step / steps) + 1) / 2


class BYOL(nn.Module):
    """An online network (encoder, projector, predictor) predicts a target network (encoder, projector), its EMA."""

    views: ClassVar[int] = 2
    sync_batch_norm: ClassVar[bool] = True

    @validate_call(config={"arbitrary_types_allowed": True, "allow_inf_nan": False})
    def __init__(
        self,
        encoder: nn.Module,
        batch_size: int,
        *,
        hidden: PositiveInt,
        out: PositiveInt,
        target_decay: Probability,
        predictor_rate: PositiveFloat,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = byol_mlp(EMBEDDING_DIM, hidden, out)
        self.predictor = byol_mlp(out, hidden, out)
        # The target stays in train mode and normalises by its batch's statistics; only its parameters are an EMA.
        self.target_encoder = frozen_copy(self.encoder)
        self.target_projector = frozen_copy(self.projector)
        self.base_decay = target_decay
        self.predictor_rate = predictor_rate

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All weights of the online network. The predictor may have a higher learning rate (section 5)."""
        return [
            {"params": [*self.encoder.parameters(), *self.projector.parameters()]},
            {"params": list(self.predictor.parameters()), "lr_multiplier": self.predictor_rate},
        ]

    def loss(self, views: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The symmetrised loss (equation 2 and below). Each view is a batch with its own statistics."""
        first, second = views
        z_first = self.projector(self.encoder(first))
        z_second = self.projector(self.encoder(second))
        with torch.no_grad():
            target_first = self.target_projector(self.target_encoder(first)).float()
            target_second = self.target_projector(self.target_encoder(second)).float()
        loss = regression_loss(self.predictor(z_first).float(), target_second) + regression_loss(
            self.predictor(z_second).float(), target_first
        )
        return loss, representation_health(all_gather(z_first.detach()), all_gather(z_second.detach()))

    def after_step(self, step: int, steps: int) -> None:
        """Updates the target network, an EMA of the online network (equation 1)."""
        decay = target_decay(self.base_decay, step, steps)
        ema_update(self.target_encoder, self.encoder, decay)
        ema_update(self.target_projector, self.projector, decay)
