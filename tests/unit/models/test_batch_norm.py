import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ssl_pkg.models.batch_norm import SplitBatchNorm2d, split_batch_norm

GROUPS = 3


def pair() -> tuple[nn.BatchNorm2d, SplitBatchNorm2d]:
    """A batch normalisation with random state, and a split one with the same state."""
    torch.manual_seed(0)
    plain = nn.BatchNorm2d(4).double()
    for tensor in (plain.weight, plain.bias, plain.running_mean, plain.running_var):
        assert tensor is not None
        nn.init.uniform_(tensor, 0.5, 2.0)
    split = nn.Sequential(copy.deepcopy(plain))
    split_batch_norm(split, GROUPS)
    assert isinstance(split[0], SplitBatchNorm2d)
    return plain, split[0]


def batch() -> Tensor:
    x = 3 * torch.randn(12, 4, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64) + 1
    return x.to(memory_format=torch.channels_last).requires_grad_()


def compiled(split: SplitBatchNorm2d, x: Tensor) -> Tensor:
    """Runs the graph that torch.compile traces, without compiling it."""
    in_one_pass: list[bool] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        in_one_pass.append("var_mean" in graph.code and "batch_norm" not in graph.code)
        return graph

    value = torch.compile(split, backend=backend, fullgraph=True)(x)
    assert in_one_pass == [True]
    return value


@pytest.mark.parametrize("implementation", [SplitBatchNorm2d.forward, SplitBatchNorm2d.in_one_pass, compiled])
def test_each_group_is_normalised_separately_in_training(implementation: Callable[[nn.Module, Tensor], Tensor]) -> None:
    plain, split = pair()
    x, same = batch(), batch()
    expected = torch.cat([plain(group) for group in x.chunk(GROUPS)])
    ours = implementation(split, same)
    torch.testing.assert_close(ours, expected)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    weights = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    (expected * weights).sum().backward()
    (ours * weights).sum().backward()
    torch.testing.assert_close(same.grad, x.grad)
    for (name, theirs), own in zip(plain.named_parameters(), split.parameters(), strict=True):
        torch.testing.assert_close(own.grad, theirs.grad, msg=name)
    assert plain.state_dict().keys() == split.state_dict().keys()
    for name, value in split.state_dict().items():
        torch.testing.assert_close(value, plain.state_dict()[name], msg=name)
    assert split.num_batches_tracked == GROUPS


def test_one_pass_over_bfloat16_is_as_accurate_as_torch() -> None:
    plain, split = pair()
    x = batch().detach()
    exact = torch.cat([plain(group) for group in x.chunk(GROUPS)])
    theirs, ours = split.float()(x.bfloat16()), split.in_one_pass(x.bfloat16())
    assert ours.dtype == torch.bfloat16
    assert (ours - exact).abs().max() <= 1.1 * (theirs - exact).abs().max()


def test_unequal_groups_are_refused() -> None:
    _, split = pair()
    with pytest.raises(ValueError, match="equal groups"):
        split(batch()[:10])


def test_evaluation_equals_the_plain_batch_norm() -> None:
    plain, split = pair()
    assert torch.equal(split.eval()(batch()), plain.eval()(batch()))


def test_one_group_changes_nothing() -> None:
    network = nn.Sequential(nn.BatchNorm2d(4))
    split_batch_norm(network, 1)
    assert type(network[0]) is nn.BatchNorm2d
