import pickle
from pathlib import Path

import numpy as np
import pytest

STL = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]


def write_stl10(root: Path, train: int = 20, test: int = 10, unlabeled: int = 5) -> Path:
    """Writes random images in STL-10's layout; the label of image i is i % 10 + 1."""
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("test", test), ("unlabeled", unlabeled)):
        generator.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8).tofile(folder / f"{split}_X.bin")
        if split != "unlabeled":
            (np.arange(count) % 10 + 1).astype(np.uint8).tofile(folder / f"{split}_y.bin")
    (folder / "class_names.txt").write_text("\n".join(STL) + "\n")
    (folder / "fold_indices.txt").write_text("0 1 2 \n3 4 5 \n")
    return root


def write_cifar10(root: Path, count: int = 20, protocol: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Writes one random test set in both published layouts; returns images (n, 3, 32, 32) and labels (n,)."""
    generator = np.random.default_rng(1)
    pixels = generator.integers(0, 256, (count, 3072), dtype=np.uint8)
    labels = (np.arange(count) % 10).astype(np.uint8)
    python, binary = root / "cifar-10-batches-py", root / "cifar-10-batches-bin"
    python.mkdir(parents=True)
    binary.mkdir()
    content = {"data": pixels, "labels": labels.tolist(), "batch_label": "testing batch 1 of 1"}
    (python / "test_batch").write_bytes(pickle.dumps(content, protocol=protocol))
    (python / "batches.meta").write_bytes(pickle.dumps({"label_names": CIFAR}, protocol=protocol))
    np.concatenate([labels[:, None], pixels], axis=1).tofile(binary / "test_batch.bin")
    (binary / "batches.meta.txt").write_text("\n".join(CIFAR) + "\n\n")
    return pixels.reshape(-1, 3, 32, 32), labels


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ssl_pkg.cache import user_cache

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    user_cache.cache_clear()
