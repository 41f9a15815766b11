"""The compiled loops of the views: kept in the user's cache, made anew where that is damaged, inside their arrays."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ssl_pkg

PROGRAM = """
import hashlib, resource, sys
import numpy as np, torch
if "full" in sys.argv:
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
from ssl_pkg.augment.parameters import sample_parameters
from ssl_pkg.augment.views import make_view
from ssl_pkg.config import Jitter, View
jitter = Jitter(probability=0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
busy = View(crop_area=(0.02, 1.0), flip=0.5, jitter=jitter, grey=0.2, blur=0.5, solarize=0.2)
digest = hashlib.sha256()
for height, width, resolution in ((96, 96, 96), (96, 96, 32), (40, 57, 33), (5, 7, 2), (31, 3, 90)):
    images = torch.arange(40 * 3 * height * width).remainder(251).byte().view(40, 3, height, width)
    parameters = sample_parameters(busy, 0, 0, np.arange(40), 0, height, width)
    digest.update(make_view(images, parameters, resolution).numpy().tobytes())
print(digest.hexdigest())
"""


ONCE = "Compiling the views (some seconds, once).\n"


def made(cache: Path, *more: str, folder: Path | None = None, **variables: str) -> tuple[str, str]:
    """The views' digest, made by another process with this cache, and what it said."""
    line, environment = [sys.executable, "-c", PROGRAM, *more], os.environ | {"XDG_CACHE_HOME": str(cache)} | variables
    done = subprocess.run(line, check=False, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def kept(cache: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in cache.glob("ssl-study/views/**/*") if path.is_file()}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A cache and the digest of the views of the start that filled it."""
    cache = tmp_path_factory.mktemp("cache")
    digest, said = made(cache)
    assert kept(cache) and said == ONCE
    return cache, digest


def test_they_are_compiled_once(filled: tuple[Path, str]) -> None:
    cache, digest = filled
    before = {path: (data, path.stat().st_mtime_ns) for path, data in kept(cache).items()}
    assert made(cache) == (digest, "")
    assert {path: (data, path.stat().st_mtime_ns) for path, data in kept(cache).items()} == before


@pytest.mark.parametrize(("ending", "left"), [(".nbi", 0.5), (".nbc", 0.5), (".nbc", 0.0)])
def test_what_is_damaged_is_made_anew(filled: tuple[Path, str], tmp_path: Path, ending: str, left: float) -> None:
    cache, digest = tmp_path / "damaged", filled[1]
    shutil.copytree(filled[0], cache)
    for path, data in kept(cache).items():
        if path.suffix == ending:
            path.write_bytes(data[: int(left * len(data))])
    again, said = made(cache)
    assert again == digest and "damaged" in said and said.count("\n") == 1
    assert made(cache) == (digest, "")


def test_a_full_disk_only_costs_time(filled: tuple[Path, str], tmp_path: Path) -> None:
    digest, said = made(tmp_path, "full")
    assert digest == filled[1] and said.startswith(ONCE) and "can't be written" in said and said.count("\n") == 2


def test_no_loop_reads_or_writes_beside_its_arrays(filled: tuple[Path, str], tmp_path: Path) -> None:
    assert made(tmp_path, NUMBA_BOUNDSCHECK="1") == (filled[1], ONCE)


def test_a_constant_of_another_file_is_not_taken_from_the_cache(filled: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(Path(ssl_pkg.__file__).parent, tmp_path / "ssl_pkg")
    operations = tmp_path / "ssl_pkg/augment/operations.py"
    operations.write_text(operations.read_text().replace("MEAN = (0.4467", "MEAN = (0.5467"))
    changed, said = made(filled[0], folder=tmp_path)
    assert changed != filled[1] and said == ONCE
