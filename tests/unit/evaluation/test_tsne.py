from functools import partial

import numpy as np
import openTSNE
import pytest
from scipy.spatial import procrustes
from sklearn.manifold import TSNE
from sklearn.manifold import trustworthiness as sklearn_trustworthiness

from ssl_pkg.evaluation import tsne as module
from ssl_pkg.evaluation.tsne import aligned_frames, map_accuracy, perplexity_for, trustworthiness, tsne, unmappable


def clusters(count: int = 60) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    labels = np.arange(count) % 3
    return (20 * np.eye(8)[labels] + generator.normal(size=(count, 8))).astype(np.float32), labels


def nearest_shares_label(points: np.ndarray, labels: np.ndarray) -> float:
    distance = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distance, np.inf)
    return float((labels[distance.argmin(axis=1)] == labels).mean())


def test_map_keeps_clusters_and_is_repeatable() -> None:
    x, labels = clusters(150)
    points = tsne(x, seed=0, threads=1)
    assert points.shape == (150, 2)
    assert nearest_shares_label(points, labels) > 0.95
    assert np.array_equal(points, tsne(x, seed=0, threads=1))


@pytest.mark.parametrize("method", ["bh", "fft"])  # openTSNE chooses fft from 10,000 samples on
def test_map_does_not_depend_on_the_number_of_threads(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PARALLEL_FROM", 0)
    monkeypatch.setattr(module, "TSNEEmbedding", partial(openTSNE.TSNEEmbedding, negative_gradient_method=method))
    monkeypatch.setattr(module, "EARLY_ITERATIONS", 5)
    monkeypatch.setattr(module, "ITERATIONS", 5)
    x, _ = clusters(150)
    assert np.array_equal(tsne(x, seed=0, threads=1), tsne(x, seed=0, threads=2))


def test_too_few_samples_for_a_map_are_not_called_collapsed() -> None:
    x, _ = clusters(4)
    assert unmappable(x) is None
    assert np.isfinite(tsne(x, seed=0, threads=1)).all()
    assert unmappable(x[:3]) == "a map needs at least 4 images"
    assert unmappable(x[:1]) == "a map needs at least 4 images"


@pytest.mark.slow
def test_map_is_as_trustworthy_as_scikit_learns() -> None:
    rolled = np.random.default_rng(0).uniform(size=(300, 2)) * [12, 8]
    x = np.stack([rolled[:, 0] * np.cos(rolled[:, 0]), rolled[:, 0] * np.sin(rolled[:, 0]), rolled[:, 1]], axis=1)
    x = x.astype(np.float32)
    other = TSNE(perplexity=30, init="pca", random_state=0, max_iter=750).fit_transform(x)
    ours = tsne(x, seed=0, threads=1)
    assert sklearn_trustworthiness(x, ours) > sklearn_trustworthiness(x, other) - 0.005 > 0.95


def test_progress_is_reported_until_the_last_iteration() -> None:
    seen: list[tuple[int, int]] = []
    tsne(clusters()[0], 0, 1, lambda done, total: seen.append((done, total)))
    assert seen == [(done, 525) for done in (50, 100, *range(175, 526, 50))]


def test_frames_of_unchanged_embeddings_stay_where_they_are() -> None:
    x, labels = clusters()
    generator = np.random.default_rng(1)
    moved = x + 0.1 * generator.normal(size=x.shape).astype(np.float32)
    maps = aligned_frames(np.stack([x, moved]), 0, 1, lambda done, total: None)
    assert maps.shape == (2, 60, 2)
    shift = np.linalg.norm(maps[1] - maps[0], axis=1).mean()
    spread = np.linalg.norm(maps[0] - maps[0].mean(axis=0), axis=1).mean()
    assert shift < 0.5 * spread
    assert procrustes(maps[0], maps[1])[2] < 0.5
    assert nearest_shares_label(maps[1], labels) > 0.95


def test_each_frame_starts_from_the_one_before_it() -> None:
    """With other embeddings in the second frame, the third frame has another start, and so becomes another map."""
    x, _ = clusters()
    other = np.random.default_rng(1).permutation(x)
    thirds = [aligned_frames(np.stack([x, second, x]), 0, 1, lambda done, total: None)[2] for second in (x, other)]
    spread = np.linalg.norm(thirds[0] - thirds[0].mean(axis=0), axis=1).mean()
    assert np.linalg.norm(thirds[1] - thirds[0], axis=1).mean() > 0.01 * spread


def test_perplexity_grows_with_the_number_of_samples_and_fits_it() -> None:
    assert [perplexity_for(count) for count in (12, 91, 1000, 3000, 13_000)] == [11 / 3, 30, 30, 30, 130]
    assert tsne(clusters(12)[0], seed=0, threads=1).shape == (12, 2)


@pytest.mark.parametrize("size", [1e-42, 1e-30, 1e18, 1e30])
def test_a_map_does_not_depend_on_the_scale_of_the_embeddings(size: float) -> None:
    x, labels = clusters()
    scaled = (x * size).astype(np.float32)
    assert unmappable(scaled) is None
    points = tsne(scaled, seed=0, threads=1)  # unscaled: squared distances of 0 or of infinity
    assert nearest_shares_label(points, labels) > 0.95
    assert trustworthiness(scaled, points, 10) == pytest.approx(trustworthiness(x, points, 10), abs=0.01)


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


@pytest.mark.parametrize("neighbours", [1, 5, 20])
def test_trustworthiness_equals_scikit_learns(neighbours: int) -> None:
    generator = np.random.default_rng(0)
    x = generator.normal(size=(90, 6)).astype(np.float32)
    points = (x[:, :2] + 0.5 * generator.normal(size=(90, 2))).astype(np.float32)
    value = trustworthiness(x, points, neighbours)
    assert value == pytest.approx(sklearn_trustworthiness(x, points, n_neighbors=neighbours), abs=1e-9)
    assert value < 0.95
    assert trustworthiness(points, points, neighbours) == 1


def test_accuracy_on_the_map_is_that_of_a_loop_over_test_points() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 2
    train = (2 * labels[:, None] + generator.normal(size=(40, 2))).astype(np.float32)
    test = (2 * labels[:30, None] + generator.normal(size=(30, 2))).astype(np.float32)
    right = 0
    for point, label in zip(test, labels, strict=False):
        nearest = np.linalg.norm(train - point, axis=1).argsort()[:5]
        right += int(2 * int(labels[nearest].sum()) > 5) == label
    row = map_accuracy(train, labels, test, labels[:30], 5)
    assert row["value"] == right / 30
    assert row["low"] is not None and row["low"] < right / 30 < 1
    assert row["n"] == 30
