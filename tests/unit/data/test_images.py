from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssl_pkg.data.images import Split, StoredImages, balanced, holdout, random_per_class
from ssl_pkg.errors import BadInput

LABELS = st.lists(st.integers(0, 4), min_size=2, max_size=60).map(np.array)


@given(labels=LABELS, fraction=st.floats(0.05, 0.95))
def test_holdout_takes_a_share_of_each_class_and_no_sample_twice(labels: np.ndarray, fraction: float) -> None:
    kept, held = holdout(labels, fraction)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    for label in np.unique(labels):
        size = int((labels == label).sum())
        assert int((labels[held] == label).sum()) == max(1, min(round(fraction * size), size - 1))
        assert size == 1 or label in labels[kept]
    again = holdout(labels, fraction)
    assert np.array_equal(kept, again[0])


@given(labels=LABELS, count=st.integers(1, 80))
def test_balanced_spreads_the_samples_evenly_over_the_classes(labels: np.ndarray, count: int) -> None:
    chosen = balanced(labels, count)
    assert len(chosen) == min(count, len(labels))
    assert len(set(chosen.tolist())) == len(chosen)
    sizes = {label: int((labels == label).sum()) for label in np.unique(labels)}
    taken = {label: int((labels[chosen] == label).sum()) for label in sizes}
    largest = max(taken.values())
    assert all(taken[label] >= min(size, largest - 1) for label, size in sizes.items())


def test_balanced_takes_the_first_samples_of_each_class() -> None:
    assert balanced(np.array([1, 1, 0, 2, 1, 0, 0]), 5).tolist() == [0, 1, 2, 3, 5]


def test_draws_of_few_labels_are_balanced_nested_and_different() -> None:
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(4), 30))
    draws = [random_per_class(labels, 10, draw) for draw in range(3)]
    for draw, chosen in enumerate(draws):
        assert np.bincount(labels[chosen]).tolist() == [10] * 4
        assert np.array_equal(chosen, np.unique(chosen))
        assert set(chosen) < set(random_per_class(labels, 25, draw))
    assert len({tuple(chosen) for chosen in draws}) == 3
    assert np.array_equal(random_per_class(labels, 30, 0), np.arange(120))
    with pytest.raises(ValueError, match="has 30 samples, not 31"):
        random_per_class(labels, 31, 0)


def test_load_returns_columns_first_images_rows_first() -> None:
    upright = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    split = Split("x", np.ascontiguousarray(upright.swapaxes(2, 3)), np.array([7, 8]), columns_first=True)
    images, labels = split.load(np.array([1, 0]), torch.device("cpu"))
    assert np.array_equal(images.numpy(), upright[[1, 0]])
    assert labels.tolist() == [8, 7]
    assert np.array_equal(split.subset(np.array([1])).load(np.array([0]), torch.device("cpu"))[0].numpy(), upright[[1]])


DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")],
    ),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("columns_first", [False, True])
def test_loading_from_memory_and_from_the_file_gives_the_same_batches(
    tmp_path: Path, device: str, columns_first: bool
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 3, 4, 5), dtype=np.uint8)
    pixels.tofile(tmp_path / "pixels")
    split = Split("x", StoredImages(tmp_path / "pixels", (9, 3, 4, 5)), np.arange(9), columns_first)
    from_memory = split.loader(torch.device(device), resident_gb=pixels.nbytes / 1e9)
    from_file = split.loader(torch.device(device), resident_gb=(pixels.nbytes - 1) / 1e9)
    chosen = np.array([4, 0, 4, 8])
    for load in (from_memory, from_file):
        images, labels = load(chosen)
        upright = pixels.swapaxes(2, 3) if columns_first else pixels
        assert np.array_equal(images.cpu().numpy(), upright[chosen])
        assert labels.tolist() == [4, 0, 4, 8]
    (255 - pixels).tofile(tmp_path / "pixels")
    assert torch.equal(from_file(np.array([0]))[0], 255 - from_memory(np.array([0]))[0])


@pytest.mark.parametrize("resident", [True, False])
def test_a_truncated_deleted_or_unreadable_file_is_an_error(tmp_path: Path, resident: bool) -> None:
    stored = StoredImages(tmp_path / "x.bin", (4, 3, 2, 2))
    (tmp_path / "x.bin").write_bytes(bytes(4 * 12 - 1))
    read = stored.read if resident else lambda: stored[np.array([0, 3])]
    with pytest.raises(BadInput, match=r"x\.bin has become shorter"):
        read()
    (tmp_path / "x.bin").unlink()
    with pytest.raises(BadInput, match=r"can't read .*x\.bin: No such file"):
        read()
    (tmp_path / "x.bin").symlink_to("/proc/self/mem")  # whose first bytes can't be read
    with pytest.raises(OSError, match=r"Input/output error: .*x\.bin"):  # a fault of the machine
        read()
