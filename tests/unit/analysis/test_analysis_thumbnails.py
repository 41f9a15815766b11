import base64
import io
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_images import LABELS, POINTS, mapped_study, shade
from fake_study import DATE, FakeStudy
from PIL import Image

from analysis.__main__ import main
from analysis.page import build
from analysis.page.build import render
from analysis.page.thumbnails import TILE, thumbnails
from analysis.reading import read_study
from ssl_pkg.data.images import balanced


@pytest.fixture
def mapped(tmp_path: Path) -> FakeStudy:
    return mapped_study(tmp_path)


def read(text: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The JSON, and the tiles (n, TILE, TILE) of each map in grey, -1 for a missing one."""
    content = json.loads(text)
    with Image.open(io.BytesIO(base64.b64decode(content["sheet"]))) as image:
        sheet = np.asarray(image.convert("L")).astype(int)
    tiles = {}
    for name, spec in content["places"].items():
        places = np.frombuffer(base64.b64decode(spec["bdata"]), np.int32)
        found = np.full((len(places), TILE, TILE), -1)
        for tile, place in zip(found, places, strict=True):
            row, column = divmod(place, content["columns"])
            if place >= 0:
                tile[:] = sheet[TILE * row : TILE * (row + 1), TILE * column : TILE * (column + 1)]
        tiles[name] = found
    return content, tiles


def test_each_point_has_its_own_image_upright(mapped: FakeStudy) -> None:
    content, tiles = read(thumbnails(read_study(mapped.path), 10**6))
    assert set(content["runs"]) == {"embed-random-probe-s0", "embed-byol-finetune-s0"}
    assert set(tiles) == {"train", "test", "frames"}
    for name, found in tiles.items():
        split = "train" if name == "train" else "test"
        expected = [shade(split, number) for number in balanced(LABELS[split], POINTS)]
        np.testing.assert_allclose(found[:, : TILE // 2].mean(axis=(1, 2)), expected, atol=4)
        np.testing.assert_allclose(found[:, TILE // 2 :].mean(axis=(1, 2)), 0, atol=4)


def test_images_are_left_out_where_there_is_no_room_and_the_page_says_so(mapped: FakeStudy) -> None:
    study = read_study(mapped.path)
    room = len(thumbnails(study, 10**6)) - 4000
    text = thumbnails(study, room)
    content, tiles = read(text)
    assert len(text) <= room
    left_out = int((tiles["train"][:, 0, 0] < 0).sum() + (tiles["test"][:, 0, 0] < 0).sum())
    assert 0 < left_out < 2 * POINTS
    assert f"{2 * POINTS - left_out} of the {2 * POINTS} images have one" in content["note"]
    np.testing.assert_array_equal(tiles["test"], tiles["frames"])


@pytest.mark.slow
def test_a_page_with_thumbnails_stays_below_its_bound(mapped: FakeStudy, monkeypatch: pytest.MonkeyPatch) -> None:
    study = read_study(mapped.path)
    plain, full = render(study, DATE), render(study, DATE, thumbnails=True)
    assert b"thumbnails.note" in plain
    assert re.search(rb'id="thumbnails"></script>', plain)
    bound = (len(plain) + len(full)) // 2
    monkeypatch.setattr(build, "_MOST", bound)
    assert len(plain) < len(render(study, DATE, thumbnails=True)) <= bound + 20  # --thumbnails in the command


def test_a_model_with_another_map_has_no_thumbnails(mapped: FakeStudy) -> None:
    file = mapped.path / "embed-byol-finetune-s0" / "tsne.npz"
    arrays = dict(np.load(file))
    np.savez(file, **arrays | {"test_labels": arrays["test_labels"][::-1]})
    content, _ = read(thumbnails(read_study(mapped.path), 10**6))
    assert content["runs"] == ["embed-random-probe-s0"]


@pytest.mark.parametrize("file", ["train_X.bin", "test_y.bin", ""])
def test_missing_or_other_data_is_refused_in_one_sentence(
    mapped: FakeStudy, tmp_path: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data" / "stl10_binary"
    if file:
        (folder / file).unlink()
    else:
        (LABELS["test"][::-1] % 2 + 1).astype(np.uint8).tofile(folder / "test_y.bin")
    assert main([str(mapped.path), "--out", str(tmp_path / "out"), "--thumbnails"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{folder} does not have the" in line
    assert "leave out --thumbnails" in line


def test_labels_that_can_not_be_read_are_named(
    mapped: FakeStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "data" / "stl10_binary" / "test_y.bin"
    file.unlink()
    file.symlink_to("/proc/self/mem")  # whose first bytes can't be read
    assert main([str(mapped.path), "--out", str(tmp_path / "out"), "--thumbnails"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"can't read {file}: Input/output error" in line
