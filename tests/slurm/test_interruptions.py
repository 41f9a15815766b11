"""Real training on a real SLURM that takes its jobs away: every run ends as the one that nobody disturbed."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from studies import LONG_ONLY, OnCluster, Real, job_of, slurm, until, wait_for_step

from jobs.ledger import State
from jobs.status.watch import ACTIVE
from slurm.testbed import LocalCluster
from ssl_pkg.run.directory import RunDirectory

ONE = ("study.methods=[moco]", "log_every=1")
SOME_STEPS = 200  # half a minute
SOME = (*ONE, f"budget.max_steps={SOME_STEPS}", "budget.ssl_epochs=1000", "pretrain.knn_every=500")


@LONG_ONLY
@pytest.mark.timeout(2400)
def test_a_time_limit_shorter_than_the_work_is_no_obstacle(
    cluster: LocalCluster, tmp_path: Path, undisturbed: Callable[..., Real]
) -> None:
    """SLURM's shortest limit is a minute. The signal comes when 12 seconds of it are left, or up to half a minute
    sooner, since SLURM looks at the clock only now and then."""
    measured = RunDirectory(undisturbed(*SOME).folder / "pretrain-moco-s0").result() or {}
    five_minutes = round(300 * SOME_STEPS / measured["seconds"])
    longer = (*ONE, f"budget.max_steps={five_minutes}", "budget.ssl_epochs=10000", "pretrain.knn_every=5000")
    calm, limited = Real(tmp_path / "calm", *longer), Real(tmp_path / "limited", *longer, minutes=1, signal_seconds=12)
    limited.submit()
    until(limited.complete, 1500, limited.told)
    assert limited.log("pretrain-moco-s0").count("<<< requeued") >= 5
    assert len(set(limited.gone_on_from("pretrain-moco-s0"))) >= 5
    calm.jobs("study", "demo")
    assert limited.results() == calm.results()


@LONG_ONLY
@pytest.mark.timeout(1800)
def test_after_a_nodes_failure_the_old_copy_stops_and_the_new_one_goes_on(
    cluster: LocalCluster, tmp_path: Path, undisturbed: Callable[..., Real]
) -> None:
    real = Real(tmp_path / "real", *SOME)
    real.submit()
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
    until(lambda: not any(row.state in ACTIVE for row in real.rows().values()), 600, real.told)
    if not real.complete():
        real.submit()
    until(real.complete, 600, real.told)
    assert real.results() == undisturbed(*SOME).results()


@pytest.mark.parametrize("cluster", [{"cpus": 1, "nodes": 1}], indirect=True)
def test_what_a_failed_node_has_kept_stops_with_a_checkpoint_before_the_node_is_back(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    """Or SLURM would end the job's next start with it, by their common number."""
    small = OnCluster(tmp_path / "study", wait=600.0)
    small.submit()
    until(lambda: list(small.folder.glob("*/status")), 60, lambda: str(small.rows()))
    (status,) = small.folder.glob("*/status")
    name, first = status.parent.name, job_of(small.rows()[status.parent.name])
    cluster.kill(f"slurmd-{cluster.names[0]}")
    until((small.folder / name / "checkpoint").exists, 90, lambda: small.log(name))
    until(lambda: "a later start of this job has taken over" in small.log(name), 30, lambda: small.log(name))
    until(lambda: processes_of(cluster, first) == [], 30)


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
@pytest.mark.timeout(1800)
def test_a_controller_that_is_away_when_a_job_wants_to_be_requeued_is_waited_for(
    cluster: LocalCluster, tmp_path: Path, undisturbed: Callable[..., Real]
) -> None:
    real = Real(tmp_path / "real", *SOME)
    real.submit()
    name = "pretrain-moco-s0"
    wait_for_step(real, name, 5)
    job = processes_of(cluster, job_of(real.rows()[name]))
    cluster.kill("slurmctld")
    (starter,) = (pid for pid in job if b"submitit.core._submit" in line_of(pid) and b"srun" not in line_of(pid))
    os.kill(starter, signal.SIGUSR2)  # by SLURM's own hand it could be lost with the controller
    until(lambda: "ontact" in real.log(name), 60, lambda: real.log(name))
    cluster.start_controller()
    until(real.complete, 600, real.told)
    assert "<<< requeued" in real.log(name)
    assert max(real.gone_on_from(name)) >= 5
    assert real.results() == undisturbed(*SOME).results()


def line_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@LONG_ONLY
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("cluster", [{"cpus": 1}], indirect=True)
@pytest.mark.parametrize("victim", ["the trainer", "its starter"])
def test_the_death_of_one_rank_requeues_the_whole_job(cluster: LocalCluster, tmp_path: Path, victim: str) -> None:
    steps = (*ONE, "budget.max_steps=120", "budget.ssl_epochs=1000", "pretrain.knn_every=500", "precision=float32")
    calm, real = Real(tmp_path / "calm", *steps, nodes=2), Real(tmp_path / "real", *steps, nodes=2)
    calm.submit()
    until(calm.complete, 600, calm.told)
    real.submit()
    name = "pretrain-moco-s0"
    wait_for_step(real, name, 20)
    kill_rank_one(real.folder / name, victim)
    until(real.complete, 600, real.told)
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
