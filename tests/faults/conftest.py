import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_systems import compiled
from trainers import METHODS, OF_STAGE, SMALL, start

from ssl_pkg.data.synthetic import Sizes, generate
from ssl_pkg.errors import COMPLETE

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


class Study:
    """The command lines of the tests' runs, and their results without an interruption."""

    def __init__(self, root: Path, data: Path) -> None:
        self._root, self._data = root, data
        self.seconds: dict[str, float] = {}

    def line(self, target: str, run_dir: Path, *more: str) -> list[str]:
        """The command line of `target`: a method to pretrain, or a stage."""
        if target in METHODS:
            what = ["stage=pretrain", f"method={target}"]
        else:
            source = {"finetune": "simclr", "width": "supervised"}[target]
            what = [f"stage={target}", f"source={self.uninterrupted(source)}"]
        own = [option for word in what for option in OF_STAGE.get(word, ())]
        return [*SMALL, *own, *what, f"data.root={self._data}", f"run_dir={run_dir}", *more]

    def uninterrupted(self, target: str) -> Path:
        """The run directory of the uninterrupted run, which is made once for all tests."""
        folder = self._root / "uninterrupted" / target
        if target not in self.seconds:
            folder.parent.mkdir(exist_ok=True)
            line, begun = self.line(target, folder), time.monotonic()
            (trainer,) = start(line)
            assert trainer.status() == COMPLETE, trainer.stderr()
            self.seconds[target] = time.monotonic() - begun
        return folder


@pytest.fixture(scope="session")
def study(root: Path, data: Path) -> Study:
    return Study(root, data)


@pytest.fixture(scope="session")
def library(root: Path) -> Path:
    """`failing.c`, for LD_PRELOAD."""
    return compiled(root)
