import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from ssl_pkg.methods.health import representation_health
from ssl_pkg.methods.simclr import SimCLR, nt_xent
from ssl_pkg.models.encoder import build_encoder


def slow_nt_xent(first: torch.Tensor, second: torch.Tensor, temperature: float) -> float:
    """Equation 1 of the paper, term by term."""
    z = [row for pair in zip(first.tolist(), second.tolist(), strict=True) for row in pair]  # 2k and 2k+1 are partners

    def similarity(a: list[float], b: list[float]) -> float:
        dot = sum(x * y for x, y in zip(a, b, strict=True))
        return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))

    total = 0.0
    for i in range(len(z)):
        partner = i + 1 if i % 2 == 0 else i - 1
        numerator = math.exp(similarity(z[i], z[partner]) / temperature)
        denominator = sum(math.exp(similarity(z[i], z[k]) / temperature) for k in range(len(z)) if k != i)
        total += -math.log(numerator / denominator)
    return total / len(z)


@settings(derandomize=True, deadline=None, max_examples=40)
@given(count=st.integers(1, 9), size=st.integers(2, 7), temperature=st.floats(0.05, 2.0), seed=st.integers(0, 10**6))
def test_loss_equals_equation_1_term_by_term(count: int, size: int, temperature: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    first, second = (torch.randn(count, size, generator=generator, dtype=torch.float64) for _ in range(2))
    loss, _ = nt_xent(first, second, temperature)
    assert float(loss) == pytest.approx(slow_nt_xent(first, second, temperature), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("count", [2, 8, 32])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0])
def test_loss_of_orthogonal_pairs_has_its_closed_form(count: int, temperature: float) -> None:
    z = torch.eye(count, dtype=torch.float64)
    loss, nearest = nt_xent(z, 3 * z, temperature)
    assert float(loss) == pytest.approx(math.log(1 + (2 * count - 2) * math.exp(-1 / temperature)), rel=1e-12)
    assert float(nearest) == 1.0


@pytest.mark.parametrize("count", [2, 16])
def test_loss_of_identical_projections_has_its_closed_form(count: int) -> None:
    z = torch.ones(count, 4, dtype=torch.float64)
    assert float(nt_xent(z, z, 0.2)[0]) == pytest.approx(math.log(2 * count - 1), rel=1e-12)


def test_gradient_equals_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(3, 4, generator=generator, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.3)[0], (first, second))


def test_loss_is_float32_under_autocast() -> None:
    first, second = (torch.randn(16, 32, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = nt_xent(first, second, 0.1)
    assert float(loss) == float(nt_xent(first, second, 0.1)[0])


def test_both_views_share_batch_statistics() -> None:
    torch.manual_seed(0)
    method = SimCLR(build_encoder(), 4, projector_hidden=8, projector_out=4, temperature=0.5)
    method.loss([torch.randn(4, 3, 32, 32), torch.randn(4, 3, 32, 32)], torch.zeros(4))
    assert int(method.encoder.bn1.num_batches_tracked) == 1  # one forward pass, not two


def test_loss_of_images_equals_nt_xent_written_out() -> None:
    torch.manual_seed(0)
    method = SimCLR(build_encoder(), 4, projector_hidden=8, projector_out=4, temperature=0.3).eval()
    views = [torch.randn(4, 3, 32, 32), torch.randn(4, 3, 32, 32)]
    loss, _ = method.loss(views, torch.zeros(4))
    projections = [
        method.projector(method.encoder(view)) for view in views
    ]  # in eval mode an image's output doesn't depend on its batch
    z = torch.cat([entry / entry.norm(dim=1, keepdim=True) for entry in projections]).tolist()
    total = 0.0
    for i in range(8):
        similar = [sum(a * b for a, b in zip(z[i], z[k], strict=True)) / 0.3 for k in range(8)]
        others = [math.exp(similar[k]) for k in range(8) if k != i]
        total -= math.log(math.exp(similar[(i + 4) % 8]) / sum(others))
    assert loss.item() == pytest.approx(total / 8, rel=1e-4)


def test_last_layer_of_the_projector_has_no_bias() -> None:
    method = SimCLR(build_encoder(), 4, projector_hidden=8, projector_out=4, temperature=0.5)
    assert [name for name, _ in method.projector.named_parameters()] == [
        "0.weight", "1.weight", "1.bias", "3.weight", "4.weight"
    ]  # fmt: skip


def test_loss_and_metrics_are_float32_of_bfloat16_projections() -> None:
    torch.manual_seed(0)
    method = SimCLR(torch.nn.Flatten(), 8, projector_hidden=16, projector_out=6, temperature=0.1)
    first = torch.randn(8, 512, 1, 1)
    views = [first, first + torch.randn(8, 512, 1, 1)]
    with torch.autocast("cpu", torch.bfloat16):
        loss, metrics = method.loss(views, torch.zeros(8))
        projections = method.projector(torch.cat(views).flatten(1))
    assert projections.dtype == torch.bfloat16
    z = projections.double().detach()
    assert loss.item() == pytest.approx(slow_nt_xent(z[:8], z[8:], 0.1), rel=1e-5)
    unit, hits = F.normalize(z, dim=1), 0
    for i in range(16):
        cosines = {k: float(unit[i] @ unit[k]) for k in range(16) if k != i}
        hits += cosines[(i + 8) % 16] == max(cosines.values())
    assert 0 < hits < 16
    assert float(metrics["contrast_accuracy"]) == hits / 16
    for name, value in representation_health(z[:8], z[8:]).items():
        assert float(metrics[name]) == pytest.approx(float(value), rel=1e-5)
