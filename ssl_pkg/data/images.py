"""Splits of labelled images in memory or on disk, and the selection of fixed subsets."""

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ssl_pkg.errors import BadInput, read_error

Indices = npt.NDArray[np.int64]
Loader = Callable[[Indices], tuple[Tensor, Tensor]]  # (B,) to images (B, 3, H, W) uint8 and labels (B,) on a device
UNLABELED = -1  # the label of an image without one
FEWEST = 2  # labelled images of a class: one to train on, one to hold out


@dataclass(frozen=True)
class StoredImages:
    """Images of shape `shape`, (n, 3, H, W) uint8, in a file. Indexing reads only the images indexed.

    The file is not memory-mapped, because some network file systems can't map files and because a read error in a
    mapped file kills the process with SIGBUS.
    """

    file: Path
    shape: tuple[int, int, int, int]

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def nbytes(self) -> int:
        """Size of all images in bytes."""
        return math.prod(self.shape)

    def __getitem__(self, indices: Indices) -> npt.NDArray[np.uint8]:
        """The images with these indices (B,), in this order.

        Raises BadInput if the file is missing, can't be opened or has become shorter, and OSError for a fault of the
        machine (errors.read_error).
        """
        images = np.empty((len(indices), *self.shape[1:]), np.uint8)
        size = math.prod(self.shape[1:])
        try:
            with self.file.open("rb", buffering=0) as file:
                pairs = zip(images, indices.tolist(), strict=True)
                count: int = sum(os.preadv(file.fileno(), [image.data], index * size) for image, index in pairs)
        except OSError as error:
            raise read_error(self.file, error) from error
        self._refuse_shorter(count, images.nbytes)
        return images

    def read(self) -> npt.NDArray[np.uint8]:
        """All images. Raises as indexing does."""
        images = np.empty(self.shape, np.uint8)
        try:
            with self.file.open("rb") as file:  # not np.fromfile, which takes a read error for the file's end
                count = file.readinto(images.data)
        except OSError as error:
            raise read_error(self.file, error) from error
        self._refuse_shorter(count, images.nbytes)
        return images

    def _refuse_shorter(self, count: int, wanted: int) -> None:
        if count != wanted:
            raise BadInput(f"{self.file} has become shorter since it was opened: download it again")


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    pixels: uint8 (n, 3, H, W), or (n, 3, W, H) if `columns_first`.
    labels: int64 (n,), class indices from 0, or UNLABELED.
    """

    name: str
    pixels: npt.NDArray[np.uint8] | StoredImages
    labels: Indices
    columns_first: bool = False

    def __len__(self) -> int:
        return len(self.pixels)

    def load(self, indices: Indices, device: torch.device) -> tuple[Tensor, Tensor]:
        """Loads images (B, 3, H, W) uint8, not necessarily contiguous, and labels (B,) int64 to `device`."""
        images = torch.from_numpy(self.pixels[indices])
        labels = torch.from_numpy(self.labels[indices])
        if device.type == "cuda":
            images, labels = images.pin_memory(), labels.pin_memory()
        images = images.to(device, non_blocking=True)
        return (images.mT if self.columns_first else images), labels.to(device, non_blocking=True)

    def loader(self, device: torch.device, resident_gb: float) -> Loader:
        """Returns a function that loads batches to `device`, as `load` does, but from memory where possible.

        A split of up to `resident_gb` gigabytes is held in the device's memory, or in host memory if the split needs
        more than half of the device's free memory. A larger split is read from its file batch by batch.
        """
        size = self.pixels.nbytes
        if size > resident_gb * 1e9:
            return lambda indices: self.load(indices, device)
        in_memory = self.pixels.read() if isinstance(self.pixels, StoredImages) else self.pixels
        if device.type != "cuda" or size > torch.cuda.mem_get_info(device)[0] / 2:
            loaded = replace(self, pixels=in_memory)
            return lambda indices: loaded.load(indices, device)
        pixels = torch.from_numpy(in_memory).to(device)
        labels = torch.from_numpy(self.labels).to(device)

        def load(indices: Indices) -> tuple[Tensor, Tensor]:
            chosen = torch.from_numpy(indices).pin_memory().to(device, non_blocking=True)
            images = pixels.index_select(0, chosen)
            return (images.mT if self.columns_first else images), labels.index_select(0, chosen)

        return load

    def subset(self, indices: Indices) -> "Split":
        """A split of the samples with these indices, in this order, in memory."""
        return Split(self.name, self.pixels[indices], self.labels[indices], self.columns_first)


def holdout(labels: Indices, fraction: float) -> tuple[Indices, Indices]:
    """Splits labelled samples into (training, holdout) indices, stratified by class, each sorted.

    The holdout split has round(fraction * size) samples of each class, at least one; a class with two samples or more
    keeps at least one for training. A generator with a fixed seed selects them, so that the split is the same for every
    model, method and seed.
    """
    generator = np.random.default_rng(0)
    held = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        held.append(members[: max(1, min(round(fraction * len(members)), len(members) - 1))])
    chosen = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def can_hold_out(labels: Indices, classes: int) -> bool:
    """Whether each of the classes 0 to `classes` - 1 has the FEWEST samples that `holdout` needs."""
    return int(np.bincount(labels, minlength=classes).min()) >= FEWEST


def random_per_class(labels: Indices, per_class: int, draw: int) -> Indices:
    """Sorted indices of `per_class` random samples of each class. Raises ValueError if a class has fewer.

    A draw of more samples contains the draw of fewer with the same number. The samples depend only on the arguments, so
    that they are the same for every model, method and seed.
    """
    generator = np.random.default_rng([1, draw])
    chosen = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        if len(members) < per_class:
            raise ValueError(f"class {label} has {len(members)} samples, not {per_class}")
        chosen.append(members[:per_class])
    return np.sort(np.concatenate(chosen))


def balanced(labels: Indices, count: int) -> Indices:
    """Sorted indices of at most `count` samples, spread as evenly as possible over the classes: the first of each."""
    ranks = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranks[members] = np.arange(len(members))
    return np.sort(np.argsort(ranks, kind="stable")[:count])
