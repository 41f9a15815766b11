"""What `pack` can't do it refuses in one sentence, and then it writes nothing."""

import re
import shutil
from pathlib import Path

import pytest
from hostile_photographs import write_photographs

from ssl_pkg.data.pack import main, pack
from ssl_pkg.errors import BadInput


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda photos: [file.unlink() for file in (photos / "class01").iterdir()], "class01 has 0 in train"),
        (lambda photos: (photos / "class01").rename(photos / "unlabeled"), "has 1 class folder "),
        (lambda photos: (photos / "class01").rename(photos / "test"), "has test/, the name of a split, without train/"),
        (lambda photos: (photos / "class01 ").mkdir(), "same name"),
        (lambda photos: photos.rename(photos.with_name("away")), "there is no folder"),
    ],
)
def test_a_folder_that_is_no_data_set_is_refused_and_nothing_is_written(
    tmp_path: Path, change: object, message: str
) -> None:
    source = write_photographs(tmp_path / "photos", classes=2, count=4)
    change(source)  # type: ignore[operator]
    with pytest.raises(BadInput, match=message):
        pack(source, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    assert not list(tmp_path.glob(".*"))


def test_an_existing_target_and_one_within_the_source_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_photographs(tmp_path / "photos", classes=2, count=4)
    (tmp_path / "data").mkdir()
    assert main([str(source), str(tmp_path / "data")]) == 2
    assert main([str(source), str(source / "data")]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert not list((tmp_path / "data").iterdir())


def test_a_refusal_names_the_most_frequent_reason_of_the_class(tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", classes=2, count=5)
    for number, file in enumerate(sorted((source / "class01").iterdir())[1:]):
        file.write_bytes(b"\0\0\0\x18ftypheic" + bytes(100) if number else b"")
    reason = "(4 of its 5 files are not packed; class01/002.png is a HEIC image, which can't be read: save it as JPEG)"
    with pytest.raises(BadInput, match=re.escape(f"class01 has 0 in train {reason}")):
        pack(source, tmp_path / "data")


def test_out_of_distribution_images_without_a_known_class_are_refused(tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", classes=2, count=4)
    shifted = write_photographs(tmp_path / "shifted", classes=2, count=2, start=500)
    for label in (0, 1):
        (shifted / f"class{label:02d}").rename(shifted / f"Class{label:02d}")
    with pytest.raises(
        BadInput, match=r"has a class that the training images lack: Class00 \(did you mean class00\?\)"
    ):
        pack(source, tmp_path / "data", ood=shifted)
    for file in (shifted / "Class00").iterdir():
        file.write_bytes(b"")
    (shifted / "Class00").rename(shifted / "class00")
    shutil.rmtree(shifted / "Class01")
    with pytest.raises(BadInput, match=r"shifted has no out-of-distribution image .* class00/000.png is empty"):
        pack(source, tmp_path / "data", ood=shifted)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["photos", "shifted"]


def test_options_without_an_effect_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, start in (("train", 0), ("test", 100)):
        write_photographs(tmp_path / "photos" / split, classes=2, count=3, start=start)
    for option in ("--seed", "--test-fraction"):
        assert main([str(tmp_path / "photos"), str(tmp_path / "data"), option, "0.5" if "f" in option else "0"]) == 2
        assert "has train/ and test/, so --test-fraction and --seed have no effect" in capsys.readouterr().err


def test_a_link_to_itself_is_no_target(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_photographs(tmp_path / "photos", classes=2, count=4)
    (tmp_path / "loop").symlink_to("loop")
    for target in ("loop", "loop/data"):
        assert main([str(source), str(tmp_path / target)]) == 2
        error = capsys.readouterr().err
        assert len(error.splitlines()) == 1, error


def test_a_failed_command_leaves_no_new_folders(tmp_path: Path) -> None:
    source = write_photographs(tmp_path / "photos", classes=2, count=2)
    assert main([str(source), str(tmp_path / "new" / "deep" / "data")]) == 2
    (tmp_path / "kept").mkdir()
    assert main([str(source), str(tmp_path / "kept" / "deep" / "data")]) == 2
    assert sorted(file.name for file in tmp_path.iterdir()) == ["kept", "photos"]
    assert not list((tmp_path / "kept").iterdir())


@pytest.mark.slow
def test_the_remedy_for_too_large_a_test_fraction_is_a_smaller_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_photographs(tmp_path / "photos", classes=2, count=10)
    line = [str(source), str(tmp_path / "data"), "--test-fraction"]
    assert main([*line, "0.9"]) == 2
    assert "give a smaller --test-fraction than 0.9, add images, or remove the class\n" in capsys.readouterr().err
    assert main([*line, "0.8"]) == 0
    for file in sorted((source / "class01").iterdir())[2:]:
        file.unlink()
    assert main([str(source), str(tmp_path / "again")]) == 2
    error = capsys.readouterr().err
    assert error.endswith(": add images, or remove the class\n") and "class01" in error


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["", "d"], "SRC is empty: give a folder"),
        (["s", ""], "DST is empty: give a folder"),
        (["s", "d", "--ood", ""], "--ood is empty: give a folder"),
    ],
)
def test_an_empty_path_is_called_by_its_name_in_the_help(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    assert capsys.readouterr().err == f"{sentence}\n"
