"""The projection and prediction heads of the papers."""

from torch import nn


def simclr_projector(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """SimCLR's g (2002.05709 section 2.1): linear, ReLU, linear.

    The batch normalisation after each linear layer, the last without bias, is from the authors' code.
    """
    last = nn.BatchNorm1d(outputs)
    last.register_parameter("bias", None)
    return nn.Sequential(
        nn.Linear(inputs, hidden, bias=False),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, outputs, bias=False),
        last,
    )


def byol_mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """BYOL's projector and predictor (2006.07733 section 3.3): linear, BN, ReLU, linear."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.BatchNorm1d(hidden),
        nn.ReLU(inplace=True),
        nn.Linear(hidden, outputs, bias=False),
    )


def moco_projector(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """MoCo v2's head (2003.04297 section 3): two layers and a ReLU, no batch normalisation."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(inplace=True), nn.Linear(hidden, outputs))
