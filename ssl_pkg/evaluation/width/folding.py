"""Batch normalisation folded into the convolutions before it: the network that all measures of width are taken on."""

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """A copy of `model` in eval mode, in which every batch norm is part of the convolution before it.

    In eval mode a batch norm is an affine map of each channel, so that

        BN(W * x) = (gamma / sqrt(var + eps)) W * x + (beta - gamma mean / sqrt(var + eps)),

    a convolution with a bias. The function is the same up to rounding, but a rescaling of W that the batch norm
    absorbs while training (W -> c W, mean -> c mean, var -> c^2 var) leaves the folded weights as they are; with the
    statistics merely frozen it would change every measure of width. Nor can a perturbed forward pass change statistics,
    for there are none. The folded biases are parameters like any other.

    A batch norm belongs to the convolution that was registered just before it in the same module, as in torchvision's
    ResNets. Raises ValueError for one that follows no convolution. `model` is left as it is.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for parent in list(folded.modules()):
        before: tuple[str, nn.Module] | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                if before is None or not isinstance(before[1], nn.Conv2d):
                    raise ValueError(f"the batch norm {name!r} of {type(parent).__name__} follows no convolution")
                setattr(parent, before[0], fuse_conv_bn_eval(before[1], child).requires_grad_(False))
                setattr(parent, name, nn.Identity())
            before = name, child
    return folded
