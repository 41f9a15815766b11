"""The products against torch's own convolution, value and both gradients."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ssl_pkg.models import convolution
from ssl_pkg.models.convolution import SmallMapConv2d, use_small_map_convolutions
from ssl_pkg.models.encoder import build_encoder


def double(inputs: int, outputs: int, kernel: int, stride: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """torch's convolution and ours with the same weights."""
    plain = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    ours = copy.deepcopy(plain)
    use_small_map_convolutions(ours)
    assert isinstance(ours, SmallMapConv2d)
    return plain, ours


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    side=st.integers(1, 12),
    kernel=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    channels=st.sampled_from([(2, 3), (4, 4), (5, 1)]),
    amx=st.booleans(),
)
def test_value_and_gradients_are_those_of_torchs_convolution(
    side: int, kernel: int, stride: int, channels: tuple[int, int], amx: bool
) -> None:
    torch.manual_seed(0)
    plain, ours = double(*channels, kernel, stride)
    # in float64, which oneDNN leaves alone: its float32 gradient is wrong for 2 -> 3 channels, 1x1, stride 2, on AVX2
    plain = plain.double()
    same_x = torch.randn(3, channels[0], side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
    x = same_x.detach().double().requires_grad_()
    expected = plain(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "_has_amx", lambda: amx)
        value = ours(same_x)
    torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5, check_dtype=False)
    slope = torch.randn_like(value)
    expected.backward(slope.double())
    value.backward(slope)
    torch.testing.assert_close(same_x.grad, x.grad, atol=1e-5, rtol=1e-5, check_dtype=False)
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad, atol=1e-4, rtol=1e-5, check_dtype=False)


@pytest.mark.parametrize("resolution", [32, 96])
def test_every_convolution_of_the_network_has_the_gradients_of_float64(resolution: int) -> None:
    """On the machine at hand: a wrong gradient of a library's kernel would not be seen in a loss that falls."""
    torch.manual_seed(0)
    network = build_encoder().to(memory_format=torch.channels_last)
    seen: list[tuple[SmallMapConv2d, torch.Tensor]] = []
    for module in network.modules():
        if isinstance(module, SmallMapConv2d):
            module.register_forward_hook(lambda layer, inputs, _: seen.append((layer, inputs[0].detach())))
    network(torch.randn(3, 3, resolution, resolution).contiguous(memory_format=torch.channels_last))
    assert len(seen) == 20
    for layer, kept in list(seen):
        x, exact_x = kept.clone().requires_grad_(), kept.double().requires_grad_()
        exact = copy.deepcopy(layer).double()
        value = layer(x)
        slope = torch.randn_like(value)
        ours = torch.autograd.grad(value, (x, layer.weight), slope)
        for found, expected in zip(
            ours, torch.autograd.grad(exact(exact_x), (exact_x, exact.weight), slope.double()), strict=True
        ):
            assert (found - expected).norm() <= 1e-5 * expected.norm(), layer


@pytest.mark.parametrize("amx", [False, True])
def test_derivatives_are_those_of_finite_differences(amx: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "_has_amx", lambda: amx)
    torch.manual_seed(0)
    _, ours = double(2, 3, 3, 2)
    ours = ours.double()
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: ours._conv_forward(x, w, None), (x, ours.weight))


@pytest.mark.parametrize("resolution", [32, 64, 96])
def test_a_resnet_has_the_same_first_gradient_under_bfloat16(resolution: int) -> None:
    torch.manual_seed(0)
    ours = build_encoder().to(memory_format=torch.channels_last)
    plain = copy.deepcopy(ours)
    replaced = 0
    for module in plain.modules():
        if isinstance(module, SmallMapConv2d):
            module.__class__ = nn.Conv2d
            replaced += 1
    assert replaced == 20
    assert list(ours.state_dict()) == list(plain.state_dict())
    images = torch.randn(4, 3, resolution, resolution)
    for network in (ours, plain):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            network(images).float().square().mean().backward()
    for (name, ours_weight), plain_weight in zip(ours.named_parameters(), plain.parameters(), strict=True):
        if "fc" not in name:
            assert ours_weight.grad is not None and plain_weight.grad is not None
            difference = (ours_weight.grad - plain_weight.grad).norm() / plain_weight.grad.norm()
            assert difference < 0.02, name  # bfloat16 keeps 8 bits; its roundings add up on the way down
