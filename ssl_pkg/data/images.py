"""Labelled images in memory or on disk, and the order in which training takes them."""

import mmap
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Indices = npt.NDArray[np.int64]
Gather = Callable[[Indices], tuple[Tensor, Tensor]]  # (B,) to images (B, 3, H, W) uint8 and labels (B,) on a device
UNLABELED = -1


@dataclass(frozen=True)
class Split:
    """Images and labels by index.

    pixels: uint8 (n, 3, H, W), or with rows and columns swapped where `columns_first`; may be a memory map.
    labels: int64 (n,), class indices from 0; UNLABELED where there are none.
    """

    name: str
    pixels: npt.NDArray[np.uint8]
    labels: Indices
    columns_first: bool = False

    def __len__(self) -> int:
        return len(self.pixels)

    def gather(self, indices: Indices, device: torch.device) -> tuple[Tensor, Tensor]:
        """Images (B, 3, H, W) uint8, not necessarily contiguous, and labels (B,) int64, on `device`."""
        images = torch.from_numpy(self.pixels[indices])
        labels = torch.from_numpy(self.labels[indices])
        if device.type == "cuda":
            images, labels = images.pin_memory(), labels.pin_memory()
        images = images.to(device, non_blocking=True)
        return (images.mT if self.columns_first else images), labels.to(device, non_blocking=True)

    def resident(self, device: torch.device, gigabytes: float) -> "Gather":
        """What `gather` does, from memory: the device's, or the host's if there is no room for this on the device.

        A split of more than `gigabytes` stays where it is, in a memory map its pages come and go.
        """
        size = self.pixels.nbytes
        if size > gigabytes * 1e9:
            return lambda indices: self.gather(indices, device)
        in_memory = _in_memory(self.pixels)
        if device.type != "cuda" or size > torch.cuda.mem_get_info(device)[0] / 2:
            loaded = replace(self, pixels=in_memory)
            return lambda indices: loaded.gather(indices, device)
        pixels = torch.from_numpy(in_memory).to(device)
        labels = torch.from_numpy(self.labels).to(device)

        def gather(indices: Indices) -> tuple[Tensor, Tensor]:
            chosen = torch.from_numpy(indices).pin_memory().to(device, non_blocking=True)
            images = pixels.index_select(0, chosen)
            return (images.mT if self.columns_first else images), labels.index_select(0, chosen)

        return gather

    def take(self, indices: Indices) -> "Split":
        """The split of these samples only, in this order, in memory."""
        return Split(self.name, self.pixels[indices], self.labels[indices], self.columns_first)


def _in_memory(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The pixels without a map. A whole file is read: what is copied through its map is in memory twice."""
    if isinstance(pixels, np.memmap) and isinstance(pixels.base, mmap.mmap):  # a part of a map has the map as base
        whole: npt.NDArray[np.uint8] = np.fromfile(str(pixels.filename), np.uint8, pixels.size, offset=pixels.offset)
        return whole.reshape(pixels.shape)
    return np.array(pixels) if isinstance(pixels, np.memmap) else pixels


def holdout(labels: Indices, fraction: float) -> tuple[Indices, Indices]:
    """Stratified split of labelled samples into (kept, held out): the same for every model, method and seed.

    Each class gives round(fraction · its size) samples, at least one, drawn with a fixed generator.
    """
    generator = np.random.default_rng(0)
    held = []
    for label in np.unique(labels):
        members = generator.permutation(np.flatnonzero(labels == label))
        held.append(members[: max(1, round(fraction * len(members)))])
    chosen = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), chosen), chosen


def balanced(labels: Indices, count: int) -> Indices:
    """Indices of at most `count` samples, as many of each class as there are, in file order: a fixed subset."""
    ranks = np.zeros(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        ranks[members] = np.arange(len(members))
    return np.sort(np.argsort(ranks, kind="stable")[:count])
