"""SimCLR (Chen et al. 2002.05709)."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field, PositiveFloat, PositiveInt, validate_call
from torch import Tensor, nn

from ssl_pkg.distributed.collectives import all_gather
from ssl_pkg.methods.base import without_autocast
from ssl_pkg.models.encoder import EMBEDDING_DIM
from ssl_pkg.models.heads import simclr_projector


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """The normalised temperature-scaled cross-entropy of N positive pairs (section 2.1, equation 1).

        l(i, j) = −log exp(s_ij/τ) / Σ_{k ≠ i} exp(s_ik/τ),   s = cosine similarity

    first, second: (N, D) projections of the two views, any scale. The loss is the mean over all 2N anchors, each
    against its partner and the 2N − 2 other projections. Returns the loss and the share of anchors whose partner is
    the nearest.
    """
    count = len(first)
    z = F.normalize(torch.cat([first, second]), dim=1)
    with without_autocast(z):
        logits = z @ z.T / temperature
    logits.fill_diagonal_(-torch.inf)
    partner = torch.arange(2 * count, device=z.device).roll(count)
    nearest = (logits.detach().argmax(dim=1) == partner).float().mean()
    return F.cross_entropy(logits, partner), nearest


class SimCLR(nn.Module):
    """An encoder f and a projector g; both views go through in one batch, so their statistics are shared."""

    views: ClassVar[int] = 2
    splits: ClassVar[tuple[str, ...]] = ("unlabeled", "train")
    sync_batch_norm: ClassVar[bool] = True  # section 2.2, "Global BN": local ones let a network tell positives

    @validate_call(config={"arbitrary_types_allowed": True, "allow_inf_nan": False})
    def __init__(
        self,
        encoder: nn.Module,
        classes: int,
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
        """All weights, at one rate."""
        return [{"params": list(self.parameters())}]

    def loss(self, views: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """NT-Xent of the two views' projections, those of all ranks: each anchor has the whole batch's negatives."""
        projections = self.projector(self.encoder(torch.cat(list(views)))).float()
        first, second = (all_gather(part) for part in projections.chunk(2))
        loss, nearest = nt_xent(first, second, self.temperature)
        return loss, {"contrast_accuracy": nearest}

    def after_step(self, step: int, steps: int) -> None:
        """Nothing follows a step."""
