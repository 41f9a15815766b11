"""Random views by step: a pure function of (seed, step), so that a resumed run sees what it would have seen."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ssl_pkg.augment.parameters import permutation, sample_parameters
from ssl_pkg.augment.views import make_view
from ssl_pkg.config import View
from ssl_pkg.data.images import Indices, Split
from ssl_pkg.distributed.collectives import rank, world_size
from ssl_pkg.errors import BadInput


class ViewBatches:
    """The batches of one training: each epoch a new order of the whole split, without its incomplete last batch.

    A split of up to `resident_gb` gigabytes is held in memory; a larger one is read from its file. compiles: whether
    the views of a GPU may be one compiled function. field: the configuration's field that says `batch_size`.

    Calling it with a step gives the batch's views, each (B, 3, R, R) normalised, and its labels (B,); of several
    processes each gets its own part of the batch. Raises BadInput when built if the split has no full batch.
    """

    def __init__(
        self,
        split: Split,
        views: Sequence[View],
        *,
        resolution: int,
        batch_size: int,
        seed: int,
        device: torch.device,
        resident_gb: float,
        compiles: bool = False,
        field: str = "method.batch_size",
    ) -> None:
        if batch_size > len(split):
            raise BadInput(
                f"{field}={batch_size} is larger than the split {split.name}, which has {len(split):,} images: "
                f"give {field}={len(split)} or less"
            )
        if batch_size % world_size():
            raise BadInput(f"{field}={batch_size} must be a multiple of the {world_size()} processes")
        self._load = split.loader(device, resident_gb)
        self._compiles = compiles
        self._count, self._views, self._resolution = len(split), views, resolution
        self._batch_size, self._seed = batch_size, seed
        self._epoch, self._order = -1, torch.empty(0).long().numpy()
        self.steps_per_epoch = len(split) // batch_size

    def __call__(self, step: int) -> tuple[list[Tensor], Tensor]:
        """Views and labels of step `step`, from 0."""
        epoch, indices = step // self.steps_per_epoch, np.split(self.indices(step), world_size())[rank()]
        images, labels = self._load(indices)
        height, width = images.shape[2:]
        views = []
        for number, view in enumerate(self._views):
            parameters = sample_parameters(view, self._seed, epoch, indices, number, height, width)
            views.append(make_view(images, parameters, self._resolution, compiled=self._compiles))
        return views, labels

    def indices(self, step: int) -> Indices:
        """Which images of the split the whole batch of step `step` has."""
        epoch, position = divmod(step, self.steps_per_epoch)
        return self._epoch_order(epoch)[position * self._batch_size : (position + 1) * self._batch_size]

    def _epoch_order(self, epoch: int) -> Indices:
        if epoch != self._epoch:
            self._epoch, self._order = epoch, permutation(self._seed, epoch, self._count)
        return self._order
