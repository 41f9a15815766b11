import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_systems import compiled
from trainers import Study

from ssl_pkg.data.synthetic import Sizes, generate

SPACE = 8 * 2**30


@pytest.fixture(scope="session")
def root() -> Iterator[Path]:
    """A folder in memory if there is enough space, because the tests write thousands of checkpoints."""
    memory = Path("/dev/shm")
    enough = memory.is_dir() and shutil.disk_usage(memory).free > SPACE
    with tempfile.TemporaryDirectory(dir=memory if enough else None, prefix="faults-") as folder:
        yield Path(folder)


@pytest.fixture
def folder(root: Path) -> Iterator[Path]:
    """An empty folder for one test."""
    with tempfile.TemporaryDirectory(dir=root) as own:
        yield Path(own)


@pytest.fixture(scope="session")
def data(root: Path) -> Path:
    generate(root / "data", Sizes(train_per_class=4, test_per_class=2, unlabeled=64, ood_per_class=2))
    return root / "data"


@pytest.fixture(scope="session")
def study(root: Path, data: Path) -> Study:
    return Study(root, data)


@pytest.fixture(scope="session")
def library(root: Path) -> Path:
    """`failing.c`, for LD_PRELOAD."""
    return compiled(root)
