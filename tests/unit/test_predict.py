"""`predict` says of every file what it shows, or why that is unknown."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

from ssl_pkg.predict import main
from ssl_pkg.run.weights import save_weights

CLASSES = ["cat", "dog", "file"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a random final model."""
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    save_weights(folder / "model.safetensors", resnet18(num_classes=3), {})
    (folder / "result.json").write_text(json.dumps({"classes": CLASSES, "resolution": 32}))
    return folder


def write(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(file)


def rows_of(file: Path) -> dict[str, dict[str, str]]:
    with file.open(newline="") as content:
        return {row["file"]: row for row in csv.DictReader(content)}


def test_labels_are_the_names_of_folders_and_unreadable_files_are_listed(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    for number, name in enumerate(["cat/1.png", "dog/deep/2.jpg", "horse/3.png", "4.png", "cat/5.png"]):
        write(images / name, number)
    (images / "cat" / "notes.txt").write_text("no image")
    assert main([str(run), str(images), "--out", str(tmp_path / "out.csv"), "--device", "cpu"]) == 0
    rows = rows_of(tmp_path / "out.csv")
    assert {name: row["label"] for name, row in rows.items() if row["predicted"]} == {
        "cat/1.png": "cat", "cat/5.png": "cat", "dog/deep/2.jpg": "dog", "horse/3.png": "", "4.png": "",
    }  # fmt: skip
    assert rows["cat/notes.txt"]["reason"].startswith("is not an image")
    assert len(rows) == 6
    hits = 0
    for row in rows.values():
        if row["predicted"]:
            values = {name: float(row[f"p({name})"]) for name in CLASSES}
            assert sum(values.values()) == pytest.approx(1, abs=1e-5)
            assert values[row["predicted"]] == float(row["confidence"]) == max(values.values())
            hits += row["predicted"] == row["label"]
    assert f"accuracy: {100 * hits / 3:.1f} % of 3 images with a label" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "images" / "1.png").unlink(), "has no image that can be read"),
        (lambda folder: (folder / "images").rename(folder / "away"), "there is no folder"),
        (lambda folder: (folder / "out.csv").touch(), "exists: move it away"),
        (lambda folder: (folder / "run" / "result.json").unlink(), "is no complete run with a final model"),
        (lambda folder: (folder / "run" / "model.safetensors").write_bytes(b"x" * 99), "can't be read as safetensors"),
    ],
)
def test_what_can_not_be_predicted_is_refused_in_one_sentence(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: object, message: str
) -> None:
    (tmp_path / "run").mkdir()
    for file in run.iterdir():
        (tmp_path / "run" / file.name).write_bytes(file.read_bytes())
    write(tmp_path / "images" / "1.png", 0)
    change(tmp_path)  # type: ignore[operator]
    line = [str(tmp_path / "run"), str(tmp_path / "images"), "--out", str(tmp_path / "out.csv"), "--device", "cpu"]
    assert main(line) == 2
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


def test_images_without_labels_have_no_accuracy(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "images" / "1.png", 0)
    assert main([str(run), str(tmp_path / "images"), "--out", str(tmp_path / "out.csv"), "--device", "cpu"]) == 0
    assert "no accuracy: no image is in a folder with the name" in capsys.readouterr().out
