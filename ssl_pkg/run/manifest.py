"""The manifest of a run's data: the md5 of every file, and the name of the data set that these files are.

Official files are recognised by the md5 values that torchvision lists (`torchvision.datasets.STL10`, `CIFAR10`), the
synthetic set by its `synthetic.json`, and own images by the `packed.json` that `pack` writes. All other data is a
stand-in. Only numbers on official files are STL-10 numbers.
CIFAR-10 is recognised in its python layout only, because no md5 of the binary layout's test_batch.bin is published.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from ssl_pkg.cache import SYNTHETIC_MANIFEST, user_cache
from ssl_pkg.layout import IMAGE_BYTES, OOD, PUBLISHED
from ssl_pkg.run.directory import read_json, write_json

OFFICIAL: Final = {
    "stl10_binary/train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
    "stl10_binary/train_y.bin": "5a34089d4802c674881badbb80307741",
    "stl10_binary/unlabeled_X.bin": "5242ba1fed5e4be9e1e742405eb56ca4",
    "stl10_binary/test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
    "stl10_binary/test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
    "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
    "cifar-10-batches-py/batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
STL10_NAME: Final = "STL-10"
CIFAR10_NAME: Final = "CIFAR-10"
SYNTHETIC_NAME: Final = "synthetic"
STAND_IN: Final = "stand-in"
OWN: Final = "own images"  # the name of a packed set begins with it
OFFICIAL_CLASSES: Final = {
    STL10_NAME: ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
    CIFAR10_NAME: ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}
PACKED: Final = "packed.json"  # {"name": of the packed set, "md5": {file: md5}, "preparation": of its photographs}
OFFICIAL_BYTES: Final = PUBLISHED["unlabeled"] * IMAGE_BYTES  # of the largest official file; a larger file is not read


def identify(root: Path, files: Iterable[str], official_name: str, class_names: Sequence[str]) -> dict[str, Any]:
    """The manifest of `files` in `root`: {"name", "root", "files": {file: {"bytes", "md5"}}}, and for a packed set
    "preparation", which says how its photographs became images.

    `name` is `official_name` if every file is the official one, "synthetic" if the files are those of the synthetic
    set, "own images (NAME)" if they are those of a packed set, and "stand-in" otherwise. class_names: compared with the
    official names in their order, because a text file of names has no official md5.
    """
    found = {file: md5(root / file) for file in files}
    entries = {file: {"bytes": (root / file).stat().st_size, "md5": value} for file, value in found.items()}
    binary = [file for file in found if not file.endswith(".txt")]
    more: dict[str, Any] = {}
    if (
        all(found[file] == OFFICIAL.get(file) for file in binary)
        and tuple(class_names) == OFFICIAL_CLASSES[official_name]
    ):
        name = official_name
    elif all(found[file] == value for file, value in _synthetic(root, found).items()):
        name = SYNTHETIC_NAME
    else:
        packed = _packed(root, found)
        name = f"{OWN} ({packed['name']})" if packed else STAND_IN
        more = {"preparation": packed["preparation"]} if packed else {}
    return {"name": name, "root": str(root), "files": entries, **more}


def read_packed(folder: Path) -> dict[str, Any]:
    """The content of PACKED in the folder; empty if there is none, or if it is damaged."""
    return read_json(folder / PACKED) or {}


def md5(file: Path) -> str | None:
    """The file's md5, or None if the file is larger than any official file.

    The value is cached in the user's cache until the file's size or modification time changes, because reading
    gigabytes takes seconds.
    """
    facts = file.stat()
    if facts.st_size > OFFICIAL_BYTES:
        return None
    key = f"{file.resolve()} {facts.st_size} {facts.st_mtime_ns} {facts.st_ino}"
    cached = user_cache() / "md5" / f"{hashlib.sha256(os.fsencode(key)).hexdigest()}.json"
    value = (read_json(cached) or {}).get("md5")
    if not value:
        value = computed_md5(file)
        try:
            cached.parent.mkdir(parents=True, exist_ok=True)
            write_json(cached, {"file": str(file), "md5": value})
        except OSError:
            pass  # without a cache the next run reads the file again
    return str(value)


def computed_md5(file: Path) -> str:
    """The md5 of a file of any size, read from the file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "md5").hexdigest()


def _synthetic(root: Path, files: Iterable[str]) -> dict[str, str]:
    """The md5 of each of `files` in `synthetic.json`; for other files a text that no md5 equals."""
    generated = (read_json(root / SYNTHETIC_MANIFEST) or {}).get("md5")
    known = generated if isinstance(generated, dict) else {}
    return {file: str(known.get(file, "not generated")) for file in files}


def _packed(root: Path, found: Mapping[str, str | None]) -> dict[str, Any] | None:
    """The content of PACKED of the set whose files are `found`, which maps files to md5; None if there is no such set.

    The set is in `root`, or its OOD images are a set of their own. A file that is too large for an md5 is not compared.
    """
    for folder in (".", OOD):
        content = read_packed(root / folder)
        if isinstance(content.get("md5"), dict) and {"name", "preparation"} <= content.keys():
            packed = {(Path(folder) / file).as_posix(): value for file, value in content["md5"].items()}
            if all(file in packed and value in (None, packed[file]) for file, value in found.items()):
                return content
    return None
