"""A real SLURM for each test module, and one of its own for each test that damages it."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ports import free_ports
from studies import STUB, OnCluster, Real, slurm, until

import jobs.programs
from jobs.programs import Programs
from slurm.processes import ClusterStartError
from slurm.testbed import LocalCluster


@contextmanager
def started(folder: Path, **wanted: Any) -> Iterator[LocalCluster]:
    """Context manager with a running cluster, which SLURM's commands reach. Skips if it can't start, except in CI."""
    cluster = LocalCluster(folder, port=free_ports(), **{"cpus": 2, **wanted})
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
    """The module's cluster; BED in the module has its parameters."""
    wanted: dict[str, Any] = getattr(request, "param", None) or getattr(request.module, "BED", {})
    folder = tmp_path_factory.mktemp("bed") / "some folders have spaces, and a name longer than a socket's may be"
    with started(folder, **{"cpus": 2, **wanted}) as cluster:
        yield cluster


@pytest.fixture
def study(bed: LocalCluster, tmp_path: Path) -> Iterator[Callable[..., OnCluster]]:
    """Creates a study; its remaining jobs are cancelled after the test."""
    yield lambda **more: OnCluster(tmp_path, **more)
    subprocess.run(["scancel", "-u", "root" if os.getuid() == 0 else str(os.getuid())], check=False)
    until(lambda: not slurm("squeue", "-h", "-o", "%A").split(), 60)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Real]:
    """The same study, run once on this machine."""
    made: dict[tuple[str, ...], Real] = {}

    def make(*overrides: str) -> Real:
        if overrides not in made:
            made[overrides] = Real(tmp_path_factory.mktemp("undisturbed"), *overrides)
            made[overrides].jobs("study", "demo")
        return made[overrides]

    return make


@pytest.fixture
def cluster(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[LocalCluster]:
    """A cluster for one test, which may damage it."""
    with started(tmp_path / "bed", **getattr(request, "param", {"cpus": 1})) as cluster:
        yield cluster


@pytest.fixture
def waiting(bed: LocalCluster) -> Iterator[None]:
    """Jobs stay pending, so that they can be counted."""
    slurm("scontrol", "update", "PartitionName=low", "State=DOWN")
    yield
    slurm("scontrol", "update", "PartitionName=low", "State=UP")


@pytest.fixture
def stub_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line starts stub stages instead of the real ones."""
    stub = Programs(stage=(sys.executable, str(STUB)), report=(sys.executable, str(STUB)))
    monkeypatch.setattr(jobs.programs, "Programs", lambda: stub)


@pytest.fixture
def limit(bed: LocalCluster) -> Iterator[Callable[[int], object]]:
    """Sets the maximum number of jobs of a user in the queue."""

    def set_limit(jobs: int) -> None:
        # the controller hears of it later, and always shows a QOS's priority, but not always its limits
        slurm(
            "sacctmgr", "-i", "modify", "qos", "normal", "set", f"MaxSubmitJobsPerUser={jobs}", f"Priority={jobs + 2}"
        )
        shown = ("scontrol", "show", "assoc_mgr", "flags=qos", "qos=normal")
        until(lambda: f"Priority={jobs + 2}\n" in slurm(*shown))

    yield set_limit
    set_limit(-1)


@pytest.fixture
def wrapper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Puts a script in place of sbatch. The script calls the real one as "$SITES"."""

    def make(text: str) -> None:
        file = tmp_path / "bin" / "sbatch"
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/bash\n{text}\n")
        file.chmod(0o755)
        monkeypatch.setenv("SITES", shutil.which("sbatch") or "")
        monkeypatch.setenv("PATH", f"{file.parent}:{os.environ['PATH']}")

    return make
