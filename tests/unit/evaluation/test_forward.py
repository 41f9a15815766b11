import numpy as np
import torch
from torch import nn

from ssl_pkg.data.images import Split
from ssl_pkg.evaluation.forward import outputs
from ssl_pkg.models.encoder import build_encoder


def split(count: int) -> Split:
    pixels = np.random.default_rng(0).integers(0, 256, (count, 3, 96, 96), dtype=np.uint8)
    return Split("x", pixels, np.zeros(count, dtype=np.int64))


def test_outputs_change_neither_batch_statistics_nor_the_mode() -> None:
    torch.manual_seed(0)
    encoder = build_encoder().train()
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    outputs(encoder, split(5), 32, torch.device("cpu"))
    assert encoder.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in encoder.state_dict().items())


def test_outputs_are_in_the_order_of_the_images_for_any_batch_size() -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = split(300)  # more than a batch
    whole = outputs(network, images, 32, torch.device("cpu"))
    assert whole.shape == (300, 3)
    cpu = torch.device("cpu")
    single = np.concatenate([outputs(network, images.subset(np.array([i])), 32, cpu) for i in (0, 255, 299)])
    np.testing.assert_allclose(whole[[0, 255, 299]], single, rtol=1e-5)


def test_outputs_are_computed_in_float32_within_autocast() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 7))
    plain = outputs(network, split(5), 32, torch.device("cpu"))
    with torch.autocast("cpu", torch.bfloat16):
        assert np.array_equal(outputs(network, split(5), 32, torch.device("cpu")), plain)
