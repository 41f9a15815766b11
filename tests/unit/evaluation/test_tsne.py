import numpy as np
import pytest

from ssl_pkg.evaluation.tsne import aligned_frames, tsne, unmappable


def clusters(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 3
    return (20 * np.eye(8)[labels] + generator.normal(size=(count, 8))).astype(np.float32), labels


def nearest_shares_label(points: np.ndarray, labels: np.ndarray) -> float:
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return float((labels[distance.argmin(axis=1)] == labels).mean())


def test_map_keeps_clusters_and_is_repeatable() -> None:
    x, labels = clusters()
    points = tsne(x, 10.0, seed=0)
    assert points.shape == (60, 2)
    assert nearest_shares_label(points, labels) > 0.95
    assert np.array_equal(points, tsne(x, 10.0, seed=0))


def test_frames_of_unchanged_embeddings_stay_where_they_are() -> None:
    x, labels = clusters()
    generator = np.random.default_rng(1)
    moved = x + 0.1 * generator.normal(size=x.shape).astype(np.float32)
    maps = aligned_frames(np.stack([x, moved]), 10.0, 0, lambda done, total: None)
    assert maps.shape == (2, 60, 2)
    shift = np.linalg.norm(maps[1] - maps[0], axis=1).mean()
    spread = np.linalg.norm(maps[0] - maps[0].mean(axis=0), axis=1).mean()
    assert shift < 0.5 * spread
    assert nearest_shares_label(maps[1], labels) > 0.95


def test_few_samples_are_mapped_with_a_smaller_perplexity() -> None:
    assert tsne(clusters(12)[0], 30.0, seed=0).shape == (12, 2)


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e18, 1e30])
def test_a_map_does_not_depend_on_the_scale_of_the_embeddings(size: float) -> None:
    x, labels = clusters()
    scaled = (x * size).astype(np.float32)
    assert unmappable(scaled) is None
    points = tsne(scaled, 10.0, seed=0)  # unscaled: a segmentation fault, or every point at zero
    assert nearest_shares_label(points, labels) > 0.95


def test_embeddings_that_cannot_be_mapped_have_a_reason() -> None:
    x, _ = clusters()
    constant = np.full_like(x, 3e30)
    assert unmappable(constant) == unmappable(0 * x) == "all embeddings are equal: the model has collapsed"
    assert unmappable(np.ones_like(x) + 1e-8 * x) == unmappable(constant)
    x[4, 2], x[9] = np.inf, np.nan
    assert unmappable(x) == "the embeddings of 2 of 60 images are not finite"


def test_one_constant_dimension_is_not_a_collapse() -> None:
    x, _ = clusters()
    x[:, 3] = 1.0
    assert unmappable(x) is None
