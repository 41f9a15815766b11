"""Max-pool before ReLU equals ReLU before max-pool, torchvision's order, exactly in output and gradient."""

import copy
import weakref

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torchvision.models import resnet18

from ssl_pkg.models.pooling import MaxPoolReLU, pool_before_relu


def relu_then_pool(x: Tensor) -> Tensor:
    return nn.MaxPool2d(3, 2, 1)(nn.ReLU()(x))


def random_map(height: int, width: int, dtype: torch.dtype, levels: int, channels_last: bool) -> Tensor:
    """A map with few distinct values, so that many windows have several maxima or a maximum of zero."""
    torch.manual_seed(height)
    x = torch.randint(-levels, levels + 1, (3, 5, height, width)).to(dtype) / 4
    return x.contiguous(memory_format=torch.channels_last) if channels_last else x


@settings(derandomize=True, deadline=None, max_examples=60)
@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    levels=st.sampled_from([1, 4, 1000]),
    channels_last=st.booleans(),
)
def test_output_and_gradient_equal_torchvisions_order(
    height: int, width: int, dtype: torch.dtype, levels: int, channels_last: bool
) -> None:
    x = random_map(height, width, dtype, levels, channels_last).requires_grad_()
    same_x = x.detach().clone().requires_grad_()
    expected, value = relu_then_pool(x), MaxPoolReLU(3, 2, 1)(same_x)
    torch.testing.assert_close(value, expected, rtol=0, atol=0)
    slope = torch.randn_like(value)
    expected.backward(slope)
    value.backward(slope)
    torch.testing.assert_close(same_x.grad, x.grad, rtol=0, atol=0)
    with torch.no_grad():
        torch.testing.assert_close(MaxPoolReLU(3, 2, 1)(same_x), expected, rtol=0, atol=0)


def test_the_gradient_of_a_map_too_large_for_two_byte_indices() -> None:
    x = torch.zeros(1, 1, 182, 182, requires_grad=True)
    with torch.no_grad():
        x[0, 0, 181, 181] = 1
    MaxPoolReLU(3, 2, 1)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.nonzero().tolist() == [[0, 0, 181, 181]]


def test_the_input_is_not_saved_for_the_backward_pass() -> None:
    x = random_map(24, 24, torch.float32, 4, channels_last=True).requires_grad_() * 2
    size, saved, reference = x.nbytes, [], weakref.ref(x)

    def save(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
        y = MaxPoolReLU(3, 2, 1)(x)
    del x
    assert reference() is None
    assert saved
    assert sum(tensor.nbytes for tensor in saved) < size / 2
    y.sum().backward()


@pytest.mark.slow
@pytest.mark.parametrize("order", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("training", [True, False])
def test_a_resnet_gives_the_same_output_and_gradients(training: bool, order: torch.memory_format) -> None:
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
