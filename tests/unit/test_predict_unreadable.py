"""`predict` says of what it can't read that it can't be read, and where."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.models import resnet18

from ssl_pkg.data.image_files import preparation
from ssl_pkg.predict import main
from ssl_pkg.run.weights import save_weights


@pytest.fixture
def run(user_folder: Path) -> Path:
    """A run with a random final model."""
    folder = user_folder / "run"
    folder.mkdir()
    save_weights(folder / "model.safetensors", resnet18(num_classes=2), {"photograph": preparation(96, pad=False)})
    (folder / "result.json").write_text(json.dumps({"classes": ["cat", "dog"], "resolution": 32}))
    return folder


def write(file: Path, seed: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (50, 70, 3), dtype=np.uint8)).save(file)


@pytest.mark.slow
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_folder_that_can_not_be_read_has_a_line_and_is_no_failure_of_writing(
    run: Path, user_folder: Path, capsys: pytest.CaptureFixture[str], mode: int
) -> None:
    closed = user_folder / "images" / "cat" / "private"
    write(closed / "1.png", 0)
    write(user_folder / "images" / "dog" / "2.png", 1)
    line = [str(run), str(user_folder / "images"), "--out", str(user_folder / "out.csv"), "--device", "cpu"]
    reason = "can't be read (Permission denied)"
    closed.chmod(mode)
    try:
        assert main(line) == 0
        with (user_folder / "out.csv").open(newline="") as content:
            rows = {row["file"]: row for row in csv.DictReader(content)}
        name = "cat/private" if mode == 0 else "cat/private/1.png"
        assert {key: row["reason"] for key, row in rows.items()} == {"dog/2.png": "", name: reason}
        (user_folder / "out.csv").rename(user_folder / "images" / "dog" / "2.png")
        assert main(line) == 2
        assert f"has no image that can be read (2 files; {name} {reason}): give" in capsys.readouterr().err
    finally:
        closed.chmod(0o755)
    for folder in (run, user_folder / "images"):
        folder.chmod(0o444)
        try:
            assert main(line) == 2
        finally:
            folder.chmod(0o755)
        (error,) = capsys.readouterr().err.splitlines()
        assert error.startswith(f"can't read {folder}") and error.endswith(": Permission denied"), error


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["", "f"], "RUN is empty: give a folder"),
        (["r", ""], "FOLDER is empty: give a folder"),
        (["r", "f", "--out", ""], "--out is empty: give a file"),
    ],
)
def test_an_empty_path_is_called_by_its_name_in_the_help(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == f"{sentence}\n"
