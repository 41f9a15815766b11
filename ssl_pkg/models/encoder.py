"""The encoder: torchvision's ResNet-18 (He et al. 1512.03385) with its 7x7 stem and max-pool."""

import copy
from typing import Final

import torch
from torch import nn
from torchvision.models import resnet18

from ssl_pkg.models.convolution import use_small_map_convolutions
from ssl_pkg.models.pooling import pool_before_relu

EMBEDDING_DIM: Final = 512  # size of an embedding, the average pool's output


def build_encoder() -> nn.Module:
    """A ResNet-18 with random weights and without its last layer: (B, 3, H, W) -> (B, 512)."""
    encoder: nn.Module = resnet18(weights=None)
    encoder.fc = nn.Identity()
    use_small_map_convolutions(encoder)
    pool_before_relu(encoder)
    return encoder


def to_device(network: nn.Module, device: torch.device) -> None:
    """Moves the network to the device and to channels_last memory format, in which convolutions are fastest."""
    network.to(device)
    network.to(memory_format=torch.channels_last)


def without_classifier(classifier: nn.Module) -> nn.Module:
    """A copy of the classifier without its last layer, on the same device: (B, 3, H, W) -> (B, 512)."""
    encoder = copy.deepcopy(classifier)
    encoder.fc = nn.Identity()
    return encoder
