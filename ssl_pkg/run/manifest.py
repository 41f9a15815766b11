"""Which data a run saw: the md5 of every file, and the name that they earn.

The official files are known by the md5 values that torchvision lists too (`torchvision.datasets.STL10`, `CIFAR10`); the
synthetic set by its own `synthetic.json`; everything else is a stand-in, and no number on it is an STL-10 number. Of
CIFAR-10 only the python layout is known: no md5 of the binary layout's test_batch.bin is published.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from ssl_pkg.cache import user_cache
from ssl_pkg.run.directory import write_json

OFFICIAL: Final = {
    "stl10_binary/train_X.bin": "918c2871b30a85fa023e0c44e0bee87f",
    "stl10_binary/train_y.bin": "5a34089d4802c674881badbb80307741",
    "stl10_binary/unlabeled_X.bin": "5242ba1fed5e4be9e1e742405eb56ca4",
    "stl10_binary/test_X.bin": "7f263ba9f9e0b06b93213547f721ac82",
    "stl10_binary/test_y.bin": "36f9794fa4beb8a2c72628de14fa638e",
    "cifar-10-batches-py/test_batch": "40351d587109b95175f43aff81a1287e",
    "cifar-10-batches-py/batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
}
OFFICIAL_CLASSES: Final = {
    "STL-10": ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
    "CIFAR-10": ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
}
OFFICIAL_BYTES: Final = 100_000 * 27_648  # of the largest official file: what is larger is not official and is not read


def identify(root: Path, files: Iterable[str], official_name: str, named: Sequence[str]) -> dict[str, Any]:
    """The manifest of `files` below `root`: {"name", "root", "files": {file: {"bytes", "md5"}}}.

    `name` is `official_name` if every file is the official one, "synthetic" if they are those of the synthetic set,
    "stand-in" otherwise. named: the classes in the files' order, for a text file of names has no official md5.
    """
    entries = {file: {"bytes": (root / file).stat().st_size, "md5": md5(root / file)} for file in files}
    found = {file: entry["md5"] for file, entry in entries.items()}
    binary = [file for file in found if not file.endswith(".txt")]
    if all(found[file] == OFFICIAL.get(file) for file in binary) and tuple(named) == OFFICIAL_CLASSES[official_name]:
        name = official_name
    elif all(found[file] == value for file, value in _synthetic(root, found).items()):
        name = "synthetic"
    else:
        name = "stand-in"
    return {"name": name, "root": str(root), "files": entries}


def md5(file: Path) -> str | None:
    """The file's md5, or None for one that is larger than any official file.

    Reading gigabytes takes seconds, so the value is kept in the user's cache until size or time of the file change.
    """
    facts = file.stat()
    if facts.st_size > OFFICIAL_BYTES:
        return None
    key = f"{file.resolve()} {facts.st_size} {facts.st_mtime_ns} {facts.st_ino}"
    kept = user_cache() / "md5" / f"{hashlib.sha256(os.fsencode(key)).hexdigest()}.json"
    try:
        value = json.loads(kept.read_text(encoding="utf-8"))["md5"]
    except (OSError, ValueError, KeyError, TypeError):
        with file.open("rb") as content:
            value = hashlib.file_digest(content, "md5").hexdigest()
        try:
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, {"file": str(file), "md5": value})
        except OSError:
            pass  # without a cache the next run reads the file again
    return str(value)


def _synthetic(root: Path, files: Iterable[str]) -> dict[str, str]:
    """What `synthetic.json` says of `files`; a file that it doesn't name can't match."""
    try:
        generated = json.loads((root / "synthetic.json").read_text(encoding="utf-8"))["md5"]
        return {file: str(generated.get(file, "not generated")) for file in files}
    except (OSError, ValueError, KeyError, AttributeError):
        return dict.fromkeys(files, "not generated")
