import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import STL, write_stl10
from torchvision.datasets import STL10 as Reference  # noqa: N811 - a class named like ours

from ssl_pkg.data import stl10
from ssl_pkg.data.dataset import main
from ssl_pkg.data.images import StoredImages
from ssl_pkg.data.stl10 import open_stl10
from ssl_pkg.errors import BadInput


def test_images_labels_and_names_equal_torchvisions(tmp_path: Path) -> None:
    dataset = open_stl10(write_stl10(tmp_path))
    reference = Reference.__new__(Reference)  # its constructor accepts only the official md5
    reference.root, reference.base_folder = str(tmp_path), "stl10_binary"
    images, labels = reference._STL10__loadfile("train_X.bin", "train_y.bin")
    pixels, found = dataset.train.load(np.arange(20), torch.device("cpu"))
    assert np.array_equal(pixels.numpy(), images)
    assert found.tolist() == labels.tolist()
    assert dataset.classes == tuple(STL)
    assert [fold.tolist() for fold in dataset.folds] == [[0, 1, 2], [3, 4, 5]]


def test_images_stay_on_disk_and_unlabeled_has_no_labels(tmp_path: Path) -> None:
    dataset = open_stl10(write_stl10(tmp_path))
    for split in (dataset.train, dataset.test, dataset.unlabeled):
        assert isinstance(split.pixels, StoredImages)
    assert (dataset.unlabeled.labels == -1).all()
    assert (len(dataset.train), len(dataset.test), len(dataset.unlabeled)) == (20, 10, 5)


def truncated(folder: Path) -> None:
    with (folder / "train_X.bin").open("r+b") as file:
        file.truncate(27_648 * 3 + 5)


def high_label(folder: Path) -> None:
    np.full(20, 11, np.uint8).tofile(folder / "train_y.bin")


def zero_label(folder: Path) -> None:
    np.zeros(10, np.uint8).tofile(folder / "test_y.bin")


def few_labels(folder: Path) -> None:
    np.ones(19, np.uint8).tofile(folder / "train_y.bin")


def no_images(folder: Path) -> None:
    (folder / "unlabeled_X.bin").write_bytes(b"")


def no_file(folder: Path) -> None:
    (folder / "test_X.bin").unlink()


def nine_names(folder: Path) -> None:
    (folder / "class_names.txt").write_text("\n".join(STL[:9]))


def a_name_twice(folder: Path) -> None:
    (folder / "class_names.txt").write_text("\n".join([*STL[:9], "bird"]))


def names_in_latin_1(folder: Path) -> None:
    (folder / "class_names.txt").write_text("\n".join([*STL[:9], "Möwe"]), encoding="latin-1")


def an_invisible_character(folder: Path) -> None:
    (folder / "class_names.txt").write_text("\n".join([*STL[:9], "tr\u200buck"]), encoding="utf-8")


def folds_outside_train(folder: Path) -> None:
    (folder / "fold_indices.txt").write_text("0 1 99\n")


def folds_with_an_image_twice(folder: Path) -> None:
    (folder / "fold_indices.txt").write_text("0 1 2\n3 4 3\n")


def folds_without_numbers(folder: Path) -> None:
    (folder / "fold_indices.txt").write_text("a b c\n")


def folds_are_a_folder(folder: Path) -> None:
    (folder / "fold_indices.txt").unlink(missing_ok=True)
    (folder / "fold_indices.txt").mkdir()


def one_class(folder: Path) -> None:
    np.ones(20, np.uint8).tofile(folder / "train_y.bin")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (truncated, "train_X.bin has 82,949 bytes, which is not a multiple of 27,648"),
        (high_label, "train_y.bin has 20 labels outside 1..10 .such as 11"),
        (zero_label, "test_y.bin has 10 labels outside 1..10 .such as 0"),
        (few_labels, "train_y.bin has 19 labels for 20 images"),
        (no_images, "unlabeled_X.bin has 0 bytes"),
        (no_file, "can't read .*test_X.bin: No such file"),
        (nine_names, r"train_y.bin has 2 labels outside 1..9 .such as 10., the classes in class_names.txt"),
        (a_name_twice, "should name 2 to 1000 different classes, one per line, but names bird twice"),
        (names_in_latin_1, "class_names.txt is not UTF-8: save it as UTF-8, one class name per line "),
        (an_invisible_character, r"has an invisible character in the name 'tr\\u200buck': remove it"),
        (folds_outside_train, "indices outside train's 20 images"),
        (folds_with_an_image_twice, "has an index twice in fold 2"),
        (folds_without_numbers, "should have one fold per line"),
        (folds_are_a_folder, "can't read .*fold_indices.txt: Is a directory"),
        (one_class, "train_y.bin has 0 images of class 2 "),
    ],
)
def test_damage_is_reported_in_one_sentence_that_names_the_file(tmp_path: Path, damage: object, sentence: str) -> None:
    root = write_stl10(tmp_path)
    damage(root / "stl10_binary")
    with pytest.raises(BadInput, match=sentence):
        open_stl10(root)


@pytest.mark.parametrize("name", ["test_y.bin", "fold_indices.txt"])
def test_an_error_of_the_disk_is_a_fault_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    root = write_stl10(tmp_path)
    file = root / "stl10_binary" / name
    file.unlink()
    file.symlink_to("/proc/self/mem")  # whose first bytes can't be read
    size = stl10._size
    monkeypatch.setattr(stl10, "_size", lambda path: 10 if path == file else size(path))
    with pytest.raises(OSError, match=f"Input/output error: .*{name}"):
        open_stl10(root)


def test_a_byte_order_mark_is_not_part_of_a_name(tmp_path: Path) -> None:
    file = write_stl10(tmp_path) / "stl10_binary" / "class_names.txt"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes().replace(b"\n", b"\r\n"))
    assert open_stl10(tmp_path).classes == tuple(STL)


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no data folder"):
        open_stl10(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="has no stl10_binary/: give the folder that holds it"):
        open_stl10(tmp_path)
    with pytest.raises(BadInput, match=f"give the folder that holds it, {tmp_path}$"):
        open_stl10(write_stl10(tmp_path) / "stl10_binary")


@pytest.mark.parametrize("closed", [".", "images", "images/stl10_binary"])
@pytest.mark.parametrize("mode", [0o000, 0o444])
def test_a_folder_without_permission_is_bad_input(
    user_folder: Path, capsys: pytest.CaptureFixture[str], closed: str, mode: int
) -> None:
    root = write_stl10(user_folder / "data/images")
    folder = user_folder / "data" / closed
    folder.chmod(mode)
    try:
        assert main([str(root)]) == 2
    finally:
        folder.chmod(0o755)
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"can't read {folder}") and error.endswith(": Permission denied")


@pytest.mark.parametrize("file", ["a.jpg", "cats/a.JPEG", "train/cats/a.png", "cats/a.heic"])
def test_photographs_are_to_be_packed_first(tmp_path: Path, file: str) -> None:
    folder = tmp_path / "my photos"
    (folder / file).parent.mkdir(parents=True)
    (folder / file).touch()
    with pytest.raises(BadInput) as caught:
        open_stl10(folder)
    command, _, then = str(caught.value).partition("pack them by `")[2].partition("`")
    program, *rest = shlex.split(command)
    assert Path(shutil.which(program) or "").samefile(Path(sys.executable).with_name("ssl-study"))
    assert rest == ["pack", str(folder), "data/my photos"]
    assert then == ", then give data/my photos"
