"""Folds batch normalisation into the preceding convolutions; all measures of width use the folded network."""

import copy

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """A copy of `model` in eval mode in which every batch norm is merged into the convolution before it.

    In eval mode a batch norm is an affine map of each channel, so

        BN(W * x) = (gamma / sqrt(var + eps)) W * x + (beta - gamma mean / sqrt(var + eps)),

    which is a convolution with a bias. The function is the same up to rounding. Folding has two advantages. Training
    with batch norm is invariant to W -> c W, mean -> c mean, var -> c^2 var: this rescaling leaves the folded weights
    unchanged, but would change every measure of width on a network with frozen statistics. And a perturbed forward pass
    can't change batch statistics, because the folded network has none. The folded biases are ordinary parameters.

    A batch norm is merged into the convolution that is registered directly before it in the same module, as in
    torchvision's ResNets. Raises ValueError if a batch norm does not follow a convolution. `model` is not changed.
    """
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for parent in list(folded.modules()):
        before: tuple[str, nn.Module] | None = None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                if before is None or not isinstance(before[1], nn.Conv2d):
                    raise ValueError(
                        f"the batch norm {name!r} of {type(parent).__name__} does not follow a convolution"
                    )
                setattr(parent, before[0], fuse_conv_bn_eval(before[1], child).requires_grad_(False))
                setattr(parent, name, nn.Identity())
            before = name, child
    return folded
