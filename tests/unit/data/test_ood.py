"""The out-of-distribution set is optional, and its classes are matched by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import STL, write_cifar10, write_stl10
from hostile_photographs import write_photographs

from ssl_pkg.data.ood import open_ood
from ssl_pkg.data.pack import pack
from ssl_pkg.data.stl10 import open_stl10
from ssl_pkg.errors import BadInput


def test_a_folder_without_a_set_has_none(tmp_path: Path) -> None:
    write_stl10(tmp_path)
    assert open_ood(tmp_path, tuple(STL)) is None


def test_a_folder_without_permission_is_bad_input_and_not_a_folder_without_a_set(user_folder: Path) -> None:
    write_cifar10(user_folder / "data")
    for folder in (user_folder / "data", user_folder / "data/cifar-10-batches-py"):
        folder.chmod(0o000)
        try:
            with pytest.raises(BadInput, match=f"can't read {folder}/.*: Permission denied"):
                open_ood(user_folder / "data", tuple(STL))
        finally:
            folder.chmod(0o755)


def test_cifar10_is_used_unless_there_is_a_folder_of_other_images(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    found = open_ood(tmp_path, tuple(STL))
    assert found is not None
    assert len(found.test) == 20
    write_stl10(tmp_path / "ood")
    found = open_ood(tmp_path, tuple(STL))
    assert found is not None
    assert found.manifest["files"].keys() == {
        f"ood/stl10_binary/{name}" for name in ("test_X.bin", "test_y.bin", "class_names.txt")
    }


def test_images_of_unknown_classes_are_left_out(tmp_path: Path) -> None:
    write_stl10(tmp_path / "ood", test=20)
    there = open_stl10(tmp_path / "ood").test
    found = open_ood(tmp_path, ("truck", "lorry", "bird"))
    assert found is not None
    assert found.test.labels.tolist() == [2, 0, 2, 0]  # the images 1, 9, 11 and 19
    assert found.shared == (0, 2)
    assert found.substituted == ()
    images = found.test.load(np.arange(4), torch.device("cpu"))[0]
    assert torch.equal(images, there.load(np.array([1, 9, 11, 19]), torch.device("cpu"))[0])
    with pytest.raises(BadInput, match="has no image of a class that the model knows"):
        open_ood(tmp_path, ("lorry", "van"))


def test_pack_writes_a_set_of_the_classes_that_both_folders_have(tmp_path: Path) -> None:
    photos = write_photographs(tmp_path / "photos", classes=3, count=5)
    other = write_photographs(tmp_path / "other", classes=5, count=6)
    for file in sorted(other.rglob("*.png")):
        file.rename(file.with_name(f"other {file.name}"))
    pack(photos, tmp_path / "data", ood=other)
    found = open_ood(tmp_path / "data", open_stl10(tmp_path / "data").classes)
    assert found is not None
    assert set(found.test.labels.tolist()) <= {0, 1, 2}
    listed = (tmp_path / "data/files.csv").read_text()
    assert listed.count("has a class that the training images lack") == 12
    # of the 18 images of known classes, the first 15 are also in the other folder
    assert listed.count("copy of class") == 15
    assert len(found.test) == listed.count(",ood,") == 3
