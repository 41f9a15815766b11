"""Studies on a cluster: of stub stages, for tests of submission, and of real training."""

import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.cluster.profile import Profile
from jobs.cluster.submit import Submission, SubmissionSummary
from jobs.ledger import State
from jobs.plan.graph import Job, plan
from jobs.programs import Programs
from jobs.status.states import Row, read_rows
from ssl_pkg.config.schema import StudyConfig
from ssl_pkg.run.directory import RunDirectory, runs_of

STUB = Path(__file__).parent.parent / "integration" / "stub_stage.py"
METHODS = ("supervised", "simclr")
SAME = ("weights_sha256", "metrics_sha256", "rows")
FILES = ("*.npz", "*.safetensors")
TINY = ("budget=tiny", "threads=1")
LONG = os.environ.get("SLURM_TESTS") == "long"
LONG_ONLY = pytest.mark.skipif(not LONG, reason="minutes each: make test-slurm-long")


def until(condition: Callable[[], object], seconds: float = 60, what: Callable[[], str] = str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {what()}"
        time.sleep(0.2)


def slurm(*line: str) -> str:
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout


def job_of(row: Row) -> str:
    assert row.job is not None
    return row.job


class OnCluster:
    """A study of stub stages on the cluster."""

    def __init__(
        self, root: Path, wait: float = 0.1, seeds: tuple[int, ...] = (0,), sweep: tuple[str, ...] = (), **profile: Any
    ) -> None:
        self.root, self.folder = root, root / "small"
        asked: dict[str, Any] = {"partition": "low", "cpus": 1, "memory": {"per_node": 0.5}, "minutes": 10, **profile}
        self.profile = Profile(name="test", **asked)
        study = StudyConfig(name="small", methods=METHODS, seeds=seeds, cpus=1)
        self.jobs: list[Job] = plan(
            study, runs=root, reports=root / "reports", data_root="synthetic", overrides=(f"wait={wait}", *sweep)
        )
        python = (sys.executable, str(STUB))
        self._programs = Programs(stage=python, report=python)

    def submit(self) -> SubmissionSummary:
        return Submission(self.jobs, self.folder, self.profile, data_root="synthetic", programs=self._programs).submit()

    def rows(self) -> dict[str, Row]:
        return {row.name: row for row in read_rows(self.folder)}

    def states(self) -> dict[str, State]:
        return {name: row.state for name, row in self.rows().items()}

    def log(self, name: str) -> str:
        return (self.folder / "logs" / f"{name}.log").read_text()

    def until_complete(self, seconds: float = 120) -> None:
        until(lambda: set(self.states().values()) == {State.COMPLETE}, seconds, lambda: str(self.rows()))


class Real:
    """A study of real stages, on the cluster or on this machine; the default budget is tiny."""

    def __init__(self, root: Path, *overrides: str, seeds: str = "0", **profile: object) -> None:
        self.root, self.folder = root, root / "runs" / "demo"
        self._overrides = overrides if any(each.startswith("budget=") for each in overrides) else (*TINY, *overrides)
        self._seeds = ["--seeds", seeds]
        root.mkdir(exist_ok=True)
        asked = {
            "partition": "low",
            "cpus": 1,
            "memory": {"per_node": 2},
            "minutes": 60,
            "signal_seconds": 20,
            **profile,
        }
        self.profile = root / "bed.yaml"
        self.profile.write_text(yaml.safe_dump(asked))

    def jobs(self, *line: str) -> str:
        places = ["--runs", str(self.root / "runs"), "--reports", str(self.root / "reports"), *self._seeds]
        command = [sys.executable, "-m", "jobs", *line, *places, *self._overrides]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def submit(self) -> str:
        return self.jobs("submit", "demo", "--cluster", str(self.profile))

    def rows(self) -> dict[str, Row]:
        return {row.name: row for row in read_rows(self.folder)}

    def complete(self) -> bool:
        return all(row.state is State.COMPLETE for row in self.rows().values())

    def describe(self) -> str:
        return "\n".join(f"{row.name} {row.state} {row.note or ''}" for row in self.rows().values())

    def results(self) -> dict[str, dict[str, object]]:
        """The results that must not depend on interruptions: numbers, and the hashes of all artifacts."""
        results = {}
        for run in runs_of(self.folder):
            result = run.result() or {}
            files = sorted(file for pattern in FILES for file in run.path.glob(pattern))
            digests = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
            results[run.name] = {key: result[key] for key in SAME} | digests
        return results

    def log(self, name: str) -> str:
        return (self.folder / "logs" / f"{name}.log").read_text()

    def resumed_from(self, name: str) -> list[int]:
        """The steps of the checkpoints from which the run resumed."""
        return [int(step) for step in re.findall(r"resumes from the checkpoint of step (\d+)", self.log(name))]


def wait_for_step(real: Real, name: str, step: int, seconds: float = 120) -> None:
    run = RunDirectory(real.folder / name)
    until(lambda: (run.status() or {}).get("step", -1) >= step or run.complete, seconds, real.describe)
