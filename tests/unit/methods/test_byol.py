import math

import pytest
import torch

from ssl_pkg.methods.byol import BYOL, regression_loss, target_decay
from ssl_pkg.methods.health import representation_health
from ssl_pkg.models.encoder import build_encoder


def build() -> BYOL:
    torch.manual_seed(0)
    return BYOL(build_encoder(), 4, hidden=16, out=8, target_decay=0.9, predictor_rate=10.0)


def views() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, 3, 32, 32, generator=generator) for _ in range(2)]


def test_regression_loss_equals_the_squared_distance_of_unit_vectors() -> None:
    generator = torch.Generator().manual_seed(0)
    q, z = (torch.randn(5, 7, generator=generator, dtype=torch.float64) for _ in range(2))
    slow = 0.0
    for a, b in zip(q, z, strict=True):
        slow += float(sum((x / a.norm() - y / b.norm()) ** 2 for x, y in zip(a, b, strict=True)))
    assert float(regression_loss(q, z)) == pytest.approx(slow / 5, rel=1e-12)


@pytest.mark.parametrize(("angle", "loss"), [(0.0, 0.0), (math.pi / 3, 1.0), (math.pi / 2, 2.0), (math.pi, 4.0)])
def test_regression_loss_of_an_angle_has_its_closed_form(angle: float, loss: float) -> None:
    q = torch.tensor([[2.0, 0.0]], dtype=torch.float64)
    z = torch.tensor([[math.cos(angle), math.sin(angle)]], dtype=torch.float64) * 5
    assert float(regression_loss(q, z)) == pytest.approx(loss, abs=1e-12)


@pytest.mark.slow
def test_loss_is_the_sum_of_both_directions_through_predictor_and_target() -> None:
    method, (first, second) = build(), views()
    loss, _ = method.loss([first, second], torch.zeros(4))
    other = build()  # the same loss, written out
    online = [other.predictor(other.projector(other.encoder(view))) for view in (first, second)]
    target = [other.target_projector(other.target_encoder(view)) for view in (first, second)]

    def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return ((a / a.norm(dim=1, keepdim=True)) * (b / b.norm(dim=1, keepdim=True))).sum(dim=1).mean()

    expected = (2 - 2 * cosine(online[0], target[1])) + (2 - 2 * cosine(online[1], target[0]))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)


def test_gradient_reaches_the_online_network_and_stops_at_the_target() -> None:
    method = build()
    method.loss(views(), torch.zeros(4))[0].backward()
    for part in (method.encoder, method.projector, method.predictor):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in part.parameters() if p.ndim > 1)
    for part in (method.target_encoder, method.target_projector):
        assert all(p.grad is None and not p.requires_grad for p in part.parameters())


def test_target_starts_equal_and_is_an_ema_of_the_weights_only() -> None:
    method = build()
    online = [*method.encoder.parameters(), *method.projector.parameters()]
    target = [*method.target_encoder.parameters(), *method.target_projector.parameters()]
    weights = [p.detach().clone() for p in target]
    assert all(torch.equal(a, b) for a, b in zip(weights, online, strict=True))
    with torch.no_grad():
        for parameter in online:
            parameter.add_(1.0)
        method.encoder.bn1.running_mean.fill_(7.0)
    method.after_step(step=3, steps=10)
    decay = target_decay(0.9, 3, 10)
    for before, after in zip(weights, target, strict=True):
        torch.testing.assert_close(after, decay * before + (1 - decay) * (before + 1))
    assert not (method.target_encoder.bn1.running_mean == 7.0).any()


def test_target_stays_in_train_mode() -> None:
    method = build().train()
    method.loss(views(), torch.zeros(4))
    assert method.target_encoder.training
    assert int(method.target_encoder.bn1.num_batches_tracked) == 2


@pytest.mark.parametrize(("step", "expected"), [(0, 0.97), (50, 0.985), (100, 1.0)])
def test_decay_rises_from_its_base_to_one_on_half_a_cosine(step: int, expected: float) -> None:
    assert target_decay(0.97, step, 100) == pytest.approx(expected, abs=1e-12)


def test_z_std_distinguishes_collapse_from_spread() -> None:
    method = build()
    _, metrics = method.loss(views(), torch.zeros(4))
    assert 0.1 < float(metrics["z_std"]) <= 1 / math.sqrt(8) + 1e-6
    with torch.no_grad():
        for parameter in method.projector.parameters():
            parameter.zero_()
        method.projector[1].bias.fill_(1.0)
        method.projector[3].weight.fill_(1.0)
    _, metrics = method.loss(views(), torch.zeros(4))
    assert float(metrics["z_std"]) == pytest.approx(0, abs=1e-6)


def test_only_the_predictor_has_its_own_lr_and_the_target_is_not_optimised() -> None:
    method = build()
    rest, predictor = method.parameter_groups()
    assert predictor["lr_multiplier"] == 10.0
    assert [id(p) for p in predictor["params"]] == [id(p) for p in method.predictor.parameters()]
    online = {id(p) for part in (method.encoder, method.projector) for p in part.parameters()}
    assert {id(p) for p in rest["params"]} == online


def test_regression_loss_gives_its_target_no_gradient() -> None:
    q, z = (torch.randn(5, 7, generator=torch.Generator().manual_seed(k)).requires_grad_() for k in (0, 1))
    regression_loss(q, z).backward()
    assert q.grad is not None and q.grad.abs().sum() > 0
    assert z.grad is None


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_predictions_are_compared_in_float32_with_a_target_that_differs_from_the_online_network(
    dtype: torch.dtype,
) -> None:
    torch.manual_seed(0)
    encoder = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 512))
    method = BYOL(encoder, 8, hidden=16, out=8, target_decay=0.9, predictor_rate=1.0)
    with torch.no_grad():
        for part in (method.target_encoder, method.target_projector):
            for parameter in part.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    views = [torch.randn(8, 3, 2, 2) for _ in range(2)]
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss, metrics = method.loss(views, torch.zeros(8))
        online = [method.projector(method.encoder(view)) for view in views]
        predictions = [method.predictor(z) for z in online]
        targets = [method.target_projector(method.target_encoder(view)) for view in views]
    assert predictions[0].dtype == targets[0].dtype == dtype
    units = [z.double() / z.double().norm(dim=1, keepdim=True) for z in (*predictions, *targets)]
    expected = sum((units[a] - units[b]).square().sum(dim=1).mean().item() for a, b in ((0, 3), (1, 2)))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    for name, value in representation_health(*online).items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=1e-5)
