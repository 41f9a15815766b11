"""Metrics that show whether projections are spread over the sphere or have collapsed."""

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from ssl_pkg.methods.base import without_autocast

_KERNEL: Final = 2.0  # t of the Gaussian potential (2005.10242 section 4.2)


def representation_health(first: Tensor, second: Tensor) -> dict[str, Tensor]:
    """Spread, alignment and uniformity of the projections of two views of the same N ≥ 2 images.

    first, second: (N, D) of the global batch, any scale. Returns scalars on the device, without gradient and without
    synchronising with the device, because a CUDA graph captures this computation. z is the projection with unit length.

    z_std: the standard deviation of z over the first view's batch, averaged over the D dimensions: about 1/√D if z is
        spread evenly over the sphere, 0 after a collapse.
    alignment: E ‖z − z′‖² of the two views of an image, from 0 to 4: the loss l_align of Wang and Isola (2005.10242
        section 4.1) with α = 2. Smaller is better.
    uniformity: log E exp(−2‖z_i − z_j‖²) over the pairs of different images, averaged over the two views: their loss
        l_uniform with t = 2 (section 4.2). 0 after a collapse, at least −8; smaller is better.
    """
    z, other = (F.normalize(view.detach().float(), dim=1) for view in (first, second))
    return {
        "z_std": z.std(dim=0, correction=0).mean(),
        "alignment": (z - other).square().sum(dim=1).mean(),
        "uniformity": (_uniformity(z) + _uniformity(other)) / 2,
    }


def _uniformity(z: Tensor) -> Tensor:
    """log E exp(−t‖z_i − z_j‖²) over i ≠ j. z: (N, D) with unit rows, so that ‖z_i − z_j‖² = 2 − 2 z_i·z_j."""
    with without_autocast(z):
        exponents = 2 * _KERNEL * (z @ z.T - 1)
    exponents.fill_diagonal_(-torch.inf)
    return exponents.flatten().logsumexp(dim=0) - math.log(len(z) * (len(z) - 1))
