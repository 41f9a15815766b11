import hashlib
import os
import shutil
from pathlib import Path

import pytest
from conftest import write_stl10
from hostile_photographs import write_photographs

from ssl_pkg.data.ood import open_ood
from ssl_pkg.data.pack import pack
from ssl_pkg.data.stl10 import open_stl10
from ssl_pkg.data.synthetic import Sizes, generate
from ssl_pkg.run import manifest
from ssl_pkg.run.manifest import identify, md5


def test_other_images_in_the_same_layout_are_a_stand_in(tmp_path: Path) -> None:
    found = open_stl10(write_stl10(tmp_path)).manifest
    assert found["name"] == "stand-in"
    content = (tmp_path / "stl10_binary/train_X.bin").read_bytes()
    assert found["files"]["stl10_binary/train_X.bin"] == {
        "bytes": len(content), "md5": hashlib.md5(content).hexdigest()
    }  # fmt: skip


def test_other_folds_are_other_data(tmp_path: Path) -> None:
    root = write_stl10(tmp_path)
    first = open_stl10(root).manifest
    (root / "stl10_binary/fold_indices.txt").write_text("0 1 2\n3 4 6\n")
    assert open_stl10(root).manifest != first
    (root / "stl10_binary/fold_indices.txt").unlink()
    assert "stl10_binary/fold_indices.txt" not in open_stl10(root).manifest["files"]


def test_only_official_files_get_the_official_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = write_stl10(tmp_path)
    files = [f"stl10_binary/{split}_X.bin" for split in ("train", "test")]
    official = {file: hashlib.md5((root / file).read_bytes()).hexdigest() for file in files}
    monkeypatch.setattr(manifest, "OFFICIAL", official)
    names = list(manifest.OFFICIAL_CLASSES["STL-10"])
    assert identify(root, files, "STL-10", class_names=names)["name"] == "STL-10"
    assert identify(root, files, "STL-10", class_names=names[::-1])["name"] == "stand-in"
    assert identify(root, [*files, "stl10_binary/train_y.bin"], "STL-10", class_names=names)["name"] == "stand-in"


def test_torchvision_lists_the_same_official_values() -> None:
    from torchvision.datasets import CIFAR10, STL10

    theirs = {f"stl10_binary/{name}": value for name, value in STL10.train_list + STL10.test_list}
    theirs |= {f"cifar-10-batches-py/{name}": value for name, value in CIFAR10.test_list}
    theirs[f"cifar-10-batches-py/{CIFAR10.meta['filename']}"] = CIFAR10.meta["md5"]
    assert theirs == manifest.OFFICIAL


def test_the_synthetic_set_is_recognised_until_a_byte_differs(tmp_path: Path) -> None:
    root = tmp_path / "synthetic"
    generate(root, Sizes(train_per_class=2, test_per_class=1, unlabeled=10, ood_per_class=1))
    assert open_stl10(root).manifest["name"] == "synthetic"
    for name in ("test_X.bin", "class_names.txt"):
        file = root / "stl10_binary" / name
        original = file.read_bytes()
        file.write_bytes(bytes([original[0] ^ 1]) + original[1:])
        assert open_stl10(root).manifest["name"] == "stand-in"
        file.write_bytes(original)
    assert open_stl10(root).manifest["name"] == "synthetic"


def test_packed_images_are_own_images_until_a_byte_differs(tmp_path: Path) -> None:
    photographs = write_photographs(tmp_path / "photographs", classes=2, count=4)
    others = write_photographs(tmp_path / "others", classes=2, count=3, start=500)
    root = tmp_path / "birds"
    pack(photographs, root, ood=others)
    ood = open_ood(root, ("class00", "class01"))
    assert ood is not None
    assert open_stl10(root).manifest["name"] == ood.manifest["name"] == "own images (birds)"
    shutil.rmtree(root / "ood")
    pack(others, tmp_path / "sketches")
    shutil.move(tmp_path / "sketches", root / "ood")
    ood = open_ood(root, ("class00", "class01"))
    assert ood is not None
    assert ood.manifest["name"] == "own images (sketches)"
    for folder, name in ((root, "test_y.bin"), (root / "ood", "class_names.txt")):
        file = folder / "stl10_binary" / name
        file.write_bytes(file.read_bytes().replace(b"\x01", b"\x02", 1).replace(b"class01", b"other"))
    ood = open_ood(root, ("class00", "class01"))
    assert ood is not None
    assert open_stl10(root).manifest["name"] == ood.manifest["name"] == "stand-in"


def test_a_cached_md5_is_not_used_for_a_changed_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"one")
    assert md5(file) == hashlib.md5(b"one").hexdigest()
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert md5(file) == hashlib.md5(b"two").hexdigest()


def test_a_cached_md5_is_not_used_for_a_file_of_equal_size_and_time_that_replaced_it(tmp_path: Path) -> None:
    """As `cp -p` and rsync make it."""
    file, other = tmp_path / "file", tmp_path / "other"
    for path, content in ((file, b"one"), (other, b"two")):
        path.write_bytes(content)
        os.utime(path, ns=(1, 1))
    assert md5(file) == hashlib.md5(b"one").hexdigest()
    other.replace(file)
    assert md5(file) == hashlib.md5(b"two").hexdigest()


def test_a_file_larger_than_any_official_one_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "file"
    with file.open("wb") as out:
        out.truncate(manifest.OFFICIAL_BYTES + 1)  # sparse
    assert md5(file) is None
