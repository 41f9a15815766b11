"""What people use today, through its public interface: lightly's SimCLR, and torchvision's transforms in a DataLoader.

Images lie in memory as arrays, so that neither rival pays for reading or decoding files.
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


class Pictures(Dataset[Any]):
    """The images of a split as Pillow's, through a transform."""

    def __init__(self, split: Split, transform: Transform) -> None:
        stored = np.array(split.pixels[np.arange(len(split))])
        axes = (0, 3, 2, 1) if split.columns_first else (0, 2, 3, 1)
        self._pixels: npt.NDArray[np.uint8] = np.ascontiguousarray(stored.transpose(axes))
        self._transform = transform

    def __len__(self) -> int:
        return len(self._pixels)

    def __getitem__(self, index: int) -> Any:
        return self._transform(Image.fromarray(self._pixels[index]))


def endless(dataset: Pictures, workers: int) -> Iterator[Any]:
    """Batches for ever, in a new order each time round."""
    # one batch ahead for each worker, so that a window soon measures what the workers can keep up
    ahead: dict[str, Any] = {"prefetch_factor": 1, "persistent_workers": True} if workers else {}
    loader = DataLoader(dataset, BATCH, shuffle=True, drop_last=True, num_workers=workers, **ahead)
    while True:
        yield from loader


class Lightly:
    """lightly's SimCLR as its documentation trains it (docs.lightly.ai, examples, SimCLR).

    A ResNet-18, its projection head 512-512-128, two forward passes, SGD at .06. The image size is ours, with it the
    blur that the documentation leaves out at 32 px; pixels are normalised by STL-10's statistics, as ours.
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
        self._batches = endless(Pictures(split, transform), workers)

    def step(self) -> Tensor:
        """One step; returns the loss."""
        first, second = (view.to(self._device) for view in next(self._batches))
        loss: Tensor = self._criterion(self._model(first), self._model(second))
        torch.autograd.backward(loss)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return loss.detach()

    def encoder(self) -> nn.Module:
        """The trained network: (B, 3, H, W) to (B, 512)."""
        return nn.Sequential(self.backbone, nn.Flatten())


def usual_transform(resolution: int) -> Transform:
    """SimCLR's view by torchvision on Pillow's images."""
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


def usual_batches(split: Split, resolution: int, workers: int, device: torch.device) -> Callable[[int], Batch]:
    """Batches of two views as our step takes them, from the usual transforms."""
    view = usual_transform(resolution)
    batches = endless(Pictures(split, lambda image: (view(image), view(image))), workers)
    labels = torch.full((BATCH,), -1, device=device)

    def batch(step: int) -> Batch:
        views = [one.to(device, memory_format=torch.channels_last) for one in next(batches)]
        return views, labels

    return batch
