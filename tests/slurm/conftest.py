"""A real SLURM for each module of tests, and one of its own for each test that maltreats it."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from studies import OnCluster, Real, slurm, until

from slurm.testbed import LocalCluster, NotPossible, free_ports


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


@pytest.fixture
def study(bed: LocalCluster, tmp_path: Path) -> Iterator[Callable[..., OnCluster]]:
    """Makes a study; what is left of it in the queue is cancelled."""
    yield lambda **more: OnCluster(tmp_path, **more)
    subprocess.run(["scancel", "-u", "root" if os.getuid() == 0 else str(os.getuid())], check=False)
    until(lambda: not slurm("squeue", "-h", "-o", "%A").split(), 60)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Real]:
    """The same study on this machine, made once."""
    made: dict[tuple[str, ...], Real] = {}

    def make(*overrides: str) -> Real:
        if overrides not in made:
            made[overrides] = Real(tmp_path_factory.mktemp("undisturbed"), *overrides)
            made[overrides].jobs("study", "demo")
        return made[overrides]

    return make


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """A cluster of the test's own: it is going to be maltreated."""
    bed = LocalCluster(tmp_path / "bed", port=free_ports(), **getattr(request, "param", {"cpus": 1}))
    bed.up()
    os.environ["SLURM_CONF"] = str(bed.conf)
    yield bed
    bed.down()
    del os.environ["SLURM_CONF"]
