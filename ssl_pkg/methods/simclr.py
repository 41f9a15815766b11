"""SimCLR (Chen et al. 2002.05709)."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt, validate_call
from torch import Tensor, nn

from ssl_pkg.distributed.collectives import all_gather
from ssl_pkg.methods.base import without_autocast
from ssl_pkg.methods.health import representation_health
from ssl_pkg.models.encoder import EMBEDDING_DIM
from ssl_pkg.models.heads import simclr_projector


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The normalised temperature-scaled cross-entropy loss (NT-Xent) of N positive pairs (section 2.1, equation 1).

        l(i, j) = −log exp(s_ij/τ) / Σ_{k ≠ i} exp(s_ik/τ),   s = cosine similarity

    first, second: (N, D) projections of the two views, any scale. The loss is the mean over all 2N anchors; each has
    one positive and 2N − 2 negatives. Returns the loss, and the fraction of anchors whose positive is the nearest.
    """
    count = len(first)
    z = F.normalize(torch.cat([first, second]), dim=1)
    with without_autocast(z):
        logits = z @ z.T / temperature
    logits.fill_diagonal_(-torch.inf)
    positive = torch.arange(2 * count, device=z.device).roll(count)
    nearest = (logits.detach().argmax(dim=1) == positive).float().mean()
    return F.cross_entropy(logits, positive), nearest


class SimCLR(nn.Module):
    """An encoder f and a projector g. Both views form one batch, so that they share batch statistics."""

    views: ClassVar[int] = 2
    sync_batch_norm: ClassVar[bool] = True  # section 2.2, "Global BN": local statistics would reveal the positive pairs

    @validate_call(config={"arbitrary_types_allowed": True, "allow_inf_nan": False})
    def __init__(
        self,
        encoder: nn.Module,
        batch_size: Annotated[int, Field(ge=2)],
        *,
        projector_hidden: PositiveInt,
        projector_out: PositiveInt,
        temperature: PositiveFloat,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = simclr_projector(EMBEDDING_DIM, projector_hidden, projector_out)
        self.temperature = temperature

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All weights, with one learning rate."""
        return [{"params": list(self.parameters())}]

    def loss(self, views: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """NT-Xent of the projections of all ranks, so that each anchor has the negatives of the global batch."""
        projections = self.projector(self.encoder(torch.cat(list(views)))).float()
        first, second = (all_gather(part) for part in projections.chunk(2))
        loss, nearest = nt_xent(first, second, self.temperature)
        return loss, {"contrast_accuracy": nearest, **representation_health(first, second)}

    def after_step(self, step: int, steps: int) -> None:
        """Does nothing."""
