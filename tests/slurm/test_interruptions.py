"""Real training on a real SLURM that takes its jobs away: every run ends as the one that nobody disturbed."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from conftest import job_of, slurm, until

from jobs.ledger import State
from jobs.status import Row, observe
from jobs.watch import UNDER_WAY
from slurm.testbed import LocalCluster, free_ports
from ssl_pkg.runs import RunDirectory, runs_of

LONG = os.environ.get("SLURM_TESTS") == "long"
LONG_ONLY = pytest.mark.skipif(not LONG, reason="minutes each: make test-slurm-long")
INTERRUPTIONS = 20  # of a storm, at least
SAME = ("weights_sha256", "metrics_sha256", "rows")
TINY = ("budget=tiny", "threads=1")


class Real:
    """A study of real stages, on the cluster or on this machine."""

    def __init__(self, root: Path, *overrides: str, seeds: str = "0", **profile: object) -> None:
        self.root, self.folder, self._overrides = root, root / "runs" / "demo", overrides
        self._seeds = ["--seeds", seeds]
        root.mkdir(exist_ok=True)
        asked = {"partition": "low", "cpus": 1, "memory_gb": 2, "minutes": 60, "signal_seconds": 20, **profile}
        self.profile = root / "bed.yaml"
        self.profile.write_text(yaml.safe_dump(asked))

    def jobs(self, *line: str) -> str:
        places = ["--runs", str(self.root / "runs"), "--reports", str(self.root / "reports"), *self._seeds]
        command = [sys.executable, "-m", "jobs", *line, *places, *TINY, *self._overrides]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def send(self) -> str:
        return self.jobs("submit", "demo", "--cluster", str(self.profile))

    def rows(self) -> dict[str, Row]:
        return {row.name: row for row in observe(self.folder)}

    def complete(self) -> bool:
        return all(row.state is State.COMPLETE for row in self.rows().values())

    def told(self) -> str:
        return "\n".join(f"{row.name} {row.state} {row.note or ''}" for row in self.rows().values())

    def results(self) -> dict[str, dict[str, object]]:
        found = {run.name: run.result() or {} for run in runs_of(self.folder)}
        return {name: {key: result[key] for key in SAME} for name, result in found.items()}

    def log(self, name: str) -> str:
        return (self.folder / "logs" / f"{name}.log").read_text()


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


class Storm:
    """Takes jobs away in every way that a cluster knows, until there were enough of them."""

    def __init__(self, bed: LocalCluster, real: Real, draws: random.Random) -> None:
        self._bed, self._real, self._draws = bed, real, draws
        self._away: dict[str, float] = {}  # nodes whose slurmd was killed, and when it comes back
        self.blows: list[str] = []

    def until_complete(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._real.complete():
            assert time.monotonic() < end, self._real.told()
            time.sleep(self._draws.uniform(2.0, 6.0))
            self._bring_back()
            self._blow()
        self._bring_back(everything=True)

    @property
    def interruptions(self) -> int:
        """How many starts of stages there were beside the first of each."""
        logs = [self._real.log(run.name) for run in runs_of(self._real.folder)]
        return sum(log.count("\n>>> ") - 1 for log in logs)

    def _blow(self) -> None:
        running = [row for row in self._real.rows().values() if row.state is State.RUNNING and row.job]
        kinds = [self.preempt, self.preempt, self.requeue, self.kill_node, self.restart_controller]
        kind = self._draws.choices(kinds, weights=(4, 4, 3, 1, 1))[0]
        at_work = [row for row in running if row.step is not None]
        # mostly what has begun its work, or on a slow machine nothing would ever come further
        if at_work or (running and self._draws.random() < 0.2):
            kind(self._draws.choice(at_work or running))

    def preempt(self, row: Row) -> None:
        self.blows.append("preemption")
        subprocess.run(
            ["sbatch", "-p", "high", "-o", "/dev/null", "--wrap", f"sleep {self._draws.uniform(0.5, 2):.1f}"],
            capture_output=True, check=False,
        )  # fmt: skip

    def requeue(self, row: Row) -> None:
        self.blows.append("requeue")
        subprocess.run(["scontrol", "requeue", job_of(row)], capture_output=True, check=False)

    def kill_node(self, row: Row) -> None:
        if self._away:
            return
        self.blows.append("node")
        name = self._draws.choice(self._bed.names)
        self._bed.kill(f"slurmd-{name}")
        self._away[name] = time.monotonic() + 25

    def restart_controller(self, row: Row) -> None:
        self.blows.append("controller")
        # killed, it would forget its last seconds: start jobs twice, and drain the nodes for that
        self._bed.end_controller()
        time.sleep(self._draws.uniform(0.0, 3.0))
        self._bed.start_controller()
        until(lambda: subprocess.run(["squeue"], capture_output=True, check=False).returncode == 0)

    def _bring_back(self, everything: bool = False) -> None:
        for name in [name for name, due in self._away.items() if everything or time.monotonic() > due]:
            self._bed.start_node(name)
            del self._away[name]


@LONG_ONLY
@pytest.mark.timeout(3000)
@pytest.mark.parametrize(
    "cluster", [{"cpus": 1}, {"cpus": 1, "user_signal": False}], indirect=True, ids=["USR2", "TERM"]
)
def test_a_study_in_a_storm_ends_as_the_undisturbed_one(
    cluster: LocalCluster, tmp_path: Path, undisturbed: Callable[..., Real], request: pytest.FixtureRequest
) -> None:
    # long enough for the storm to hit it often, on a fast machine too
    longer = ("budget.max_steps=300", "budget.ssl_epochs=1000", "pretrain.knn_every=500")
    steps = ("study.methods=[moco,supervised]", "log_every=1", *longer)
    calm = undisturbed(*steps)
    stormy = Real(tmp_path / "storm", *steps)
    stormy.send()
    storm = Storm(cluster, stormy, random.Random(request.node.name))
    storm.until_complete(2400)
    print(f"{len(storm.blows)} blows, {storm.interruptions} interruptions: {storm.blows}")
    assert storm.interruptions >= INTERRUPTIONS
    assert stormy.results() == calm.results()
    assert (stormy.root / "reports/demo/report.pdf").stat().st_size > 10_000


ONE = ("study.methods=[moco]", "log_every=1")
SOME = (*ONE, "budget.max_steps=200", "budget.ssl_epochs=1000", "pretrain.knn_every=500")  # half a minute


def wait_for_step(real: Real, name: str, step: int, seconds: float = 120) -> None:
    run = RunDirectory(real.folder / name)
    until(lambda: (run.status() or {}).get("step", -1) >= step or run.complete, seconds, real.told)


@LONG_ONLY
@pytest.mark.timeout(1500)
def test_a_time_limit_shorter_than_the_work_is_no_obstacle(cluster: LocalCluster, tmp_path: Path) -> None:
    """SLURM's shortest limit is a minute. The signal comes when 12 seconds of it are left, or up to half a minute
    sooner, since SLURM looks at the clock only now and then."""
    longer = (*ONE, "budget.max_steps=4000", "budget.ssl_epochs=1000", "pretrain.knn_every=500")
    calm, limited = Real(tmp_path / "calm", *longer), Real(tmp_path / "limited", *longer, minutes=1, signal_seconds=12)
    limited.send()
    until(limited.complete, 1200, limited.told)
    assert limited.log("pretrain-moco-s0").count("<<< requeued") >= 5
    calm.jobs("study", "demo")
    assert limited.results() == calm.results()


@LONG_ONLY
@pytest.mark.timeout(600)
def test_after_a_nodes_failure_the_old_copy_stops_and_the_new_one_goes_on(
    cluster: LocalCluster, tmp_path: Path, undisturbed: Callable[..., Real]
) -> None:
    real = Real(tmp_path / "real", *SOME)
    real.send()
    name = "pretrain-moco-s0"
    wait_for_step(real, name, 5)
    node = slurm("squeue", "-h", "-j", job_of(real.rows()[name]), "-o", "%N").strip()
    frozen = processes_of(cluster, job_of(real.rows()[name]))
    for pid in frozen:  # a machine that hangs, and comes back when nobody expects it any more
        os.kill(pid, signal.SIGSTOP)
    cluster.kill(f"slurmd-{node}")
    until(lambda: real.log(name).count("<<< job ") == 2, 120, real.told)
    wait_for_step(real, name, 20)
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    until(lambda: "a later start of this job has taken over" in real.log(name), 60, lambda: real.log(name))
    assert "was taken over by" in real.log(name)
    cluster.start_node(node)
    # SLURM may take the old copy's end for that of the later start, and then what depends on the run is blocked
    until(lambda: not any(row.state in UNDER_WAY for row in real.rows().values()), 200, real.told)
    if not real.complete():
        real.send()
    until(real.complete, 200, real.told)
    assert real.results() == undisturbed(*SOME).results()


def processes_of(cluster: LocalCluster, job: str) -> list[int]:
    """What runs on a node for one job: SLURM's own steps, the starter, the trainer."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            step = (folder / "cmdline").read_bytes().startswith(f"slurmstepd: [{job}.".encode())
        except OSError:
            continue
        if step or {f"SLURM_CONF={cluster.conf}".encode(), f"SLURM_JOB_ID={job}".encode()} <= set(environment):
            found.append(int(folder.name))
    return found


@LONG_ONLY
@pytest.mark.timeout(600)
def test_a_controller_that_is_away_when_a_job_wants_to_be_requeued_is_waited_for(
    cluster: LocalCluster, tmp_path: Path, undisturbed: Callable[..., Real]
) -> None:
    real = Real(tmp_path / "real", *SOME)
    real.send()
    name = "pretrain-moco-s0"
    wait_for_step(real, name, 5)
    slurm("scancel", "--signal=USR2", job_of(real.rows()[name]))
    cluster.kill("slurmctld")
    until(lambda: "ontact" in real.log(name), 60, lambda: real.log(name))
    cluster.start_controller()
    until(real.complete, 240, real.told)
    assert "<<< requeued" in real.log(name)
    assert real.results() == undisturbed(*SOME).results()


@LONG_ONLY
@pytest.mark.timeout(600)
@pytest.mark.parametrize("cluster", [{"cpus": 1}], indirect=True)
@pytest.mark.parametrize("victim", ["the trainer", "its starter"])
def test_the_death_of_one_rank_requeues_the_whole_job(cluster: LocalCluster, tmp_path: Path, victim: str) -> None:
    steps = (*ONE, "budget.max_steps=120", "budget.ssl_epochs=1000", "pretrain.knn_every=500", "precision=float32")
    calm, real = Real(tmp_path / "calm", *steps, nodes=2), Real(tmp_path / "real", *steps, nodes=2)
    calm.send()
    until(calm.complete, 240, calm.told)
    real.send()
    name = "pretrain-moco-s0"
    wait_for_step(real, name, 20)
    kill_rank_one(real.folder / name, victim)
    until(real.complete, 240, real.told)
    assert "start 2" in real.log(name)
    assert "start 2" not in calm.log(name)
    assert real.results() == calm.results()
    assert real.rows()["probe-moco-s0"].state is State.COMPLETE


def kill_rank_one(run_dir: Path, victim: str) -> None:
    """kill −9 of the second node's process; both are children of this host, and each knows its rank."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            line = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        trainer = b"ssl_pkg" in line and str(run_dir).encode() in line
        starter = (
            b"submitit.core._submit" in line and run_dir.parent.as_posix().encode() in line and b"srun" not in line
        )
        if b"SLURM_PROCID=1" in environment and (trainer if victim == "the trainer" else starter):
            os.kill(int(folder.name), signal.SIGKILL)
            return
    raise AssertionError("rank 1 is not there")


def test_the_login_node_needs_no_torch(cluster: LocalCluster, tmp_path: Path) -> None:
    """What submits, shows and cancels works where torch can't be imported."""
    without = tmp_path / "without"
    without.mkdir()
    (without / "torch.py").write_text("raise ImportError('there is no torch on this login node')\n")
    code = "import runpy, sys; sys.argv[0] = 'jobs'; runpy.run_module('jobs', run_name='__main__')"
    environment = os.environ | {"PYTHONPATH": str(without)}
    runs = ["--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports")]
    real = Real(tmp_path / "real")
    for line in (
        ["submit", "demo", "--cluster", str(real.profile), *runs, *TINY],
        ["status", "demo", *runs[:2]],
        ["cancel", "demo", *runs[:2]],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *line], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_five_hundred_jobs_are_sent_within_two_minutes_and_shown_within_two_seconds(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    real = Real(tmp_path / "real", seeds=" ".join(map(str, range(14))))
    began = time.monotonic()
    real.send()
    sent = time.monotonic() - began
    began = time.monotonic()
    status = subprocess.run(
        [sys.executable, "-m", "jobs", "status", "demo", "--runs", str(tmp_path / "real/runs"), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    shown = time.monotonic() - began
    runs = json.loads(status.stdout)["runs"]
    print(f"{len(runs)} jobs: sent in {sent:.1f} s, shown in {shown:.2f} s")
    assert len(runs) > 490
    assert sent < 120 and shown < 2
