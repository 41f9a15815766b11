from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ssl_pkg.data.images import Split, balanced, holdout

LABELS = st.lists(st.integers(0, 4), min_size=2, max_size=60).map(np.array)


@given(labels=LABELS, fraction=st.floats(0.05, 0.6))
def test_holdout_takes_its_share_of_each_class_and_no_sample_twice(labels: np.ndarray, fraction: float) -> None:
    kept, held = holdout(labels, fraction)
    assert sorted([*kept, *held]) == list(range(len(labels)))
    for label in np.unique(labels):
        size = int((labels == label).sum())
        assert int((labels[held] == label).sum()) == max(1, round(fraction * size))
    again = holdout(labels, fraction)
    assert np.array_equal(kept, again[0])


@given(labels=LABELS, count=st.integers(1, 80))
def test_balanced_takes_as_many_of_each_class_as_there_are(labels: np.ndarray, count: int) -> None:
    chosen = balanced(labels, count)
    assert len(chosen) == min(count, len(labels))
    assert len(set(chosen.tolist())) == len(chosen)
    sizes = {label: int((labels == label).sum()) for label in np.unique(labels)}
    taken = {label: int((labels[chosen] == label).sum()) for label in sizes}
    largest = max(taken.values())
    assert all(taken[label] >= min(size, largest - 1) for label, size in sizes.items())


def test_gather_turns_columns_first_images_upright() -> None:
    upright = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)
    split = Split("x", np.ascontiguousarray(upright.swapaxes(2, 3)), np.array([7, 8]), columns_first=True)
    images, labels = split.gather(np.array([1, 0]), torch.device("cpu"))
    assert np.array_equal(images.numpy(), upright[[1, 0]])
    assert labels.tolist() == [8, 7]
    assert np.array_equal(split.take(np.array([1])).gather(np.array([0]), torch.device("cpu"))[0].numpy(), upright[[1]])


DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")],
    ),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("columns_first", [False, True])
def test_a_split_in_memory_gives_what_its_file_gives(tmp_path: Path, device: str, columns_first: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 3, 4, 5), dtype=np.uint8)
    pixels.tofile(tmp_path / "pixels")
    mapped = np.memmap(tmp_path / "pixels", dtype=np.uint8, mode="r+", shape=pixels.shape)
    split = Split("x", mapped, np.arange(9), columns_first)
    from_memory = split.resident(torch.device(device), gigabytes=pixels.nbytes / 1e9)
    from_file = split.resident(torch.device(device), gigabytes=(pixels.nbytes - 1) / 1e9)
    chosen = np.array([4, 0, 4, 8])
    for gather in (from_memory, from_file):
        images, labels = gather(chosen)
        upright = pixels.swapaxes(2, 3) if columns_first else pixels
        assert np.array_equal(images.cpu().numpy(), upright[chosen])
        assert labels.tolist() == [4, 0, 4, 8]
    mapped[0] = 255 - mapped[0]
    assert torch.equal(from_file(np.array([0]))[0], 255 - from_memory(np.array([0]))[0])


@pytest.mark.parametrize("part", [None, slice(1, 3)], ids=["a whole file", "a part of it"])
def test_a_resident_split_holds_its_files_bytes_and_no_page_of_the_map(tmp_path: Path, part: slice | None) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (4, 3, 96, 96), dtype=np.uint8)
    (tmp_path / "x.bin").write_bytes(stored.tobytes())
    mapped = np.memmap(tmp_path / "x.bin", np.uint8, "r", shape=stored.shape)
    mapped = mapped if part is None else mapped[part]
    gather = Split("x", mapped, np.arange(len(mapped))).resident(torch.device("cpu"), 1.0)
    images, _ = gather(np.arange(len(mapped)))
    assert np.array_equal(images.numpy(), stored if part is None else stored[part])
    if part is None:
        assert _mapped_bytes(tmp_path / "x.bin") == 0


def _mapped_bytes(file: Path) -> int:
    """How much of the file is in this process's memory through maps, by the kernel's account."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    places = [number for number, line in enumerate(lines) if line.endswith(f" {file}")]
    assert places
    after = [next(line for line in lines[place:] if line.startswith("Rss:")) for place in places]
    return sum(int(line.split()[1]) * 1024 for line in after)
