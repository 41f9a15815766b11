"""Networks small enough for brute force, and their objectives."""

import torch
from torch import Tensor, nn

from ssl_pkg.evaluation.width.perturb import Objective


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def labels(count: int, classes: int) -> Tensor:
    return torch.arange(count) % classes


def fill(network: nn.Module, seed: int = 0) -> nn.Module:
    """Weights of size one from their own generator."""
    generator = torch.Generator().manual_seed(seed)
    for weight in network.parameters():
        weight.data = torch.randn(weight.shape, generator=generator)
    return network.eval()


def learnable(count: int, features: int, classes: int) -> tuple[Tensor, Tensor]:
    """Points around one centre for each class."""
    target = labels(count, classes)
    return 2 * draw(classes, features, seed=1)[target] + 0.5 * draw(count, features, seed=2), target


def objective(network: nn.Module, inputs: Tensor, target: Tensor, batch_size: int = 1000) -> Objective:
    return Objective(network, inputs, target, batch_size, lambda: None)


def mlp(activation: nn.Module) -> nn.Module:
    return fill(nn.Sequential(nn.Linear(3, 5), activation, nn.Linear(5, 3)))


def with_statistics(network: nn.Module, seed: int = 0) -> nn.Module:
    """Batch norms with statistics, scales and shifts as after training."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            size = module.running_mean.shape
            module.running_mean = 0.5 * torch.randn(size, generator=generator)
            module.running_var = 0.2 + torch.rand(size, generator=generator)
            module.weight.data = 0.3 + torch.rand(size, generator=generator)
            module.bias.data = 0.5 * torch.randn(size, generator=generator)
    return network


def convolutional() -> nn.Sequential:
    """As torchvision's ResNets: convolutions with batch norm, then `fc`."""
    torch.manual_seed(0)
    body = (
        nn.Conv2d(3, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    network = nn.Sequential(*body)
    network.fc = nn.Linear(8, 4)
    with_statistics(network)
    return network.eval()
