"""Images in STL-10's layout that can be distinguished by their brightness, and a FakeStudy whose maps show them."""

import json
from pathlib import Path

import numpy as np
from fake_study import FakeStudy

from ssl_pkg.data.images import balanced

CLASSES, POINTS = 4, 22
LABELS = {"train": np.repeat(np.arange(CLASSES), 15), "test": np.arange(80) % CLASSES}


def shade(split: str, number: int) -> int:
    """The mean brightness of the upper half of an image, which has noise; the lower half is black."""
    return 60 + 2 * number if split == "train" else 220 - 2 * number


def write_data(folder: Path) -> None:
    (folder / "stl10_binary").mkdir(parents=True)
    for split, labels in LABELS.items():
        images = np.zeros((len(labels), 3, 96, 96), np.uint8)  # columns before rows
        noise = np.random.default_rng(0).integers(-30, 31, (len(labels), 1, 32, 16)).repeat(3, axis=2).repeat(3, axis=3)
        for image, number in zip(images, range(len(labels)), strict=True):
            image[:, :, :48] = shade(split, number) + noise[number]
        images.tofile(folder / "stl10_binary" / f"{split}_X.bin")
        (labels + 1).astype(np.uint8).tofile(folder / "stl10_binary" / f"{split}_y.bin")


def mapped_study(folder: Path) -> FakeStudy:
    """A study with the maps of two models, whose images are the first of each class, and the images in data/."""
    fake = FakeStudy(folder / "study", images=40, points=POINTS, classes=tuple("abcd"))
    fake.probe("random")
    for model in ("random-probe", "byol-finetune"):
        run = fake.embed(model)
        arrays = dict(np.load(run / "tsne.npz"))
        for split, labels in LABELS.items():
            arrays[f"{split}_labels"] = labels[balanced(labels, POINTS)]
        if "frame_labels" in arrays:
            arrays["frame_labels"] = arrays["test_labels"]
        np.savez(run / "tsne.npz", **arrays)
        content = json.loads((run / "provenance.json").read_text())
        content["data"]["root"] = str(folder / "data")
        (run / "provenance.json").write_text(json.dumps(content))
    write_data(folder / "data")
    return fake
