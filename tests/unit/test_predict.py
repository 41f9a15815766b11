"""`predict` says of every file what it shows, or why that is unknown."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

from ssl_pkg.data.image_files import preparation
from ssl_pkg.data.pack import pack
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
        (lambda folder: (folder / "out.csv").symlink_to("nowhere"), "exists: move it away"),
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


def test_a_file_that_can_not_be_written_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "out.csv"
    assert main([str(tmp_path / "no run"), str(tmp_path / "no images"), "--out", str(out)]) == 2
    assert capsys.readouterr().err == f"there is no folder {out.parent}: create it, or give another file by --out\n"


def test_files_whose_names_print_alike_all_have_a_line(run: Path, tmp_path: Path) -> None:
    for number, name in enumerate(["a\nb.png", "a\\nb.png"]):
        write(tmp_path / "images" / name, number)
    out = tmp_path / "out.csv"
    assert main([str(run), str(tmp_path / "images"), "--out", str(out), "--device", "cpu"]) == 0
    with out.open(newline="") as content:
        rows = list(csv.DictReader(content))
    assert [row["file"] for row in rows] == ["a\\nb.png"] * 2
    assert rows[0]["confidence"] != rows[1]["confidence"]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed photographs: cropped in `crop`, padded in `pad`."""
    folder = tmp_path_factory.mktemp("packed")
    for number in range(8):
        write(folder / "photos" / CLASSES[number % 2] / f"{number}.png", number)
    pack(folder / "photos", folder / "crop")
    pack(folder / "photos", folder / "pad", pad=True)
    return folder


def trained_on(fit: str, run: Path, folder: Path) -> Path:
    """A copy of the run whose weights say how photographs were prepared."""
    folder.mkdir()
    torch.manual_seed(0)
    facts = {"photograph": preparation(96, pad=fit == "pad")}
    save_weights(folder / "model.safetensors", resnet18(num_classes=3), facts)
    (folder / "result.json").write_text((run / "result.json").read_text())
    return folder


@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_photographs_are_prepared_as_those_of_the_training(run: Path, packed: Path, tmp_path: Path, fit: str) -> None:
    model = trained_on(fit, run, tmp_path / "run")
    for name, folder in (("photos", "photos"), ("packed", fit)):
        line = [str(model), str(packed / folder), "--out", str(tmp_path / f"{name}.csv"), "--device", "cpu"]
        assert main(line) == 0
    photos, images = (rows_of(tmp_path / f"{name}.csv") for name in ("photos", "packed"))
    assert images
    for name, row in images.items():
        assert float(photos[name]["confidence"]) == pytest.approx(float(row["confidence"]), abs=2e-6)


def test_weights_of_an_earlier_version_take_the_preparation_from_the_option(
    run: Path, packed: Path, tmp_path: Path
) -> None:
    for fit in ("crop", "pad"):
        line = [str(run), str(packed / "photos"), "--out", str(tmp_path / fit), "--device", "cpu"]
        assert main(line if fit == "crop" else [*line, "--pad"]) == 0
        line = [str(run), str(packed / fit), "--out", str(tmp_path / f"{fit}.csv"), "--device", "cpu"]
        assert main(line) == 0
        photos = rows_of(tmp_path / fit)
        for name, row in rows_of(tmp_path / f"{fit}.csv").items():
            assert float(photos[name]["confidence"]) == pytest.approx(float(row["confidence"]), abs=2e-6)


def test_another_preparation_is_refused_or_noted(
    run: Path, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = trained_on("crop", run, tmp_path / "run")
    rest = ["--out", str(tmp_path / "out.csv"), "--device", "cpu"]
    assert main([str(model), str(packed / "photos"), "--pad", *rest]) == 2
    assert "trained on the centres of images, so --pad would change" in capsys.readouterr().err
    assert main([str(model), str(packed / "crop"), "--pad", *rest]) == 2
    assert "are packed, so --pad has no effect" in capsys.readouterr().err
    assert main([str(model), str(packed / "pad"), *rest]) == 0
    assert "were padded to squares, those of the training cropped to their centres" in capsys.readouterr().err


def test_labels_that_the_model_lacks_are_named(
    run: Path, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    result = json.dumps({"classes": ["cat", "wolf", "file"], "resolution": 32})
    (tmp_path / "run" / "result.json").write_text(result)
    line = [str(tmp_path / "run"), str(packed / "crop"), "--out", str(tmp_path / "out.csv"), "--device", "cpu"]
    assert main(line) == 0
    printed = capsys.readouterr().out
    assert "% of 1 images of the model's classes; 95 %" in printed
    assert "1 images have a class that the model does not know: dog" in printed
