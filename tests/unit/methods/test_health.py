import math

import pytest
import torch
import torch.nn.functional as F

from ssl_pkg.methods.health import representation_health


def test_a_regular_cross_polytope_has_its_closed_form() -> None:
    """2D unit vectors ±e_k: each has one other at distance 2, and 2D − 2 at distance √2."""
    size = 4
    z = torch.cat([torch.eye(size), -torch.eye(size)])
    health = representation_health(3 * z, 0.1 * z)
    pairs = (math.exp(-8) + (2 * size - 2) * math.exp(-4)) / (2 * size - 1)
    assert float(health["uniformity"]) == pytest.approx(math.log(pairs), rel=1e-5)
    assert float(health["alignment"]) == pytest.approx(0, abs=1e-9)
    assert float(health["z_std"]) == pytest.approx(1 / math.sqrt(size), rel=1e-6)


@pytest.mark.parametrize(("angle", "expected"), [(0.0, 0.0), (math.pi / 3, 1.0), (math.pi / 2, 2.0), (math.pi, 4.0)])
def test_alignment_is_the_squared_distance_of_the_views(angle: float, expected: float) -> None:
    first = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    cosine, sine = math.cos(angle), math.sin(angle)
    second = first @ torch.tensor([[cosine, sine], [-sine, cosine]])
    assert float(representation_health(first, second)["alignment"]) == pytest.approx(expected, abs=1e-6)


def test_equal_projections_have_no_spread_and_the_worst_uniformity() -> None:
    z = torch.ones(6, 5)
    health = representation_health(z, z)
    assert {name: float(value) for name, value in health.items()} == pytest.approx(
        {"z_std": 0, "alignment": 0, "uniformity": 0}, abs=1e-5
    )


def test_metrics_equal_loops_over_images_and_pairs() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(7, 5, generator=generator, dtype=torch.float64) for _ in range(2))
    views = [F.normalize(view, dim=1).tolist() for view in (first, second)]

    def squared_distance(a: list[float], b: list[float]) -> float:
        return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))

    logs = []
    for z in views:
        kernels = [math.exp(-2 * squared_distance(z[i], z[j])) for i in range(7) for j in range(7) if i != j]
        logs.append(math.log(sum(kernels) / len(kernels)))
    aligned = [squared_distance(a, b) for a, b in zip(*views, strict=True)]
    health = representation_health(first.requires_grad_(), second)
    assert float(health["uniformity"]) == pytest.approx(sum(logs) / 2, rel=1e-5)
    assert float(health["alignment"]) == pytest.approx(sum(aligned) / 7, rel=1e-5)
    assert not any(value.requires_grad for value in health.values())


def test_metrics_are_float32_under_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randn(16, 32, generator=generator) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        low = representation_health(first, second)
    assert low == representation_health(first, second)
