"""Batches of random views as a pure function of (seed, step), so that a resumed run needs no data loader state."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ssl_pkg.augment.parameters import permutation, sample_parameters
from ssl_pkg.augment.views import make_view
from ssl_pkg.config.batch_sizes import split_error
from ssl_pkg.config.schema import View
from ssl_pkg.data.images import Indices, Split
from ssl_pkg.distributed.collectives import rank, world_size
from ssl_pkg.errors import BadInput


class ViewBatches:
    """Callable that returns the views and labels of a training step. Each pass over the split has a new order.

    The incomplete last batch of a pass is dropped. In a process group each rank gets its shard of the batch.

    resolution: R, the side of a view in pixels. batch_size: of the global batch. passes: over the split in an epoch.
    resident_gb: a split of at most this size is kept in memory, a larger split is read from its file. compiles: whether
    views on a GPU are made by a compiled function.

    Raises BadInput if the split is smaller than a batch, or if the batch can't be divided between the ranks.
    """

    def __init__(
        self,
        split: Split,
        views: Sequence[View],
        *,
        resolution: int,
        batch_size: int,
        passes: int = 1,
        seed: int,
        device: torch.device,
        resident_gb: float,
        compiles: bool = False,
    ) -> None:
        if error := split_error(batch_size, split.name, len(split), world_size()):
            raise BadInput(error)
        self._load = split.loader(device, resident_gb)
        self._compiles = compiles
        self._count, self._views, self._resolution = len(split), views, resolution
        self._batch_size, self._seed = batch_size, seed
        self._pass, self._order = -1, np.empty(0, np.int64)
        self._steps_per_pass = len(split) // batch_size
        self.steps_per_epoch = passes * self._steps_per_pass

    def __call__(self, step: int) -> tuple[list[Tensor], Tensor]:
        """The normalised views (B, 3, R, R) and labels (B,) of this rank at step `step`, from 0."""
        number, indices = step // self._steps_per_pass, np.split(self.indices(step), world_size())[rank()]
        images, labels = self._load(indices)
        height, width = images.shape[2:]
        views = []
        for place, view in enumerate(self._views):
            parameters = sample_parameters(view, self._seed, number, indices, place, height, width)
            views.append(make_view(images, parameters, self._resolution, compiled=self._compiles))
        return views, labels

    def indices(self, step: int) -> Indices:
        """The indices in the split of the images of the global batch of step `step`."""
        number, position = divmod(step, self._steps_per_pass)
        return self._pass_order(number)[position * self._batch_size : (position + 1) * self._batch_size]

    def _pass_order(self, number: int) -> Indices:
        if number != self._pass:
            self._pass, self._order = number, permutation(self._seed, number, self._count)
        return self._order
