import hashlib
import json
import os
import shutil
from pathlib import Path

from jobs.cluster.data_copy import copy_data
from ssl_pkg.layout import has_ood
from ssl_pkg.run.manifest import identify


def test_each_data_set_is_copied_once_to_its_own_folder(tmp_path: Path) -> None:
    one, two, target = tmp_path / "one", tmp_path / "two", tmp_path / "node"
    for source, content in ((one, b"1111"), (two, b"2222")):
        (source / "stl10_binary").mkdir(parents=True)
        (source / "stl10_binary" / "train_X.bin").write_bytes(content)
        (source / "ood" / "stl10_binary").mkdir(parents=True)
        (source / "ood" / "stl10_binary" / "test_X.bin").write_bytes(content)
    first, second = copy_data(one, target), copy_data(two, target)
    assert (first / "stl10_binary/train_X.bin").read_bytes() == b"1111"
    assert (second / "stl10_binary/train_X.bin").read_bytes() == b"2222"
    assert (second / "ood/stl10_binary/test_X.bin").read_bytes() == b"2222"
    inode = (first / "stl10_binary/train_X.bin").stat().st_ino
    assert copy_data(one, target) == first
    assert (first / "stl10_binary/train_X.bin").stat().st_ino == inode
    (one / "stl10_binary/train_X.bin").write_bytes(b"3333")
    os.utime(one / "stl10_binary/train_X.bin", (10, 10))
    assert (copy_data(one, target) / "stl10_binary/train_X.bin").read_bytes() == b"3333"


def test_a_copy_has_the_name_of_its_source_and_no_file_of_another_folder(tmp_path: Path) -> None:
    source, target = tmp_path / "birds", tmp_path / "node"
    file = "stl10_binary/train_X.bin"
    for folder, name in ((source, "birds"), (source / "ood", "bats")):
        (folder / file).parent.mkdir(parents=True)
        (folder / file).write_bytes(name.encode())
        packed = {"name": name, "md5": {file: hashlib.md5(name.encode()).hexdigest()}, "preparation": {}}
        (folder / "packed.json").write_text(json.dumps(packed))
    (source / "runs").mkdir()
    (source / "runs" / "metrics.jsonl").touch()
    copy = copy_data(source, target)
    for name, files in (("own images (birds)", [file]), ("own images (bats)", [f"ood/{file}"])):
        assert identify(source, files, "STL-10", [])["name"] == identify(copy, files, "STL-10", [])["name"] == name
    assert not (copy / "runs").exists()


def test_a_copy_loses_the_files_that_its_source_has_lost(tmp_path: Path) -> None:
    """On a node whose disk keeps the copies of earlier jobs."""
    source, target = tmp_path / "birds", tmp_path / "node"
    kept = ["stl10_binary/train_X.bin", "ood/packed.json", "ood/stl10_binary/test_X.bin"]
    lost = ["packed.json", "stl10_binary/unlabeled_X.bin", "cifar-10-batches-bin/test_batch.bin"]
    for file in (*kept, *lost):
        (source / file).parent.mkdir(parents=True, exist_ok=True)
        (source / file).touch()

    def files() -> list[str]:
        copy = copy_data(source, target)
        return sorted(file.relative_to(copy).as_posix() for file in copy.rglob("*") if file.is_file())

    assert files() == sorted((*kept, *lost))
    for file in lost:
        (source / file).unlink()
    assert files() == sorted(kept)
    assert has_ood(copy_data(source, target))
    shutil.rmtree(source / "ood")
    assert files() == ["stl10_binary/train_X.bin"]
    assert not has_ood(copy_data(source, target))
    source.rename(tmp_path / "away")  # like a file server that is out of reach
    assert files() == ["stl10_binary/train_X.bin"]


def test_a_copy_of_the_synthetic_set_is_recognised(tmp_path: Path) -> None:
    source, file = tmp_path / "set", "stl10_binary/train_X.bin"
    (source / file).parent.mkdir(parents=True)
    (source / file).write_bytes(b"1111")
    (source / "synthetic.json").write_text(json.dumps({"md5": {file: hashlib.md5(b"1111").hexdigest()}}))
    assert identify(copy_data(source, tmp_path / "node"), [file], "STL-10", [])["name"] == "synthetic"
