"""A real SLURM for each module of tests, and one of its own for each test that maltreats it."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from studies import OnCluster, Real, slurm, until

from slurm.processes import ClusterStartError, free_ports
from slurm.testbed import LocalCluster


@contextmanager
def started(folder: Path, **wanted: Any) -> Iterator[LocalCluster]:
    """Skips where there can be no SLURM, unless this is CI. Its commands reach this one inside."""
    cluster = LocalCluster(folder, port=free_ports(), **wanted)
    try:
        try:
            cluster.up()
        except ClusterStartError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SLURM_CONF", str(cluster.conf))
            yield cluster
    finally:
        cluster.down()


@pytest.fixture(scope="module")
def bed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """The cluster; a module's BED holds what it wants of it."""
    wanted: dict[str, Any] = getattr(request, "param", None) or getattr(request.module, "BED", {})
    folder = tmp_path_factory.mktemp("bed") / "some folders have spaces, and a name longer than a socket's may be"
    with started(folder, **{"cpus": 2, **wanted}) as cluster:
        yield cluster


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
    with started(tmp_path / "bed", **getattr(request, "param", {"cpus": 1})) as cluster:
        yield cluster


@pytest.fixture
def waiting(bed: LocalCluster) -> Iterator[None]:
    """Jobs are queued, but none begins: what was sent can be counted."""
    slurm("scontrol", "update", "PartitionName=low", "State=DOWN")
    yield
    slurm("scontrol", "update", "PartitionName=low", "State=UP")


@pytest.fixture
def limit(bed: LocalCluster) -> Iterator[Callable[[int], object]]:
    """Sets how many jobs a user may have in the queue at once."""
    line = ("sacctmgr", "-i", "modify", "qos", "normal", "set")
    yield lambda jobs: slurm(*line, f"MaxSubmitJobsPerUser={jobs}")
    slurm(*line, "MaxSubmitJobsPerUser=-1")


@pytest.fixture
def wrapper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a script in sbatch's place; it calls the real one as "$SBATCH"."""

    def make(text: str) -> None:
        file = tmp_path / "bin" / "sbatch"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/bash\n{text}\n")
        file.chmod(0o755)
        monkeypatch.setenv("SITES", shutil.which("sbatch") or "")
        monkeypatch.setenv("PATH", f"{file.parent}:{os.environ['PATH']}")

    return make
