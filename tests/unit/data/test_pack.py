"""`pack` turns any folder of photographs into a data set, and names every file that it leaves out."""

import csv
import json
import os
import signal
import threading
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hostile_photographs import picture, write_hostile, write_photographs
from PIL import Image
from scipy.stats import binomtest
from torchvision.transforms.v2 import functional as F

from ssl_pkg.data.image_files import printable, read_images
from ssl_pkg.data.pack import main, pack
from ssl_pkg.data.pack_summary import Packed, report
from ssl_pkg.data.photographs import Photograph
from ssl_pkg.data.stl10 import open_stl10


def listed(data: Path) -> dict[str, dict[str, str]]:
    with (data / "files.csv").open(encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


def image_of(data: Path, row: dict[str, str]) -> np.ndarray:
    split = getattr(open_stl10(data), row["split"])
    return split.load(np.array([int(row["index"])]), torch.device("cpu"))[0][0].permute(1, 2, 0).numpy()


@pytest.mark.slow
def test_class_folders_become_stratified_splits_that_a_seed_decides(tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", classes=3, count=20, unlabeled=7)
    pack(source, tmp_path / "data")
    data = open_stl10(tmp_path / "data")
    assert data.classes == ("class00", "class01", "class02")
    assert Counter(data.train.labels.tolist()) == {0: 16, 1: 16, 2: 16}
    assert Counter(data.test.labels.tolist()) == {0: 4, 1: 4, 2: 4}
    assert len(data.unlabeled) == 7
    rows = listed(tmp_path / "data")
    assert len(rows) == 67
    assert all(row["class"] == name.split("/")[0] for name, row in rows.items() if row["split"] != "unlabeled")
    pack(source, tmp_path / "again")
    pack(source, tmp_path / "other", seed=1)
    assert listed(tmp_path / "again") == rows
    assert listed(tmp_path / "other") != rows
    for name in ("train_X.bin", "train_y.bin", "test_X.bin"):
        there, again = (tmp_path / folder / "stl10_binary" / name for folder in ("data", "again"))
        assert there.read_bytes() == again.read_bytes()


def test_an_image_is_its_centre_scaled_with_antialiasing(tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", classes=2, count=4)
    noise = np.random.default_rng(0).integers(0, 256, (200, 300, 3), dtype=np.uint8)
    Image.fromarray(noise).save(source / "class00" / "noise.png")
    pack(source, tmp_path / "data")
    found = image_of(tmp_path / "data", listed(tmp_path / "data")["class00/noise.png"])
    centre = F.center_crop(torch.from_numpy(noise).permute(2, 0, 1), [200, 200])
    expected = F.resize(centre, [96, 96], F.InterpolationMode.BICUBIC, antialias=True).permute(1, 2, 0).numpy()
    # at the edges Pillow's filter also sees the pixels outside of the crop
    assert np.abs(found.astype(int) - expected)[4:-4, 4:-4].max() <= 2
    (padded,) = read_images([source / "class00" / "noise.png"], 96, pad=True)
    assert (padded[:15] == 0).all()
    assert padded[20:76].std() > 10


@pytest.mark.slow
def test_every_hostile_file_is_packed_or_listed_with_its_reason(tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", classes=2, count=10, unlabeled=5)
    packable, unusable = write_hostile(source / "class01")
    (source / "notes.txt").write_text("not in a class folder")
    assert main([str(source), str(tmp_path / "data")]) == 0
    rows = listed(tmp_path / "data")
    data = open_stl10(tmp_path / "data")
    packed = Counter(row["split"] for row in rows.values() if not row["reason"])
    assert packed == {"train": len(data.train), "test": len(data.test), "unlabeled": len(data.unlabeled)}
    for name in packable:
        assert rows[f"class01/{printable(name)}"]["split"] in ("train", "test"), name
    for name in [*(f"class01/{name}" for name in unusable), "notes.txt"]:
        assert rows[name]["reason"], name
        assert not rows[name]["split"], name
    on_disk = {printable(str(file.relative_to(source))) for file in source.rglob("*") if not file.is_dir()}
    links_to_folders = {name for name in rows if name.endswith(("/loop", "/parent"))}
    assert set(rows) == on_disk | links_to_folders
    for name in ("train", "test", "unlabeled"):
        Image.open(tmp_path / "data" / f"contact_sheet_{name}.png").verify()


@pytest.mark.slow
def test_copies_of_a_photograph_never_are_in_two_splits(tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", classes=2, count=10, unlabeled=5)
    for number in range(5):  # five copies of each of five images of a class
        image = Image.open(source / "class00" / f"00{number}.png").convert("RGB")
        for quality in (30, 50, 70, 90):
            image.resize((250, 250)).resize(image.size).save(
                source / "class00" / f"00{number}-{quality}.jpg", quality=quality
            )
    (source / "unlabeled" / "copy.png").write_bytes((source / "class01" / "003.png").read_bytes())
    pack(source, tmp_path / "data")
    rows = listed(tmp_path / "data")
    for number in range(5):
        splits = {row["split"] for name, row in rows.items() if name.startswith(f"class00/00{number}")}
        assert len(splits) == 1
    assert rows["unlabeled/copy.png"]["reason"].startswith("is an exact copy of class01/003.png, which is in t")
    assert sum(bool(row["reason"]) for row in rows.values()) == 1


def test_given_splits_are_kept_and_copies_of_test_images_are_refused(tmp_path: Path) -> None:
    source = tmp_path / "photos"
    write_photographs(source / "train", classes=2, count=6)
    for label in (0, 1):
        folder = source / "test" / f"class{label:02d}"
        folder.mkdir(parents=True)
        for number in range(3):
            picture(10 * label + number).save(folder / f"{number}.png")
        picture(10 * label).resize((320, 240)).save(source / "train" / f"class{label:02d}" / "near.jpg", quality=60)
    pack(source, tmp_path / "data")
    rows = listed(tmp_path / "data")
    assert Counter(row["split"] for row in rows.values()) == {"train": 12, "test": 6, "": 2}
    for label in (0, 1):
        reason = rows[f"train/class0{label}/near.jpg"]["reason"]
        assert reason == f"is nearly a copy of test/class0{label}/0.png, which is in test"
    data = open_stl10(tmp_path / "data")
    assert np.array_equal(data.unlabeled.pixels.read(), data.train.pixels.read())


@pytest.mark.slow
def test_more_than_255_classes_have_wide_labels(tmp_path: Path) -> None:
    for label in range(300):
        folder = tmp_path / "photos" / f"c{label:03d}"
        folder.mkdir(parents=True)
        for number in range(3):
            picture(3 * label + number, 16, 16).save(folder / f"{number}.png")
    pack(tmp_path / "photos", tmp_path / "data")
    data = open_stl10(tmp_path / "data")
    assert (tmp_path / "data/stl10_binary/test_y.bin").stat().st_size == 600
    assert data.test.labels.tolist() == list(range(300))
    rows = listed(tmp_path / "data")
    assert image_of(tmp_path / "data", next(row for row in rows.values() if row["class"] == "c299")) is not None


@pytest.mark.slow
def test_the_division_does_not_depend_on_other_files(tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", classes=3, count=20)
    shifted = write_photographs(tmp_path / "shifted", classes=4, count=2, start=500)
    pack(source, tmp_path / "data")
    before = listed(tmp_path / "data")
    (source / "a note.txt").write_text("x")
    (source / "unlabeled").mkdir()
    picture(1).save(source / "unlabeled" / "1.png")
    pack(source, tmp_path / "again", ood=shifted)
    after = listed(tmp_path / "again")
    assert {name: after[name] for name in before} == before


def test_links_within_the_source_never_give_an_image_the_label_of_another_class(tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", classes=2, count=5)
    inside = write_photographs(tmp_path / "more", classes=1, count=4, start=200) / "class00"
    inside.rename(source / "class01" / "sub")
    outside = write_photographs(tmp_path / "other", classes=1, count=4, start=300) / "class00"
    (source / "class00" / "alias").symlink_to(source / "class01" / "sub")
    (source / "class00" / "above").symlink_to(tmp_path)
    (source / "class00" / "outside").symlink_to(outside)
    pack(source, tmp_path / "data")
    rows = listed(tmp_path / "data")
    labels = {name: row["class"] for name, row in rows.items() if row["split"]}
    assert Counter(labels.values()) == {"class00": 9, "class01": 9}
    assert all(name.startswith(label) for name, label in labels.items())
    for link in ("alias", "above"):
        assert "is a link to a folder that is in" in rows[f"class00/{link}"]["reason"]


def test_the_preparation_of_the_photographs_is_recorded(tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", classes=2, count=4)
    for pad, fit in ((False, "crop"), (True, "pad")):
        pack(source, tmp_path / fit, pad=pad)
        recorded = json.loads((tmp_path / fit / "packed.json").read_text())["preparation"]
        assert recorded == {"orientation": "EXIF", "fit": fit, "side": 96, "interpolation": "bicubic, antialias"}
        assert open_stl10(tmp_path / fit).manifest["preparation"] == recorded


@pytest.mark.slow
def test_the_summary_groups_files_by_their_reason(tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", classes=2, count=4)
    for number in range(12):
        (source / "class00" / f"{number}.txt").write_text("x")
    (source / "class01" / "z.jpg").touch()
    text = report(pack(source, tmp_path / "data"), source, tmp_path / "data")
    assert "13 of 21 files are not packed:" in text
    assert "\n  12 files, such as class00/0.txt: is not an image (" in text
    assert "\n  class01/z.jpg is empty\n" in text


@pytest.mark.slow
@pytest.mark.parametrize("count", [46, 47])
def test_the_summary_says_what_few_test_images_mean(count: int, tmp_path: Path) -> None:
    entries = [
        Photograph(tmp_path / "x.png", "x.png", split, label)
        for split in ("train", "test", "ood", "unlabeled")
        for label in ("cat", "dog")
        for _ in range(count if split == "test" else 12)
    ]
    lines = report(Packed(("cat", "dog"), entries, False, 0.0), tmp_path, tmp_path / "data").splitlines()
    told = {before.split()[0]: line for before, line in pairwise(lines) if "95 % interval" in line}
    few = binomtest(count, 2 * count).proportion_ci(method="wilson")
    if few.high - few.low > 0.2:
        expected = (
            f"few: an accuracy of 50 % would have a 95 % interval of {100 * few.low:.0f} to {100 * few.high:.0f} %"
        )
        assert told["test"].strip() == expected
    assert set(told) == ({"test", "ood"} if few.high - few.low > 0.2 else {"ood"})
    assert told["ood"].endswith(" 31 to 69 %")


def test_a_signal_stops_packing_and_nothing_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_photographs(tmp_path / "photos", classes=2, count=4)
    picture(0, 1500, 1500).save(tmp_path / "large.png")
    for number in range(200):
        (source / "class00" / f"large {number}.png").symlink_to(tmp_path / "large.png")

    def stop() -> None:
        while not any(file.stat().st_size for file in tmp_path.glob(".data*/*/images.bin")):
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    thread.start()
    assert main([str(source), str(tmp_path / "data")]) == 75
    thread.join()
    assert capsys.readouterr().err == "interrupted: nothing was packed\n"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["large.png", "photos"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("width", "height", "words"), [(160, 90, "Half of the photographs lost 44 % of"), (90, 160, "44 %"), (150, 100, "")]
)
def test_pack_names_the_option_to_pad_if_the_crop_takes_much_of_most_photographs(
    width: int, height: int, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        folder = tmp_path / "photos" / f"class{number % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        size = (width, height) if number < 8 else (100, 100)
        picture(number, *size).save(folder / f"{number}.png")
    assert main([str(tmp_path / "photos"), str(tmp_path / "data")]) == 0
    said = capsys.readouterr().out
    assert ("--pad" in said) is bool(words)
    assert words in said
    assert main([str(tmp_path / "photos"), str(tmp_path / "padded"), "--pad"]) == 0
    assert "--pad" not in capsys.readouterr().out
