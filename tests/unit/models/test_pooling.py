"""The pool before the ReLU against torchvision's order, the ReLU first: value and gradient, without a tolerance."""

import copy
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import resnet18

from ssl_pkg.models.pooling import MaxPoolReLU, pool_before_relu


def usual(x: Tensor) -> Tensor:
    return nn.MaxPool2d(3, 2, 1)(nn.ReLU()(x))


def drawn(height: int, width: int, dtype: torch.dtype, levels: int, last: bool) -> Tensor:
    """Few levels, so that many maxima are shared and many are zero."""
    torch.manual_seed(height)
    x = torch.randint(-levels, levels + 1, (3, 5, height, width)).to(dtype) / 4
    return x.contiguous(memory_format=torch.channels_last) if last else x


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    levels=st.sampled_from([1, 4, 1000]),
    last=st.booleans(),
)
def test_value_and_gradient_are_those_of_the_usual_order(
    height: int, width: int, dtype: torch.dtype, levels: int, last: bool
) -> None:
    x = drawn(height, width, dtype, levels, last).requires_grad_()
    same_x = x.detach().clone().requires_grad_()
    expected, value = usual(x), MaxPoolReLU(3, 2, 1)(same_x)
    torch.testing.assert_close(value, expected, rtol=0, atol=0)
    slope = torch.randn_like(value)
    expected.backward(slope)
    value.backward(slope)
    torch.testing.assert_close(same_x.grad, x.grad, rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(MaxPoolReLU(3, 2, 1)(same_x), expected, rtol=0, atol=0)


def test_the_gradient_has_its_place_in_maps_of_more_places_than_two_bytes_count() -> None:
    x = torch.zeros(1, 1, 182, 182, requires_grad=True)
    with torch.no_grad():
        x[0, 0, 181, 181] = 1
    MaxPoolReLU(3, 2, 1)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.nonzero().tolist() == [[0, 0, 181, 181]]


def test_nothing_of_the_size_of_the_input_is_kept_for_the_gradient() -> None:
    x = drawn(24, 24, torch.float32, 4, last=True).requires_grad_() * 2
    size, kept, still = x.nbytes, [], weakref.ref(x)

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        y = MaxPoolReLU(3, 2, 1)(x)
    del x
    assert still() is None
    assert kept
    assert sum(tensor.nbytes for tensor in kept) < size / 2
    y.sum().backward()


@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("training", [True, False])
def test_a_resnet_is_the_same_function(training: bool, order: torch.memory_format) -> None:
    torch.manual_seed(0)
    plain = resnet18(weights=None).to(memory_format=order).train(training)
    ours = copy.deepcopy(plain)
    pool_before_relu(ours)
    images = torch.randn(4, 3, 32, 32).contiguous(memory_format=order)
    expected, value = plain(images), ours(images)
    torch.testing.assert_close(value, expected, rtol=0, atol=0)
    expected.square().sum().backward()
    value.square().sum().backward()
    assert plain.state_dict().keys() == ours.state_dict().keys()
    for own, parameter in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own.grad, parameter.grad, rtol=0, atol=0)
