"""The synthetic set has the published layouts, is reproducible, and is written completely or not at all."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from ssl_pkg.cache import SYNTHETIC_VERSION
from ssl_pkg.data import scenes, synthetic
from ssl_pkg.data.download import main
from ssl_pkg.data.synthetic import Sizes, generate, generate_cached
from ssl_pkg.errors import BadInput

SMALL = Sizes(train_per_class=5, test_per_class=2, unlabeled=30, ood_per_class=2)
IMAGE = 3 * 96 * 96


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "set"
    generate(folder, SMALL)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_stl10_files_have_the_published_sizes(root: Path) -> None:
    stl = root / "stl10_binary"
    assert (stl / "train_X.bin").stat().st_size == 50 * IMAGE
    assert (stl / "test_X.bin").stat().st_size == 20 * IMAGE
    assert (stl / "unlabeled_X.bin").stat().st_size == 30 * IMAGE
    assert not (stl / "unlabeled_y.bin").exists()


@pytest.mark.parametrize(("split", "count"), [("train", 5), ("test", 2)])
def test_labels_are_one_to_ten_and_balanced(root: Path, split: str, count: int) -> None:
    labels = np.fromfile(root / "stl10_binary" / f"{split}_y.bin", np.uint8)
    assert np.bincount(labels).tolist() == [0] + [count] * 10


def test_images_are_stored_columns_first(root: Path) -> None:
    stored = np.fromfile(root / "stl10_binary/train_X.bin", np.uint8).reshape(-1, 3, 96, 96)
    rendered = scenes.render("train", np.arange(3))
    np.testing.assert_array_equal(stored[:3].transpose(0, 1, 3, 2), rendered)
    assert rendered.shape == (3, 3, 96, 96)


def test_folds_are_balanced_fifths_of_train(root: Path) -> None:
    folds = [line.split() for line in (root / "stl10_binary/fold_indices.txt").read_text().splitlines()]
    labels = np.fromfile(root / "stl10_binary/train_y.bin", np.uint8)
    assert len(folds) == 10
    for fold in folds:
        indices = np.array(fold, int)
        assert len(set(fold)) == 10
        assert np.bincount(labels[indices]).tolist() == [0] + [1] * 10
    assert len({tuple(fold) for fold in folds}) == 10


def test_cifar_file_has_the_published_layout_and_the_same_names_in_another_order(root: Path) -> None:
    cifar = root / "cifar-10-batches-bin"
    records = np.fromfile(cifar / "test_batch.bin", np.uint8).reshape(-1, 1 + 3 * 32 * 32)
    assert np.bincount(records[:, 0]).tolist() == [2] * 10
    names = (cifar / "batches.meta.txt").read_text().split()
    classes = (root / "stl10_binary/class_names.txt").read_text().split()
    assert sorted(names) == sorted(classes) == sorted(set(names))
    assert len(names) == 10
    assert all(a != b for a, b in zip(names, classes, strict=True))


def test_cifar_labels_name_the_motif_in_the_image(root: Path) -> None:
    records = np.fromfile(root / "cifar-10-batches-bin/test_batch.bin", np.uint8).reshape(-1, 3073)
    names = (root / "cifar-10-batches-bin/batches.meta.txt").read_text().split()
    classes = (root / "stl10_binary/class_names.txt").read_text().split()
    expected = scenes.labels_of("ood", np.arange(20))
    assert [names[label] for label in records[:, 0]] == [classes[label] for label in expected]
    np.testing.assert_array_equal(records[:, 1:].reshape(-1, 3, 32, 32), scenes.render("ood", np.arange(20)))


def test_manifest_names_every_file_with_its_md5(root: Path) -> None:
    files = content(root)
    manifest = json.loads(files.pop("synthetic.json"))
    assert manifest["generator"] == SYNTHETIC_VERSION
    assert manifest["sizes"] == {"train_per_class": 5, "test_per_class": 2, "unlabeled": 30, "ood_per_class": 2}
    assert manifest["md5"] == {name: hashlib.md5(data).hexdigest() for name, data in files.items()}


def test_the_same_bytes_each_time(root: Path, tmp_path: Path) -> None:
    generate(tmp_path / "again", SMALL)
    assert content(tmp_path / "again") == content(root)


@pytest.mark.parametrize("split", scenes.SPLITS)
def test_an_image_depends_only_on_its_split_and_index(split: str) -> None:
    batch = scenes.render(split, np.arange(12))
    for index in (0, 11):
        np.testing.assert_array_equal(scenes.render(split, np.array([index]))[0], batch[index])
    assert len({image.tobytes() for image in batch}) == 12


def test_splits_share_no_image() -> None:
    images_by_split = [scenes.render(split, np.arange(10)) for split in ("train", "test", "unlabeled")]
    assert len({image.tobytes() for images in images_by_split for image in images}) == 30


def test_unlabeled_has_about_as_many_images_of_each_class() -> None:
    counts = np.bincount(scenes.labels_of("unlabeled", np.arange(2000)), minlength=10)
    assert len(counts) == 10
    assert abs(counts - 200).max() < 60  # more than four standard deviations


def test_an_error_while_writing_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full_disk(train_per_class: int) -> bytes:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(synthetic, "_folds", full_disk)
    with pytest.raises(OSError, match="No space"):
        generate(tmp_path / "set", SMALL)
    assert not list(tmp_path.iterdir())


def test_the_set_of_a_process_that_finished_earlier_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "set"
    files = synthetic._files

    def finished_by_another(sizes: Sizes) -> Iterator[tuple[str, Iterator[bytes]]]:
        yield from files(sizes)
        target.mkdir()
        (target / "synthetic.json").write_text("theirs")

    monkeypatch.setattr(synthetic, "_files", finished_by_another)
    generate(target, SMALL)
    assert (target / "synthetic.json").read_text() == "theirs"
    assert list(tmp_path.iterdir()) == [target]


GENERATE = """
import sys
from pathlib import Path
from ssl_pkg.data import synthetic
render = synthetic.scenes.render
def interruptible(split, indices):
    if split == "test":
        print("half", flush=True)
        sys.stdin.read()
    return render(split, indices)
synthetic.scenes.render = interruptible
synthetic.generate(Path(sys.argv[1]), synthetic.Sizes(5, 2, 30, 2))
"""


@contextmanager
def half_generated(target: Path) -> Iterator["subprocess.Popen[str]"]:
    """Context manager with a process that has written a part of the set, and waits for the end of its input."""
    line = [sys.executable, "-c", GENERATE, str(target)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "half\n"
        yield process
        process.kill()


def test_what_a_killed_process_has_left_is_removed_by_the_next(root: Path, tmp_path: Path) -> None:
    with half_generated(tmp_path / "set") as process:
        process.kill()
        process.wait()
        assert list(tmp_path.rglob("train_X.bin"))
        generate(tmp_path / "set", SMALL)
    assert list(tmp_path.iterdir()) == [tmp_path / "set"]
    assert content(tmp_path / "set") == content(root)


@pytest.mark.slow
def test_a_process_waits_while_another_one_generates_the_set(root: Path, tmp_path: Path) -> None:
    with half_generated(tmp_path / "set") as process, ThreadPoolExecutor(1) as second:
        waiting = second.submit(generate, tmp_path / "set", SMALL)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=1)
        assert process.stdin
        process.stdin.close()
        assert process.wait() == 0
        waiting.result(timeout=60)
    assert list(tmp_path.iterdir()) == [tmp_path / "set"]
    assert content(tmp_path / "set") == content(root)


def test_a_folder_with_other_files_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set/precious.txt").write_text("mine")
    with pytest.raises(OSError, match="not empty"):
        generate(tmp_path / "set", SMALL)
    assert content(tmp_path) == {"set/precious.txt": b"mine"}


def test_the_cached_set_is_generated_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(synthetic, "DEFAULT", SMALL)
    folder = generate_cached()
    assert folder.parent == tmp_path / "ssl-study"
    assert str(folder) in capsys.readouterr().err
    stamp = (folder / "synthetic.json").stat().st_mtime_ns
    assert generate_cached() == folder
    assert capsys.readouterr().err == ""
    assert (folder / "synthetic.json").stat().st_mtime_ns == stamp


def test_the_cache_falls_back_to_the_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder can be made below a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(synthetic, "DEFAULT", SMALL)
    folder = generate_cached()
    assert folder.is_relative_to(tmp_path)
    assert (folder / "synthetic.json").is_file()


def test_a_temporary_cache_writable_by_others_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("no folder can be made below a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    planted = tmp_path / f"ssl-study-{os.getuid()}"
    planted.mkdir()
    planted.chmod(0o777)
    with pytest.raises(BadInput, match="is another user's, or others can write to it"):
        generate_cached()


def test_command_line_writes_the_set_and_refuses_an_existing_folder(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "DEFAULT", SMALL)
    out = str(tmp_path / "set")
    assert main(["--synthetic", out]) == 0
    assert content(tmp_path / "set") == content(root)
    assert main(["--synthetic", out]) == 2
    error = capsys.readouterr().err
    assert out in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_linear_classifier_on_pixels_fails() -> None:
    """The accuracy of a linear classifier on 16×16 mean pixels stays far below a network's."""

    def pixels(split: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        indices = np.arange(count)
        small = scenes.render(split, indices).reshape(count, 3, 16, 6, 16, 6).mean((3, 5)).reshape(count, -1)
        return (small - 128) / 64, scenes.labels_of(split, indices)

    images, labels = pixels("train", 1000)
    model = LogisticRegression(C=1e-3, max_iter=200).fit(images, labels)
    assert 0.1 < model.score(*pixels("test", 500)) < 0.45
