"""The baselines, used through their public interfaces: lightly's SimCLR, and torchvision's transforms in a DataLoader.

Images are arrays in memory, so that the baselines spend no time on reading and decoding files.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.transforms.simclr_transform import SimCLRTransform
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models import resnet18

from bench.ours import BATCH
from ssl_pkg.augment.operations import MEAN, STD, blur_kernel_size
from ssl_pkg.data.images import Split
from ssl_pkg.training.step import Batch

Transform = Callable[[Image.Image], Any]


class PillowImages(Dataset[Any]):
    """The images of a split as Pillow images, transformed."""

    def __init__(self, split: Split, transform: Transform) -> None:
        stored = np.array(split.pixels[np.arange(len(split))])
        axes = (0, 3, 2, 1) if split.columns_first else (0, 2, 3, 1)
        self._pixels: npt.NDArray[np.uint8] = np.ascontiguousarray(stored.transpose(axes))
        self._transform = transform

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> Any:
        return self._transform(Image.fromarray(self._pixels[index]))


def endless_batches(dataset: PillowImages, workers: int) -> Iterator[Any]:
    """Yields batches endlessly, in a new order in each epoch."""
    # prefetch only one batch per worker, so that a timing soon measures the workers' sustained rate
    prefetch: dict[str, Any] = {"prefetch_factor": 1, "persistent_workers": True} if workers else {}
    loader = DataLoader(dataset, BATCH, shuffle=True, drop_last=True, num_workers=workers, **prefetch)
    while True:
        yield from loader


class Lightly:
    """lightly's SimCLR with the recipe of its documentation (docs.lightly.ai, examples, SimCLR).

    A ResNet-18, a projection head 512-512-128, two forward passes, SGD with a learning rate of .06. Different from the
    documentation: our image size, the blur, which the documentation leaves out at 32 px, and STL-10's statistics.
    """

    def __init__(self, split: Split, resolution: int, workers: int) -> None:
        backbone = resnet18()
        self.backbone = nn.Sequential(*list(backbone.children())[:-1])
        self.head = SimCLRProjectionHead(512, 512, 128)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model = nn.Sequential(self.backbone, nn.Flatten(), self.head).to(self._device)
        self._criterion = NTXentLoss()
        self._optimizer = torch.optim.SGD(self._model.parameters(), lr=0.06)
        statistics = {"mean": list(MEAN), "std": list(STD)}
        transform = SimCLRTransform(input_size=resolution, normalize=statistics)
        self._batches = endless_batches(PillowImages(split, transform), workers)

    def step(self) -> Tensor:
        """Makes one training step and returns the loss."""
        first, second = (view.to(self._device) for view in next(self._batches))
        loss: Tensor = self._criterion(self._model(first), self._model(second))
        torch.autograd.backward(loss)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return loss.detach()

    def encoder(self) -> nn.Module:
        """The trained network: (B, 3, H, W) to (B, 512)."""
        return nn.Sequential(self.backbone, nn.Flatten())


def torchvision_transform(resolution: int) -> Transform:
    """SimCLR's view by torchvision's transforms of Pillow images."""
    jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
    blur = transforms.GaussianBlur(blur_kernel_size(resolution), (0.1, 2.0))
    chain: Transform = transforms.Compose(
        [
            transforms.RandomResizedCrop(resolution, scale=(0.2, 1.0)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([jitter], p=0.8),
            transforms.RandomGrayscale(0.2),
            transforms.RandomApply([blur], p=0.5),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return chain


def dataloader_batches(split: Split, resolution: int, workers: int, device: torch.device) -> Callable[[int], Batch]:
    """A source of batches for our step: two views by torchvision's transforms in a DataLoader."""
    transform = torchvision_transform(resolution)
    batches = endless_batches(PillowImages(split, lambda image: (transform(image), transform(image))), workers)
    labels = torch.full((BATCH,), -1, device=device)

    def batch(step: int) -> Batch:
        views = [view.to(device, memory_format=torch.channels_last) for view in next(batches)]
        return views, labels

    return batch
