"""Compares the im2col convolution with torch's: output and both gradients."""

import copy
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ssl_pkg.models import convolution
from ssl_pkg.models.convolution import Im2col, SmallMapConv2d, use_small_map_convolutions
from ssl_pkg.models.encoder import build_encoder


def plain_and_ours(inputs: int, outputs: int, kernel: int, stride: int) -> tuple[nn.Conv2d, nn.Conv2d]:
    """torch's convolution and ours with the same weights."""
    plain = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)
    ours = copy.deepcopy(plain)
    use_small_map_convolutions(ours)
    assert isinstance(ours, SmallMapConv2d)
    return plain, ours


@pytest.mark.slow
@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    side=st.integers(1, 12),
    kernel=st.sampled_from([1, 3]),
    stride=st.sampled_from([1, 2]),
    channels=st.sampled_from([(2, 3), (4, 4), (5, 1)]),
    im2col=st.sampled_from(Im2col),
)
def test_output_and_gradients_equal_torchs_convolution(
    side: int, kernel: int, stride: int, channels: tuple[int, int], im2col: Im2col
) -> None:
    torch.manual_seed(0)
    plain, ours = plain_and_ours(*channels, kernel, stride)
    # in float64, which doesn't use oneDNN: oneDNN's gradient is wrong for 2 -> 3 channels, 1x1, stride 2, on AVX2
    plain = plain.double()
    same_x = torch.randn(3, channels[0], side, side).contiguous(memory_format=torch.channels_last).requires_grad_()
    x = same_x.detach().double().requires_grad_()
    expected = plain(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convolution, "_fastest", lambda side, stride, dtype: im2col)
        value = ours(same_x)
    torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5, check_dtype=False)
    slope = torch.randn_like(value)
    expected.backward(slope.double())
    value.backward(slope)
    torch.testing.assert_close(same_x.grad, x.grad, atol=1e-5, rtol=1e-5, check_dtype=False)
    torch.testing.assert_close(ours.weight.grad, plain.weight.grad, atol=1e-4, rtol=1e-5, check_dtype=False)


@pytest.mark.slow
@pytest.mark.parametrize("resolution", [32, 96])
def test_every_convolution_of_the_network_has_correct_gradients(resolution: int) -> None:
    """Guards against wrong gradients of a library kernel on this machine, because the loss may fall nevertheless."""
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


@pytest.mark.parametrize("im2col", Im2col)
def test_gradients_equal_finite_differences(im2col: Im2col, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convolution, "_fastest", lambda side, stride, dtype: im2col)
    torch.manual_seed(0)
    _, ours = plain_and_ours(2, 3, 3, 2)
    ours = ours.double()
    x = torch.randn(2, 2, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, w: ours._conv_forward(x, w, None), (x, ours.weight))


def first_gradients(resolution: int, count: int = 4) -> Iterator[tuple[str, torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Name and gradients of each weight: of our ResNet and of torch's under bfloat16, and of torch's in float32.

    count: the number of images.
    """
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
    exact = copy.deepcopy(plain)
    images = torch.randn(count, 3, resolution, resolution)
    for network in (ours, plain, exact):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=network is not exact):
            network(images).float().square().mean().backward()
    for (name, weight), other, true in zip(
        ours.named_parameters(), plain.parameters(), exact.parameters(), strict=True
    ):
        assert weight.grad is not None and other.grad is not None and true.grad is not None
        yield name, weight.grad, other.grad, true.grad


@pytest.mark.slow
@pytest.mark.parametrize("resolution", [32, 64, 96])
def test_the_first_gradient_of_a_resnet_under_bfloat16_equals_torchs(
    resolution: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # With AMX the forward pass uses im2col, too, and rounds in another order than oneDNN: the test of accuracy has it.
    monkeypatch.setattr(convolution, "_has_amx", lambda: False)
    for name, ours, plain, exact in first_gradients(resolution):
        # 2 %, or 5 % of bfloat16's own error, which at 32 px is most of the gradient and depends on the processor
        limit = max(0.02 * plain.norm(), 0.05 * (plain - exact).norm())
        assert (ours - plain).norm() < limit, name


@pytest.mark.slow
@pytest.mark.parametrize("amx", [False, True])
@pytest.mark.parametrize("resolution", [32, 64, 96])
def test_the_first_gradient_under_bfloat16_is_as_accurate_as_torchs(
    resolution: int, amx: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convolution, "_has_amx", lambda: amx)
    gradients = first_gradients(resolution, count=32)
    errors = torch.stack([(ours - exact).norm() / (plain - exact).norm() for _, ours, plain, exact in gradients])
    # With AMX, where rounding differs from the first layer on, the ratio of a single weight scatters by some percent.
    assert errors.log().mean().exp() < 1.03 and errors.max() < (1.2 if amx else 1.03)


@pytest.mark.slow
@pytest.mark.parametrize("resolution", [32, 64, 96])
def test_each_convolution_under_bfloat16_is_as_accurate_as_torchs_with_amx(
    resolution: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On equal inputs, where no difference of an earlier layer matters."""
    monkeypatch.setattr(convolution, "_has_amx", lambda: True)
    torch.manual_seed(0)
    network = build_encoder().to(memory_format=torch.channels_last)
    seen: list[tuple[nn.Module, torch.Tensor]] = []
    for module in network.modules():
        if isinstance(module, SmallMapConv2d):
            module.register_forward_hook(lambda layer, inputs, _: seen.append((layer, inputs[0].detach())))
    network(torch.randn(4, 3, resolution, resolution).contiguous(memory_format=torch.channels_last))
    for ours, x in list(seen):
        plain = copy.deepcopy(ours)
        plain.__class__ = nn.Conv2d
        slope = torch.randn_like(plain(x))
        computed = []
        for layer, enabled in ((ours, True), (plain, True), (plain, False)):
            same = x.clone().requires_grad_()
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                value = layer(same)
            computed.append((value, *torch.autograd.grad(value, (layer.weight, same), slope.to(value.dtype))))
        # The input gradient is the sum of as many products as the kernel has taps, each rounded to bfloat16.
        for limit, own, other, exact in zip((1.03, 1.03, 1.6), *computed, strict=True):
            assert (own.float() - exact).norm() < limit * (other.float() - exact).norm()


LAYER4 = ["layer4.0.conv1", "layer4.0.conv2", "layer4.0.downsample.0", "layer4.1.conv1", "layer4.1.conv2"]
TO_6X6 = ["layer3.0.conv1", "layer3.0.downsample.0"]
ON_6X6 = ["layer3.0.conv2", "layer3.1.conv1", "layer3.1.conv2"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("amx", "dtype", "weight_gradient_only", "all_parts"),
    [
        (False, torch.bfloat16, [*TO_6X6, *LAYER4], []),
        (True, torch.float32, [*TO_6X6, *LAYER4], []),
        (True, torch.bfloat16, [*TO_6X6, *ON_6X6], LAYER4),
    ],
)
def test_which_layers_of_a_resnet_at_96_px_use_im2col_in_training(
    amx: bool,
    dtype: torch.dtype,
    weight_gradient_only: list[str],
    all_parts: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(convolution, "_has_amx", lambda: amx)
    done: dict[str, object] = {}
    encoder = build_encoder()
    for name, module in encoder.named_modules():
        if isinstance(module, SmallMapConv2d):
            module.register_forward_hook(lambda _, __, value, name=name: done.update({name: value.grad_fn}))
    images = torch.randn(2, 3, 96, 96)
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        encoder(images)
        by_im2col = {name: node.all_parts for name, node in done.items() if hasattr(node, "all_parts")}
        assert len(done) == 20
        assert sorted(by_im2col) == sorted(weight_gradient_only + all_parts)
        assert sorted(name for name, whole in by_im2col.items() if whole) == all_parts
        with torch.no_grad():
            encoder(images)
    assert not any(done.values())


def test_unsupported_convolutions_are_not_replaced() -> None:
    others = nn.ModuleList(
        [
            nn.Conv2d(4, 4, 3, padding=1),
            nn.Conv2d(4, 4, 3, padding=1, bias=False, groups=2),
            nn.Conv2d(4, 4, 3, padding=1, bias=False, dilation=2),
            nn.Conv2d(4, 4, 3, padding=1, bias=False, padding_mode="circular"),
            nn.Conv2d(4, 4, 3, padding="same", bias=False),
            nn.Conv2d(4, 4, (3, 1), padding=(1, 0), bias=False),
            nn.Conv2d(4, 4, 3, stride=(1, 2), padding=1, bias=False),
        ]
    )
    use_small_map_convolutions(others)
    assert not any(isinstance(module, SmallMapConv2d) for module in others)
