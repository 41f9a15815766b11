"""Damaged and forged data files are refused in one sentence, or read as an independent second reader reads them."""

import pickle
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hostile import cases, damaged
from hypothesis import given
from hypothesis import strategies as st

from ssl_pkg.cache import user_cache
from ssl_pkg.data.cifar10 import open_cifar10
from ssl_pkg.data.stl10 import open_stl10
from ssl_pkg.data.synthetic import Sizes, generate
from ssl_pkg.errors import BadInput

CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
CIFAR = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
COUNTED = {name: {"automobile": "car", "frog": "monkey"}.get(name, name) for name in CIFAR}
STL_IMAGE, CIFAR_IMAGE = 3 * 96 * 96, 3 * 32 * 32


@pytest.fixture
def own_cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    user_cache.cache_clear()
    yield
    user_cache.cache_clear()


def refusal(error: BadInput) -> None:
    assert str(error)
    assert "\n" not in str(error)


def lines(words: st.SearchStrategy[Any], count: int) -> st.SearchStrategy[bytes]:
    """A text file of about `count` lines."""
    rows = st.lists(words, min_size=count - 1, max_size=count + 1)
    ends = st.sampled_from(("\n", "\r\n", "\n\n", " \n"))
    return st.builds(lambda row, end: "".join(f"{word}{end}" for word in row).encode(), rows, ends)


def labels(highest: int, count: int) -> st.SearchStrategy[bytes]:
    """A file of about `count` labels, most of them valid."""
    return st.lists(st.integers(1, highest) | st.integers(0, 255), min_size=count - 1, max_size=count + 1).map(bytes)


@pytest.fixture
def stl(folder: Path) -> Path:
    generate(folder / "stl", Sizes(train_per_class=2, test_per_class=1, unlabeled=2, ood_per_class=1))
    return folder / "stl"


def read_stl(files: dict[str, bytes]) -> dict[str, Any] | None:
    """An independent reader of the same files. Returns None if they are invalid."""
    found: dict[str, Any] = {}
    for split in ("train", "test", "unlabeled"):
        content = files[f"{split}_X.bin"]
        count, rest = divmod(len(content), STL_IMAGE)
        if rest or not count:
            return None
        found[split] = content
        if split != "unlabeled":
            numbers = list(files[f"{split}_y.bin"])
            if len(numbers) != count or not all(1 <= number <= 10 for number in numbers):
                return None
            found[f"{split} labels"] = [number - 1 for number in numbers]
    try:
        names = [line.strip() for line in files["class_names.txt"].decode().splitlines() if line.strip()]
        folds = [[int(word) for word in line.split()] for line in files["fold_indices.txt"].decode().splitlines()]
    except ValueError:
        return None
    found["names"], found["folds"] = names, [fold for fold in folds if fold]
    if len(names) != 10 or len(set(names)) != 10 or min(map(found["train labels"].count, range(10))) < 2:
        return None
    count = len(found["train labels"])
    if not all(set(fold) <= set(range(count)) and len(set(fold)) == len(fold) for fold in folds):
        return None
    return found


@cases(long=500, short=60)
@given(chance=st.data())
def test_stl10_is_read_correctly_or_refused(own_cache: None, stl: Path, chance: st.DataObject) -> None:
    folder = stl / "stl10_binary"
    files = {file.name: file.read_bytes() for file in sorted(folder.iterdir())}
    name = chance.draw(st.sampled_from(sorted(files)))
    kinds: dict[str, st.SearchStrategy[bytes]] = {
        "train_y.bin": labels(10, 20) | st.permutations(files["train_y.bin"]).map(bytes),
        "test_y.bin": labels(10, 10),
        "class_names.txt": lines(st.sampled_from((*CLASSES, "polar bear", "né", "")), 10)
        | st.permutations(CLASSES).map(lambda names: "\n".join(names).encode())
        | st.integers(1, 9).map(lambda at: "\n".join(CLASSES).replace("\n", " ", at).encode()),
        "fold_indices.txt": lines(st.lists(st.integers(-1, 20), max_size=4).map(lambda w: " ".join(map(str, w))), 3)
        | lines(st.text("0123456789 -_.e\x00é", max_size=25), 3),
    }
    changed = chance.draw(damaged(files[name]) | kinds.get(name, st.nothing()))
    (folder / name).write_bytes(changed)
    expected = read_stl(files | {name: changed})
    try:
        opened = open_stl10(stl)
    except BadInput as error:
        refusal(error)
        assert expected is None
    else:
        assert expected is not None, "was read and should have been refused"
        for split in (opened.train, opened.test, opened.unlabeled):
            assert split.pixels[np.arange(len(split))].tobytes() == expected[split.name]
            assert split.labels.tolist() == expected.get(f"{split.name} labels", [-1] * len(split))
        assert list(opened.classes) == expected["names"]
        assert [fold.tolist() for fold in opened.folds] == expected["folds"]
        assert opened.manifest["name"] == ("synthetic" if changed == files[name] else "stand-in") or name.startswith(
            "f"
        )
    finally:
        (folder / name).write_bytes(files[name])


def check_cifar(root: Path, expected: tuple[bytes, list[str]] | None) -> None:
    """expected: the pixels and each image's class name, or None if the files are invalid."""
    try:
        opened = open_cifar10(root, CLASSES)
    except BadInput as error:
        refusal(error)
        assert expected is None
    else:
        assert expected is not None, "was read and should have been refused"
        assert opened.test.pixels.tobytes() == expected[0]
        assert [CLASSES[label] for label in opened.test.labels] == [COUNTED.get(name, name) for name in expected[1]]


def read_binary(content: bytes, meta: bytes | None) -> tuple[bytes, list[str]] | None:
    """An independent reader of CIFAR-10's binary layout. Returns None if the files are invalid."""
    try:
        text = "\n".join(CIFAR) if meta is None else meta.decode()
    except ValueError:
        return None
    names = [line.strip() for line in text.splitlines() if line.strip()]
    size = 1 + CIFAR_IMAGE
    records = [content[start : start + size] for start in range(0, len(content), size)]
    known = all(COUNTED.get(name, name) in CLASSES for name in names) and len(set(names)) == len(names)
    if not records or len(records[-1]) != size or not known or any(record[0] >= len(names) for record in records):
        return None
    return b"".join(record[1:] for record in records), [names[record[0]] for record in records]


@cases(long=300, short=40)
@given(chance=st.data())
def test_cifar10_binary_is_read_correctly_or_refused(own_cache: None, folder: Path, chance: st.DataObject) -> None:
    generator = np.random.default_rng(2)
    content = generator.integers(0, 256, (10, 1 + CIFAR_IMAGE), dtype=np.uint8)
    content[:, 0] = chance.draw(st.just(list(range(10))) | st.lists(st.integers(0, 11), min_size=10, max_size=10))
    image = chance.draw(st.just(content.tobytes()) | damaged(content.tobytes()))
    meta = "\n".join([*CIFAR, "", ""]).encode()
    meta = chance.draw(
        st.none() | st.just(meta) | damaged(meta) | lines(st.sampled_from((*CIFAR, "car", "polar bear")), 10)
        | st.permutations(CIFAR).map(lambda names: "\n".join(names).encode())
    )  # fmt: skip
    root = folder / "binary/cifar-10-batches-bin"
    root.mkdir(parents=True, exist_ok=True)
    (root / "test_batch.bin").write_bytes(image)
    (root / "batches.meta.txt").unlink(missing_ok=True)
    if meta is not None:
        (root / "batches.meta.txt").write_bytes(meta)
    check_cifar(root.parent, read_binary(image, meta))


def write_python(root: Path, batch: bytes, meta: bytes) -> Path:
    folder = root / "python/cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "test_batch").write_bytes(batch)
    (folder / "batches.meta").write_bytes(meta)
    return folder.parent


PIXELS = np.random.default_rng(3).integers(0, 256, (4, CIFAR_IMAGE), dtype=np.uint8)
DATA: list[tuple[Any, bool]] = [  # a value, and whether it is valid
    *[(PIXELS, True)] * 4, (np.asfortranarray(PIXELS), True), (PIXELS[:3], False), (PIXELS[:, :-1], False),
    (PIXELS.astype(np.int64), False), (PIXELS.tolist(), False), (None, False), (PIXELS.reshape(4, 3, 32, 32), False),
]  # fmt: skip
LABELS: list[tuple[Any, bool]] = [
    *[([0, 1, 6, 9], True)] * 4, ([3, 3, 3, 3], True), ([0, 1, 2], False), ([0, 1, 2, 10], False),
    ([0, 1, 2, -1], False), ([0, 1, 2, 10**30], False),
    ([0, 1, 2, 2.0], False), ([0, 1, 2, None], False), ("0123", False), (None, False),
    (np.arange(4), False), ([True, False, True, True], False), ([], False), ((0, 1, 2, 3), False),
]  # fmt: skip
NAMES: list[tuple[Any, bool]] = [
    *[(CIFAR, True)] * 4, (CIFAR[::-1], True), (CIFAR[:9], False), ([*CIFAR[:9], 7], False), (None, False),
    ("abc", False), ([*CIFAR[:9], "lorry"], False), ([*CIFAR[:9], CIFAR[0]], False), ({}, False),
]  # fmt: skip


@cases(long=300, short=40)
@given(
    fields=st.tuples(*map(st.sampled_from, (DATA, LABELS, NAMES))),
    protocol=st.integers(0, 4),
    left_out=st.none() | st.sampled_from(("data", "labels", "label_names")),
)
def test_cifar10_pickles_are_read_only_if_they_are_valid(
    own_cache: None, folder: Path, fields: Any, protocol: int, left_out: str | None
) -> None:
    data, labels, names = fields
    batch = {"data": data[0], "labels": labels[0]}
    meta = {"label_names": names[0]}
    for content in (batch, meta):
        content.pop(left_out, None)
    fits = data[1] and labels[1] and left_out is None
    fits = fits and (names[1] or (names[0] == CIFAR[:9] and max(labels[0]) < 9))
    expected = (PIXELS.tobytes(), [names[0][label] for label in labels[0]]) if fits else None
    check_cifar(write_python(folder, pickle.dumps(batch, protocol), pickle.dumps(meta, protocol)), expected)


@cases(long=500, short=60)
@given(chance=st.data())
def test_damaged_pickles_are_refused_or_hold_images(own_cache: None, folder: Path, chance: st.DataObject) -> None:
    protocol = chance.draw(st.integers(0, 4))
    contents = [
        pickle.dumps({"data": PIXELS, "labels": [0, 1, 6, 9]}, protocol), pickle.dumps({"label_names": CIFAR}, protocol)
    ]  # fmt: skip
    which = chance.draw(st.sampled_from((0, 0, 1)))
    contents[which] = chance.draw(damaged(contents[which]))
    try:
        opened = open_cifar10(write_python(folder, *contents), CLASSES)
    except BadInput as error:
        refusal(error)
    else:
        assert opened.test.pixels.shape == (len(opened.test.labels), 3, 32, 32)
        assert opened.test.pixels.dtype == np.uint8
        assert all(0 <= label < 10 for label in opened.test.labels)


def call(module: str, name: str, *arguments: bytes) -> bytes:
    """A pickle that calls module.name."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR."


def text(value: object) -> bytes:
    return b"X" + struct.pack("<I", len(str(value))) + str(value).encode()


FORGED = {
    "a shell": lambda mark: call("os", "system", text(f"touch {mark}")),
    "posix": lambda mark: call("posix", "system", text(f"touch {mark}")),
    "eval": lambda mark: call("builtins", "eval", text(f"open({str(mark)!r}, 'w')")),
    "python 2's eval": lambda mark: call("__builtin__", "eval", text(f"open({str(mark)!r}, 'w')")),
    "an attribute of an allowed class": lambda mark: b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93(" + b"tR.",
    "numpy's own loader": lambda mark: call("numpy", "load", text(mark)),
    "a pickle in a pickle": lambda mark: call("_pickle", "loads", b"U\x01."),
    "a module's import": lambda mark: call("importlib", "import_module", text("antigravity")),
    "an extension code": lambda mark: b"\x80\x02\x82\x01.",
    "a persistent identity": lambda mark: b"\x80\x02" + text("x") + b"Q.",
    "a memo of 64 gigabytes": lambda mark: b"\x80\x02}r\xf0\xff\xff\x0f.",
    "an array of 2 ** 60 bytes": lambda mark: call("numpy", "ndarray", b"\x8a\x08" + struct.pack("<q", 2**60)),
    "a text of 2 ** 40 bytes": lambda mark: b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b"a.",
    "a million lists in each other": lambda mark: b"\x80\x02" + b"]" * 10**6 + b"a" * (10**6 - 1) + b".",
}


@pytest.mark.parametrize("forged", sorted(FORGED))
@pytest.mark.parametrize("file", ["test_batch", "batches.meta"])
def test_a_forged_pickle_is_refused_and_does_nothing(own_cache: None, folder: Path, forged: str, file: str) -> None:
    content, mark = FORGED[forged](folder / "mark"), folder / "mark"
    whole = pickle.dumps({"data": PIXELS, "labels": [0, 1, 6, 9]}, 2)
    root = write_python(folder, *((content, whole) if file == "test_batch" else (whole, content)))
    with pytest.raises(BadInput) as caught:
        open_cifar10(root, CLASSES)
    refusal(caught.value)
    assert not mark.exists()
