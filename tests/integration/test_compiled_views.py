"""The compiled code for the views is cached, compiled again if the cache is damaged, and stays within its arrays."""

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
from ssl_pkg.config.schema import View
from ssl_pkg.config.fields import Jitter
jitter = Jitter(probability=0.8, brightness=0.8, contrast=0.8, saturation=0.8, hue=0.2)
busy = View(crop_area=(0.02, 1.0), flip=0.5, jitter=jitter, grey=0.2, blur=0.5, solarize=0.2)
digest = hashlib.sha256()
for height, width, resolution in ((96, 96, 96), (96, 96, 32), (40, 57, 33), (5, 7, 2), (31, 3, 90)):
    images = torch.arange(40 * 3 * height * width).remainder(251).byte().view(40, 3, height, width)
    parameters = sample_parameters(busy, 0, 0, np.arange(40), 0, height, width)
    digest.update(make_view(images, parameters, resolution).numpy().tobytes())
print(digest.hexdigest())
"""


ONCE = "Compiling the code for the views (some seconds, once).\n"


def make_views(cache: Path, *more: str, folder: Path | None = None, **variables: str) -> tuple[str, str]:
    """Makes views in another process with this cache; returns their digest and the stderr."""
    line, environment = [sys.executable, "-c", PROGRAM, *more], os.environ | {"XDG_CACHE_HOME": str(cache)} | variables
    done = subprocess.run(line, check=False, env=environment, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def cached_files(cache: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in cache.glob("ssl-study/views/**/*") if path.is_file()}


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A cache that one process has filled, and the digest of its views."""
    cache = tmp_path_factory.mktemp("cache")
    digest, said = make_views(cache)
    assert cached_files(cache) and said == ONCE
    return cache, digest


def test_the_code_is_compiled_once(filled: tuple[Path, str]) -> None:
    cache, digest = filled
    before = {path: (data, path.stat().st_mtime_ns) for path, data in cached_files(cache).items()}
    assert make_views(cache) == (digest, "")
    assert {path: (data, path.stat().st_mtime_ns) for path, data in cached_files(cache).items()} == before


@pytest.mark.parametrize(("suffix", "fraction"), [(".nbi", 0.5), (".nbc", 0.5), (".nbc", 0.0)])
def test_damaged_code_is_compiled_again(filled: tuple[Path, str], tmp_path: Path, suffix: str, fraction: float) -> None:
    cache, digest = tmp_path / "damaged", filled[1]
    shutil.copytree(filled[0], cache)
    for path, data in cached_files(cache).items():
        if path.suffix == suffix:
            path.write_bytes(data[: int(fraction * len(data))])
    again, said = make_views(cache)
    assert again == digest and "damaged" in said and said.count("\n") == 1
    assert make_views(cache) == (digest, "")


def test_a_full_disk_is_not_an_error(filled: tuple[Path, str], tmp_path: Path) -> None:
    digest, said = make_views(tmp_path, "full")
    assert digest == filled[1] and said.startswith(ONCE) and "can't be written" in said and said.count("\n") == 2


def test_no_loop_exceeds_its_arrays(filled: tuple[Path, str], tmp_path: Path) -> None:
    assert make_views(tmp_path, NUMBA_BOUNDSCHECK="1") == (filled[1], ONCE)


def test_a_changed_constant_in_another_file_invalidates_the_cache(filled: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(Path(ssl_pkg.__file__).parent, tmp_path / "ssl_pkg")
    operations = tmp_path / "ssl_pkg/augment/operations.py"
    operations.write_text(operations.read_text().replace("MEAN = (0.4467", "MEAN = (0.5467"))
    changed, said = make_views(filled[0], folder=tmp_path)
    assert changed != filled[1] and said == ONCE
