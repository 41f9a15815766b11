import os
from pathlib import Path

from jobs.cluster.data_copy import copy_data


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
