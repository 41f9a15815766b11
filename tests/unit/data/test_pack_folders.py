"""Which folders `pack` takes for splits and classes, and what it does with folders that it can't read."""

import csv
import os
from pathlib import Path

import pytest
from hostile_photographs import picture, write_photographs

from ssl_pkg.data.image_files import files_below, printable
from ssl_pkg.data.pack import main, pack
from ssl_pkg.data.stl10 import open_stl10


def rows_of(data: Path) -> dict[str, dict[str, str]]:
    with (data / "files.csv").open(encoding="utf-8", newline="") as file:
        return {row["file"]: row for row in csv.DictReader(file)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("names", "found", "wanted"),
    [
        (("Train", "Test"), "Train", "train"),
        (("TRAIN", "TEST"), "TRAIN", "train"),
        (("Training", "Testing"), "Training", "train"),
        (("train ", "test "), "train", "train"),
        (("train_set", "test_set"), "train_set", "train"),
        (("train", "Testing"), "Testing", "test"),
        (("class00", "unlabelled"), "unlabelled", "unlabeled"),
        (("class00", "Unlabeled"), "Unlabeled", "unlabeled"),
        (("class00", "unlabled"), "unlabled", "unlabeled"),
    ],
)
def test_a_folder_with_almost_the_name_of_a_split_is_refused(
    names: tuple[str, str], found: str, wanted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, name in enumerate(names):
        write_photographs(tmp_path / "photos" / name, classes=2, count=3, start=100 * number)
    write_photographs(tmp_path / "photos", classes=2, count=4)
    options: tuple[list[str], ...] = ([str(tmp_path / "photos")],)
    if "class00" not in names:
        write_photographs(tmp_path / "own", classes=2, count=4, start=500)
        options = (*options, [str(tmp_path / "own"), "--ood", str(tmp_path / "photos")])
    for given in options:
        assert main([given[0], str(tmp_path / "data"), *given[1:]]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert f"photos has a folder {found}, but a split is called {wanted}: rename the folder to {wanted}," in line
    assert not (tmp_path / "data").exists()


def test_classes_whose_names_only_resemble_those_of_splits_are_packed(tmp_path: Path) -> None:
    classes = ("Nest", "Trains", "labeled", "tests", "text", "trail")
    for number, label in enumerate(classes):
        folder = tmp_path / "photos" / label
        write_photographs(folder, classes=1, count=4, start=100 * number)
    pack(tmp_path / "photos", tmp_path / "data")
    assert open_stl10(tmp_path / "data").classes == classes


@pytest.mark.slow
def test_a_class_called_train_is_refused_with_the_remedy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, label in enumerate(("bus", "car", "train")):
        write_photographs(tmp_path / "photos" / label, classes=1, count=4, start=100 * number)
    assert main([str(tmp_path / "photos"), str(tmp_path / "data")]) == 2
    error = capsys.readouterr().err
    assert "has train/, the name of a split, without test/: add that; or if train is a class, rename its" in error
    (tmp_path / "photos" / "train").rename(tmp_path / "photos" / "train_class")
    assert main([str(tmp_path / "photos"), str(tmp_path / "data")]) == 0


@pytest.mark.parametrize("splits", [True, False])
def test_system_folders_are_no_classes_and_their_files_are_listed(splits: bool, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    parts = ("train", "test") if splits else ("",)
    for number, part in enumerate(parts):
        write_photographs(source / part, classes=2, count=4, start=100 * number)
    expected = {}
    for number, (name, kind) in enumerate(
        {
            ".ipynb_checkpoints": "hidden", ".git": "hidden", "@eaDir": "system", "__MACOSX": "system",
            "System Volume Information": "system", "$RECYCLE.BIN": "system", "lost+found": "system",
        }.items()
    ):  # fmt: skip
        for place in (name, f"{parts[-1]}/{name}/class00", f"{parts[0]}/class01/deep/{name}/more".lstrip("/")):
            file = source / place.lstrip("/") / "copy.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            picture(7000 + number).save(file)
            expected[str(file.relative_to(source))] = f"is in the {kind} folder {name}"
    pack(source, tmp_path / "data")
    assert open_stl10(tmp_path / "data").classes == ("class00", "class01")
    left = {name: row["reason"] for name, row in rows_of(tmp_path / "data").items() if row["reason"]}
    assert left == expected


def test_a_system_folder_above_the_photographs_does_not_matter(tmp_path: Path) -> None:
    pack(write_photographs(tmp_path / ".hidden" / "@eaDir", classes=2, count=4), tmp_path / "data")
    assert not [row for row in rows_of(tmp_path / "data").values() if row["reason"]]


@pytest.mark.parametrize("mode", [0o000, 0o444, 0o111])
def test_a_folder_that_can_not_be_read_is_listed_and_the_rest_is_packed(mode: int, user_folder: Path) -> None:
    source = write_photographs(user_folder / "photos", classes=2, count=6, unlabeled=2)
    closed = write_photographs(source / "class00" / "private", classes=1, count=2, start=500)
    (user_folder / "other" / "inner").mkdir(parents=True)
    (source / "class01" / "link.png").symlink_to(user_folder / "other" / "inner")
    if mode != 0o111:  # the link can't be followed, so it is no class folder
        (source / "link").symlink_to(user_folder / "other" / "inner")
    for folder in (closed, user_folder / "other"):
        folder.chmod(mode)
    try:
        pack(source, user_folder / "data")
    finally:
        for folder in (closed, user_folder / "other"):
            folder.chmod(0o755)
    left = {name: row["reason"] for name, row in rows_of(user_folder / "data").items() if row["reason"]}
    reason = "is a symbolic link that can't be followed (Permission denied)"
    links = {} if mode == 0o111 else {"class01/link.png": reason, "link": reason}
    own = "class00/private/class00" if mode == 0o444 else "class00/private"
    assert left == {own: "can't be read (Permission denied)"} | links


def test_a_class_folder_that_can_not_be_read_is_refused_with_the_cause(
    user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_photographs(user_folder / "photos", classes=3, count=4)
    (source / "class01").chmod(0)
    try:
        status = main([str(source), str(user_folder / "data")])
    finally:
        (source / "class01").chmod(0o755)
    assert status == 2
    assert "class01 can't be read (Permission denied)" in capsys.readouterr().err


@pytest.mark.slow
def test_a_tree_that_is_deeper_than_a_path_can_be_is_listed_once_and_shortened_in_messages(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_photographs(tmp_path / "photos", classes=2, count=4)
    here = os.open(source / "class00", os.O_RDONLY)
    for _ in range(30):
        os.mkdir("a" * 200, dir_fd=here)
        below = os.open("a" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert main([str(source), str(tmp_path / "data")]) == 0
    (left,) = [row for row in rows_of(tmp_path / "data").values() if row["reason"]]
    assert left["reason"] == "can't be read (File name too long)"
    printed = capsys.readouterr().out
    assert "can't be read (File name too long)" in printed
    assert max(map(len, printed.splitlines())) < 400


def test_names_that_differ_are_never_listed_as_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    names = ["new\nline.jpg", "new\\nline.jpg", "new\\\\nline.jpg", os.fsdecode(b"\xe9"), "\\udce9", "é"]
    for name in names:
        (folder / name).touch()
    printed = {printable(file.name): file.name for file, _ in files_below(folder)}
    assert len(printed) == len(names)
    for text, name in printed.items():  # Python's own rule for escapes gives the name back
        assert text.encode("latin-1", "backslashreplace").decode("unicode_escape") == name
