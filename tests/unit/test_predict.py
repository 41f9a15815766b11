"""`predict` says of every file what it shows, or why that is unknown."""

import csv
import json
import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torchvision.models import resnet18

from ssl_pkg.data.image_files import preparation
from ssl_pkg.data.images import UNLABELED
from ssl_pkg.data.pack import pack
from ssl_pkg.errors import BadInput
from ssl_pkg.predict import load_final_model, main
from ssl_pkg.predictions import Predictions, report
from ssl_pkg.run.weights import save_weights

CLASSES = ["cat", "dog", "file"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a random final model."""
    return trained_on("crop", tmp_path_factory.mktemp("run"))


def trained_on(fit: str, folder: Path) -> Path:
    """A run in `folder` with a random final model, whose weights say that photographs were cropped or padded."""
    torch.manual_seed(0)
    facts = {"photograph": preparation(96, pad=fit == "pad")}
    save_weights(folder / "model.safetensors", resnet18(num_classes=3), facts)
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
    for number, name in enumerate(["cat/1.png", "dog/deep/cat/2.jpg", "horse/3.png", "4.png", "cat/5.png"]):
        write(images / name, number)
    (images / "cat" / "notes.txt").write_text("no image")
    assert main([str(run), str(images), "--out", str(tmp_path / "out.csv"), "--device", "cpu"]) == 0
    rows = rows_of(tmp_path / "out.csv")
    assert {name: row["label"] for name, row in rows.items() if row["predicted"]} == {
        "cat/1.png": "cat", "cat/5.png": "cat", "dog/deep/cat/2.jpg": "dog", "horse/3.png": "", "4.png": "",
    }  # fmt: skip
    assert rows["cat/notes.txt"]["reason"].startswith("is not an image")
    assert len(rows) == 6
    printed = capsys.readouterr().out
    for name in CLASSES:
        own = [float(row["confidence"]) for row in rows.values() if row["predicted"] == name]
        mean = f"{np.mean(own):.3f}" if own else "-"
        assert f"\n  {name:<9} {len(own):>7}  {mean:>15}\n" in printed
    hits = 0
    for row in rows.values():
        if row["predicted"]:
            values = {name: float(row[f"p({name})"]) for name in CLASSES}
            assert sum(values.values()) == pytest.approx(1, abs=1e-5)
            assert values[row["predicted"]] == float(row["confidence"]) == max(values.values())
            hits += row["predicted"] == row["label"]
    assert f"accuracy: {100 * hits / 3:.1f} % of 3 images with a label" in printed
    assert "\n1 image is in folders without the name of one of the model's classes: horse\n" in printed


def test_a_run_that_does_not_exist_is_named_with_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "finetune-simclr-s0").mkdir()
    (tmp_path / "finetune-simclr-s0" / "model.safetensors").touch()
    with pytest.raises(BadInput) as caught:
        load_final_model(tmp_path / "finetune-simclr-s9")
    assert str(caught.value).startswith(
        f"there is no run {tmp_path}/finetune-simclr-s9 (did you mean {tmp_path}/finetune-simclr-s0?): "
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "images" / "1.png").unlink(), "has no image that can be read"),
        (lambda folder: (folder / "images").rename(folder / "away"), "there is no folder"),
        (lambda folder: (folder / "out.csv").touch(), "exists: move it away"),
        (lambda folder: (folder / "out.csv").symlink_to("nowhere"), "exists: move it away"),
        (lambda folder: (folder / "run" / "result.json").unlink(), "is not complete: run its study again"),
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


def test_mistakes_are_named_in_the_order_of_the_command_line_and_before_images_are_read(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    out = tmp_path / "new" / "out.csv"
    for model, images, sentence in (
        (tmp_path / "none", tmp_path / "no images", f"there is no run {tmp_path / 'none'}: "),
        (run, tmp_path / "no images", f"there is no folder {tmp_path / 'no images'}: give a folder of images"),
        (run, tmp_path / "empty", f"there is no folder {out.parent}: create it, or give another file with --out"),
    ):
        assert main([str(model), str(images), "--out", str(out)]) == 2
        assert capsys.readouterr().err.startswith(sentence)


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({}, "RUN is not a run directory: give that of a probe or fine-tuning, like runs/STUDY/probe-simclr-s0"),
        ({"config.yaml": ""}, "the run RUN is not complete: run its study again, which resumes it"),
        ({"model.safetensors": ""}, "the run RUN is not complete: run its study again, which resumes it"),
        (
            {"config.yaml": "", "result.json": '{"stage": "pretrain"}'},
            "RUN is a run of the stage pretrain, without a final model: give that of a probe or fine-tuning",
        ),
        (
            {"config.yaml": "", "result.json": '{"stage": "probe"}'},
            "the run RUN lacks its model.safetensors: restore the file, or remove the run and run its study again",
        ),
        (
            {"model.safetensors": "", "result.json": '{"stage": "probe", "classes": ["cat"]}'},
            "RUN/result.json lacks the classes or the resolution of the model: restore the file",
        ),
    ],
)
def test_each_reason_for_a_run_without_a_final_model_has_its_own_sentence(
    tmp_path: Path, files: dict[str, str], sentence: str
) -> None:
    folder = tmp_path / "pretrain-simclr-s0"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(content)
    with pytest.raises(BadInput) as caught:
        load_final_model(folder)
    assert str(caught.value) == sentence.replace("RUN", str(folder))


def test_files_whose_names_resemble_each_other_all_have_a_line_of_their_own(run: Path, tmp_path: Path) -> None:
    for number, name in enumerate(["a\nb.png", "a\\nb.png"]):
        write(tmp_path / "images" / name, number)
    out = tmp_path / "out.csv"
    assert main([str(run), str(tmp_path / "images"), "--out", str(out), "--device", "cpu"]) == 0
    with out.open(newline="") as content:
        rows = list(csv.DictReader(content))
    assert [row["file"] for row in rows] == ["a\\nb.png", "a\\\\nb.png"]
    assert rows[0]["confidence"] != rows[1]["confidence"]


def test_any_names_are_columns_and_values_of_the_csv_file(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["cat, black", 'the "dog"', "Łódź; 車"]
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "model.safetensors").write_bytes((run / "model.safetensors").read_bytes())
    (tmp_path / "run" / "result.json").write_text(json.dumps({"classes": names, "resolution": 32}))
    for number, name in enumerate(names):
        write(tmp_path / "images" / name / "1, 2.png", number)
    strange = os.fsencode(tmp_path / "images" / "plain.png").replace(b"plain", b"a,\xff\n'b\"c")
    write(tmp_path / "images" / "plain.png", 3)
    (tmp_path / "images" / "plain.png").rename(os.fsdecode(strange))
    out = tmp_path / "out.csv"
    assert main([str(tmp_path / "run"), str(tmp_path / "images"), "--out", str(out), "--device", "cpu"]) == 0
    frame = pd.read_csv(out, keep_default_na=False)  # another reader of CSV than Python's
    assert list(frame) == ["file", "label", "predicted", "confidence", *(f"p({name})" for name in names), "reason"]
    expected = {f"{name}/1, 2.png": name for name in names} | {"a,\\udcff\\n'b\"c.png": ""}
    assert dict(zip(frame["file"], frame["label"], strict=True)) == expected
    assert set(frame["predicted"]) <= set(names)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["--help"])
    described = re.findall(r"`([^`]+)`", " ".join(capsys.readouterr().out.split()))
    assert described == ["file", "label", "predicted", "confidence", "p(CLASS)", "reason"]


def found(counts: Sequence[int]) -> Predictions:
    """Predictions of each class for so many images, with a probability of 0.9, and one that is not finite."""
    classes, total = len(counts), sum(counts)
    logits = np.full((total + 1, classes), np.log(0.1 / (classes - 1)), np.float32)
    logits[np.arange(total), np.repeat(np.arange(classes), counts)] = np.log(0.9)
    logits[total] = np.nan
    names = [f"{number}.png" for number in range(total + 1)]
    return Predictions(names, [""] * (total + 1), np.full(total + 1, UNLABELED), logits, [])


def cells(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) == "W" else 1 for character in text)


@pytest.mark.parametrize(
    ("counts", "rows", "rest"),
    [
        ([3, 0, 12], {"c2": 12, "c0": 3, "c1": 0}, []),
        ([0] * 15, {}, ["other classes (15): 0 images"]),
        ([1, 2, *[0] * 20], {"c1": 2, "c0": 1}, ["other classes (20): 0 images"]),
        (range(1, 21), {f"c{n}": n + 1 for n in range(19, 9, -1)}, ["other classes (10): 55 images"]),
    ],
)
def test_the_summary_counts_the_images_of_each_class(
    counts: Sequence[int], rows: dict[str, int], rest: list[str], tmp_path: Path
) -> None:
    names = [f"c{number}".replace("c2", "車車車車車車") for number in range(len(counts))]
    lines = report(found(counts), names, tmp_path, tmp_path / "out.csv").splitlines()
    assert lines[0].endswith(f" the predictions for {sum(counts)} images of {tmp_path}")
    table, others = lines[1 : 2 + len(rows)], lines[2 + len(rows) : -2]
    expected = [[name, str(count), "0.900" if count else "-"] for name, count in rows.items()]
    assert table[0].split() == ["predicted", "images", "mean", "confidence"]
    assert [line.replace("車車車車車車", "c2").split() for line in table[1:]] == expected
    assert len(set(map(cells, table))) == 1
    assert [line.strip() for line in others] == rest
    assert lines[-1].startswith("files without a prediction: 1; ")


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Packed photographs: cropped in `crop`, padded in `pad`."""
    folder = tmp_path_factory.mktemp("packed")
    for number in range(8):
        write(folder / "photos" / CLASSES[number % 2] / f"{number}.png", number)
    pack(folder / "photos", folder / "crop")
    pack(folder / "photos", folder / "pad", pad=True)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("fit", ["crop", "pad"])
def test_photographs_are_prepared_as_those_of_the_training(packed: Path, tmp_path: Path, fit: str) -> None:
    model = trained_on(fit, tmp_path)
    for name, folder in (("photos", "photos"), ("packed", fit)):
        line = [str(model), str(packed / folder), "--out", str(tmp_path / f"{name}.csv"), "--device", "cpu"]
        assert main(line) == 0
    photos, images = (rows_of(tmp_path / f"{name}.csv") for name in ("photos", "packed"))
    assert images
    for name, row in images.items():
        assert float(photos[name]["confidence"]) == pytest.approx(float(row["confidence"]), abs=2e-6)


@pytest.mark.slow
def test_another_preparation_of_packed_images_is_noted(
    run: Path, packed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for fit, noted in (("crop", False), ("pad", True)):
        assert main([str(run), str(packed / fit), "--out", str(tmp_path / fit), "--device", "cpu"]) == 0
        note = "were padded to squares, those of the training cropped to their centres"
        assert (note in capsys.readouterr().err) is noted


def test_weights_that_do_not_say_how_their_images_were_prepared_are_refused(run: Path, tmp_path: Path) -> None:
    save_weights(tmp_path / "model.safetensors", resnet18(num_classes=3), {})
    (tmp_path / "result.json").write_text((run / "result.json").read_text())
    with pytest.raises(BadInput, match="does not say how its images were prepared: run its stage again"):
        load_final_model(tmp_path)


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
    assert "% of 1 image of the model's classes; 95 %" in printed
    assert "1 image has a class that the model does not know: dog" in printed
