import atexit
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ssl_pkg.hardware.machine import gpu_out_of_reach, gpus

status = pytest.StashKey[int]()
NOBODY = 65534
# Two workers take the files in this order, so that no long file is the last one, which one worker would run alone.
LONGEST = (
    "test_own_images.py",
    "test_processes.py",
    "test_interrupted_stages.py",
    "test_compiled_views.py",
    "test_stage_numbers.py",
    "test_held_out_images.py",
)


@pytest.fixture
def user_folder() -> Iterator[Path]:
    """An empty folder of a user who, unlike root, may not read everything. The test runs as that user."""
    from PIL import Image

    Image.init()  # imports modules, perhaps from a folder that only root can read
    with tempfile.TemporaryDirectory() as name:
        root = os.geteuid() == 0
        if root:
            os.chown(name, NOBODY, NOBODY)
            os.seteuid(NOBODY)
        try:
            yield Path(name)
        finally:
            if root:
                os.seteuid(0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONGEST)))


def pytest_configure() -> None:
    """Prepares the environment that tests pass on to the processes that they start.

    Undoes what nohup and a shell's background jobs do, because processes that ignore a signal pass that on. Chooses the
    CPU on a machine whose GPU can't be used, because a run refuses it unless the CPU is wanted.
    """
    if not gpus() and gpu_out_of_reach():
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    session.config.stash[status] = exitstatus


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Exits like `python -m ssl_pkg`, without oneDNN's clean-up, which sometimes causes a segmentation fault."""
    if "torch" in sys.modules and status in config.stash:
        atexit._run_exitfuncs()  # pytest's handlers remove old temporary folders
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(config.stash[status])
