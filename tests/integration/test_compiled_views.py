"""The compiled loops of the views are kept in the user's cache, and nothing that happens to it stops a training."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

PROGRAM = """
import hashlib, resource, sys
import numpy as np, torch
if "full" in sys.argv:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
from ssl_pkg.augment.draws import draw
from ssl_pkg.augment.views import make_view
from ssl_pkg.config import View
images = torch.arange(4 * 3 * 40 * 40).remainder(251).byte().view(4, 3, 40, 40)
view = make_view(images, draw(View(crop_area=(0.2, 1.0), flip=0.5), 0, 0, np.arange(4), 0, 40, 40), 32)
print(hashlib.sha256(view.numpy().tobytes()).hexdigest())
"""


def made(cache: Path, *more: str) -> tuple[str, str]:
    """The view's digest, made by another process with this cache, and what it said."""
    line, environment = [sys.executable, "-c", PROGRAM, *more], os.environ | {"XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(line, check=False, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def kept(cache: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in cache.glob("ssl-study/views/**/*") if path.is_file()}


def test_they_are_compiled_once(tmp_path: Path) -> None:
    first, said = made(tmp_path)
    files = kept(tmp_path)
    assert files and not said
    stamps = [path.stat().st_mtime_ns for path in files]
    assert made(tmp_path) == (first, "")
    assert kept(tmp_path) == files and [path.stat().st_mtime_ns for path in files] == stamps


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"nothing of the kind"])
@pytest.mark.parametrize("ending", [".nbi", ".nbc"])
def test_what_is_damaged_is_made_anew(tmp_path: Path, damage: Callable[[bytes], bytes], ending: str) -> None:
    first, _ = made(tmp_path)
    for path, data in kept(tmp_path).items():
        if path.suffix == ending:
            path.write_bytes(damage(data))
    again, said = made(tmp_path)
    assert again == first and "can't be used" in said and said.count("\n") == 1
    assert made(tmp_path) == (first, "")


def test_a_full_disk_only_costs_time(tmp_path: Path) -> None:
    first, _ = made(tmp_path / "roomy")
    again, said = made(tmp_path / "full", "full")
    assert again == first and "can't be used" in said and said.count("\n") == 1
