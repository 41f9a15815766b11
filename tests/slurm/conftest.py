"""A real SLURM for each module of tests, and small studies on it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from jobs.graph import Job, plan
from jobs.ledger import State
from jobs.profile import Profile
from jobs.runner import Programs
from jobs.status import Row, observe
from jobs.submit import Outcome, Submission
from slurm.testbed import LocalCluster, NotPossible, free_ports
from ssl_pkg.config import Study

STUB = Path(__file__).parent.parent / "integration" / "stub_stage.py"
METHODS = ("supervised", "simclr")


@pytest.fixture(scope="module")
def bed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """The cluster; a module's BED holds what it wants of it."""
    wanted: dict[str, Any] = getattr(request, "param", None) or getattr(request.module, "BED", {})
    started = LocalCluster(tmp_path_factory.mktemp("bed"), port=free_ports(), **{"cpus": 2, **wanted})
    try:
        started.up()
    except NotPossible as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    before = os.environ.get("SLURM_CONF")
    os.environ["SLURM_CONF"] = str(started.conf)
    yield started
    started.down()
    if before is None:
        del os.environ["SLURM_CONF"]


class OnCluster:
    """A study of stub stages on the cluster: what is tested is what SLURM does with it."""

    def __init__(
        self, root: Path, wait: float = 0.1, seeds: tuple[int, ...] = (0,), sweep: tuple[str, ...] = (), **profile: Any
    ) -> None:
        self.root, self.folder = root, root / "small"
        self.profile = Profile(name="test", partition="low", cpus=1, memory_gb=0.5, **{"minutes": 10, **profile})
        study = Study(name="small", methods=METHODS, seeds=seeds, cpus=1)
        self.jobs: list[Job] = plan(
            study, runs=root, reports=root / "reports", data_root="synthetic", overrides=(f"wait={wait}", *sweep)
        )
        python = (sys.executable, str(STUB))
        self._programs = Programs(stage=python, report=python)

    def send(self) -> Outcome:
        return Submission(self.jobs, self.folder, self.profile, data_root="synthetic", programs=self._programs).send()

    def rows(self) -> dict[str, Row]:
        return {row.name: row for row in observe(self.folder)}

    def states(self) -> dict[str, State]:
        return {name: row.state for name, row in self.rows().items()}

    def log(self, name: str) -> str:
        return (self.folder / "logs" / f"{name}.log").read_text()

    def until_complete(self, seconds: float = 120) -> None:
        until(lambda: set(self.states().values()) == {State.COMPLETE}, seconds, lambda: str(self.rows()))


@pytest.fixture
def study(bed: LocalCluster, tmp_path: Path) -> Iterator[Callable[..., OnCluster]]:
    """Makes a study; what is left of it in the queue is cancelled."""
    yield lambda **more: OnCluster(tmp_path, **more)
    subprocess.run(["scancel", "-u", "root" if os.getuid() == 0 else str(os.getuid())], check=False)
    until(lambda: not slurm("squeue", "-h", "-o", "%A").split(), 60)


def until(holds: Callable[[], object], seconds: float = 60, what: Callable[[], str] = str) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"not within {seconds} s: {what()}"
        time.sleep(0.2)


def slurm(*line: str) -> str:
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


def job_of(row: Row) -> str:
    assert row.job is not None
    return row.job
