import pytest
import torch
import torch.nn.functional as F
from small_networks import convolutional, draw, labels, mlp, objective
from torch import Tensor, nn

from ssl_pkg.evaluation.width.folding import fold_batch_norm
from ssl_pkg.evaluation.width.perturb import Objective, full_precision, normalize


def whole_loss(network: nn.Module, inputs: Tensor, target: Tensor, flat: Tensor) -> Tensor:
    """A second way to the loss: the flat vector by torch's own helper, all images in one batch."""
    shapes = [(name, weight.shape) for name, weight in network.named_parameters()]
    parts = torch.split(flat, [shape.numel() for _, shape in shapes])
    weights = {name: part.view(shape) for (name, shape), part in zip(shapes, parts, strict=True)}
    return F.cross_entropy(torch.func.functional_call(network, weights, (inputs,)), target)


def test_values_do_not_depend_on_the_batch_size() -> None:
    network, inputs, target = mlp(nn.ReLU()), draw(11, 3), labels(11, 3)
    logits = network(inputs)
    values = objective(network, inputs, target, batch_size=4).unperturbed
    centred = logits - logits.mean(1, keepdim=True)
    assert values.loss == pytest.approx(F.cross_entropy(logits, target).item(), rel=1e-6)
    expected = F.cross_entropy(centred / centred.square().sum(1, keepdim=True).sqrt(), target).item()
    assert values.normalized_loss == pytest.approx(expected, rel=1e-6)
    assert values.accuracy == pytest.approx((logits.argmax(1) == target).float().mean().item())


def test_normalised_logits_are_invariant_to_scale_and_offset() -> None:
    logits = draw(5, 10)
    torch.testing.assert_close(normalize(7 * logits + 3), normalize(logits), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(normalize(logits).norm(dim=1), torch.ones(5))
    assert torch.equal(normalize(torch.zeros(2, 3)), torch.zeros(2, 3))


def test_derivatives_equal_those_of_the_whole_batch() -> None:
    network, inputs, target = mlp(nn.Tanh()), draw(11, 3), labels(11, 3)
    found = objective(network, inputs, target, batch_size=4)
    point, vector = found.weights + 0.1, draw(len(found.weights))
    expected_gradient = torch.func.grad(lambda flat: whole_loss(network, inputs, target, flat))(point)
    loss, gradient = found.gradient(point)
    assert loss == pytest.approx(whole_loss(network, inputs, target, point).item(), rel=1e-6)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)
    _, expected = torch.autograd.functional.hvp(
        lambda flat: whole_loss(network, inputs, target, flat), found.weights, vector
    )
    torch.testing.assert_close(found.hessian_product(vector), expected, rtol=1e-4, atol=1e-6)


def test_the_gradient_of_the_normalised_loss_equals_differences() -> None:
    found = objective(mlp(nn.Tanh()), draw(11, 3), labels(11, 3))
    _, gradient = found.gradient(found.weights, normalized=True)
    step = 1e-2 * draw(len(found.weights))
    rise = found.at(found.weights + step).normalized_loss - found.at(found.weights - step).normalized_loss
    assert torch.dot(gradient, 2 * step).item() == pytest.approx(rise, rel=1e-2)


def test_autocast_and_fast_formats_outside_change_nothing() -> None:
    found = objective(fold_batch_norm(convolutional()), draw(6, 3, 9, 9), labels(6, 4))
    plain = found.at(found.weights)
    with torch.autocast("cpu", torch.bfloat16):
        assert found.at(found.weights) == plain
        with full_precision():
            assert (draw(2, 2) @ draw(2, 2)).dtype == torch.float32
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"  # PyTorch's default is back
    assert not torch.backends.cudnn.deterministic


def test_the_parts_are_a_random_partition_of_the_images() -> None:
    network, inputs, target = mlp(nn.Tanh()), draw(11, 3), labels(11, 3)
    found = objective(network, inputs, target, batch_size=2)
    start = found.unperturbed
    parts = found.parts(4, seed=0)
    assert sorted(part.count for part in parts) == [3, 4, 4]
    means = [sum(part.count * part.unperturbed[k] for part in parts) / 11 for k in range(3)]
    assert means == pytest.approx(list(start), rel=1e-6)
    assert len({part.unperturbed.loss for part in parts}) == 3
    assert [part.unperturbed for part in found.parts(4, seed=0)] == [part.unperturbed for part in parts]
    assert [part.unperturbed for part in found.parts(4, seed=1)] != [part.unperturbed for part in parts]
    (whole,) = found.parts(128, seed=0)
    assert whole.unperturbed == pytest.approx(start, rel=1e-6)


def test_an_exception_from_tick_propagates_and_changes_nothing() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    network = mlp(nn.ReLU())
    before = [weight.clone() for weight in network.parameters()]
    found = Objective(network, draw(11, 3), labels(11, 3), 4, stop)
    for ask in (found.at, found.gradient, found.hessian_product):
        with pytest.raises(KeyboardInterrupt):
            ask(2 * found.weights)
    assert all(torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"
