import math

import pytest
import torch

from ssl_pkg.config.schema import OptimizerName
from ssl_pkg.training.optimizers import LARS, build_optimizer, lr_schedule, warmup_cosine


def test_lars_takes_the_step_computed_by_hand() -> None:
    # w = (3, 4), g = (0.6, 0.8), β = 0.5: u = g + βw = (2.1, 2.8), ‖w‖ = 5, ‖u‖ = 3.5, λ = 0.001·5/3.5
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]], dtype=torch.float64))
    weight.grad = torch.tensor([[0.6, 0.8]], dtype=torch.float64)
    optimizer = LARS([weight], lr=2.0, momentum=0.9, weight_decay=0.5)
    optimizer.step()
    ratio = 0.001 * 5 / 3.5
    first = [2.0 * ratio * 2.1, 2.0 * ratio * 2.8]
    assert weight.tolist()[0] == pytest.approx([3 - first[0], 4 - first[1]], rel=1e-12)

    w = [3 - first[0], 4 - first[1]]
    u = [0.6 + 0.5 * w[0], 0.8 + 0.5 * w[1]]
    ratio = 0.001 * math.hypot(*w) / math.hypot(*u)
    # another lr: the velocity contains it, and keeps the earlier steps' lr
    velocity = [0.9 * first[i] + 0.5 * ratio * u[i] for i in range(2)]
    optimizer.param_groups[0]["lr"] = 0.5
    optimizer.step()
    assert weight.tolist()[0] == pytest.approx([w[i] - velocity[i] for i in range(2)], rel=1e-12)


def test_lars_neither_scales_nor_decays_biases_and_batch_norm() -> None:
    bias = torch.nn.Parameter(torch.tensor([3.0, 4.0], dtype=torch.float64))
    bias.grad = torch.tensor([0.5, -1.0], dtype=torch.float64)
    LARS([bias], lr=0.1, momentum=0.9, weight_decay=0.5).step()
    assert bias.tolist() == pytest.approx([3.0 - 0.05, 4.0 + 0.1], rel=1e-12)


def test_lars_moves_a_weight_of_zeros_by_its_plain_gradient() -> None:
    weight = torch.nn.Parameter(torch.zeros(1, 2, dtype=torch.float64))
    weight.grad = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    LARS([weight], lr=0.1, momentum=0.9).step()
    assert weight.tolist()[0] == pytest.approx([-0.1, -0.2])


def test_lars_step_does_not_depend_on_the_scale_of_the_gradient() -> None:
    def step(scale: float) -> torch.Tensor:
        weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
        weight.grad = scale * torch.tensor([[0.6, 0.8]])
        LARS([weight], lr=1.0, momentum=0.9).step()
        return weight.detach()

    torch.testing.assert_close(step(1.0), step(1000.0))


@pytest.mark.parametrize("name", ["lars", "sgd", "adamw"])
def test_a_resumed_optimizer_makes_the_same_steps(name: OptimizerName) -> None:
    def network() -> torch.nn.Module:
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Linear(3, 2))

    def steps(module: torch.nn.Module, optimizer: torch.optim.Optimizer, numbers: range) -> None:
        for number in numbers:
            for group in optimizer.param_groups:
                group["lr"] = 0.1 / (number + 1)
            x = torch.randn(5, 4, generator=torch.Generator().manual_seed(number))
            module(x).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()

    def optimizer_of(module: torch.nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(name, [{"params": list(module.parameters())}], weight_decay=0.01)

    straight = network()
    steps(straight, optimizer_of(straight), range(6))

    first = network()
    optimizer = optimizer_of(first)
    steps(first, optimizer, range(3))
    second = network()
    second.load_state_dict(first.state_dict())
    resumed = optimizer_of(second)
    resumed.load_state_dict(optimizer.state_dict())
    steps(second, resumed, range(3, 6))
    for a, b in zip(straight.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_adamw_moves_weights_in_channels_last_format_as_loshchilov_and_hutter_say() -> None:
    """1711.05101, algorithm 2, in float64."""
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(shape, generator=generator) for shape in ((4, 3, 5, 2), (6, 2), (7,))]
    parameters = [torch.nn.Parameter(weights[0].contiguous(memory_format=torch.channels_last)), *weights[1:]]
    parameters[1:] = [torch.nn.Parameter(weight.clone()) for weight in weights[1:]]
    optimizer = build_optimizer("adamw", [{"params": parameters}], weight_decay=0.3)
    optimizer.param_groups[0]["lr"] = 0.1
    expected = [weight.double() for weight in weights]
    first, second = [[torch.zeros_like(weight) for weight in expected] for _ in range(2)]
    for step in range(1, 5):
        for k, parameter in enumerate(parameters):
            parameter.grad = torch.randn(parameter.shape, generator=generator)
            if k == 0 and step % 2:  # a gradient in either format
                parameter.grad = parameter.grad.contiguous(memory_format=torch.channels_last)
            gradient = parameter.grad.double()
            first[k] = 0.9 * first[k] + 0.1 * gradient
            second[k] = 0.999 * second[k] + 0.001 * gradient**2
            scaled = first[k] / (1 - 0.9**step) / ((second[k] / (1 - 0.999**step)).sqrt() + 1e-8)
            expected[k] = expected[k] - 0.1 * 0.3 * expected[k] - 0.1 * scaled
        optimizer.step()
    for parameter, wanted in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.detach().double(), wanted, atol=1e-5, rtol=1e-5)
    moments = optimizer.state[parameters[0]]["exp_avg"]
    assert moments.shape == parameters[0].shape
    assert moments.is_contiguous(memory_format=torch.channels_last)  # else the kernel would copy


@pytest.mark.parametrize("name", ["lars", "sgd"])
def test_weight_decay_and_momentum_are_those_that_were_asked_for(name: OptimizerName) -> None:
    """Two steps in plain numbers, with λ = 1 for SGD."""
    w, velocity, lr, decay, momentum = [3.0, 4.0], [0.0, 0.0], 0.5, 0.25, 0.75
    weight = torch.nn.Parameter(torch.tensor([w], dtype=torch.float64))
    optimizer = build_optimizer(name, [{"params": [weight]}], weight_decay=decay, momentum=momentum)
    optimizer.param_groups[0]["lr"] = lr
    for gradient in ([0.6, 0.8], [-1.0, 2.0]):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimizer.step()
        update = [g + decay * old for g, old in zip(gradient, w, strict=True)]
        trust = 0.001 * math.hypot(*w) / math.hypot(*update) if name == "lars" else 1.0
        velocity = [momentum * v + trust * u for v, u in zip(velocity, update, strict=True)]
        w = [old - lr * v for old, v in zip(w, velocity, strict=True)]
        assert weight.tolist()[0] == pytest.approx(w, rel=1e-12)


def test_frozen_parameters_are_left_out() -> None:
    moving, frozen = torch.nn.Parameter(torch.ones(2)), torch.nn.Parameter(torch.ones(2), requires_grad=False)
    optimizer = build_optimizer("sgd", [{"params": [moving, frozen]}], weight_decay=0.5)
    assert [p for group in optimizer.param_groups for p in group["params"]] == [moving]


def test_the_schedule_is_a_linear_warmup_and_half_a_cosine() -> None:
    factors = [warmup_cosine(step, 110, 10) for step in range(110)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10] == 1.0
    assert factors[60] == pytest.approx(0.5)
    assert factors[109] < 0.001
    assert factors[10:] == sorted(factors[10:], reverse=True)


@pytest.mark.parametrize(("warmup_epochs", "warmup"), [(0.5, 5), (3, 20)])
def test_the_learning_rate_rises_for_the_epochs_of_the_warmup_but_no_longer_than_the_training(
    warmup_epochs: float, warmup: int
) -> None:
    lr = lr_schedule(0.3, warmup_epochs, steps=20, steps_per_epoch=10)
    assert [lr(step) for step in range(21)] == [0.3 * warmup_cosine(step, 20, warmup) for step in range(21)]
