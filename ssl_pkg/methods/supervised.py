"""A classifier trained with labels: fine-tuning, and the supervised baseline."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from ssl_pkg.models.encoder import EMBEDDING_DIM


class Supervised(nn.Module):
    """An encoder and a linear classifier, trained together with cross-entropy."""

    views: ClassVar[int] = 1
    sync_batch_norm: ClassVar[bool] = True

    def __init__(self, encoder: nn.Module, classes: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(EMBEDDING_DIM, classes)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """All weights, with one learning rate."""
        return [{"params": list(self.parameters())}]

    def forward(self, images: Tensor) -> Tensor:
        """The logits (B, C) of images (B, 3, H, W)."""
        logits: Tensor = self.head(self.encoder(images))
        return logits

    def loss(self, views: Sequence[Tensor], labels: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Cross-entropy of the single view, and the accuracy on the batch."""
        logits = self.forward(views[0]).float()
        accuracy = (logits.detach().argmax(dim=1) == labels).float().mean()
        return F.cross_entropy(logits, labels), {"accuracy": accuracy}

    def classifier(self) -> dict[str, Tensor]:
        """The weights as the state dict of torchvision's resnet18."""
        return self.encoder.state_dict() | {f"fc.{name}": tensor for name, tensor in self.head.state_dict().items()}

    def after_step(self, step: int, steps: int) -> None:
        """Does nothing."""
