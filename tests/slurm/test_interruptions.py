"""Real training on a real SLURM that interrupts its jobs: every run ends like the undisturbed one."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from studies import LONG_ONLY, OnCluster, Real, job_of, slurm, until, wait_for_step

from jobs.cluster.outcomes import ACTIVE
from jobs.ledger import State
from slurm.testbed import LocalCluster
from ssl_pkg.run.directory import RunDirectory

ONE = ("study.methods=[moco]", "log_every=1")
SOME_STEPS = 200  # take half a minute
SOME = (*ONE, f"budget.max_steps={SOME_STEPS}", "budget.ssl_epochs=1000", "pretrain.knn_every=500")


@LONG_ONLY
@pytest.mark.timeout(2400)
def test_a_run_that_is_longer_than_the_time_limit_completes(
    cluster: LocalCluster, tmp_path: Path, undisturbed: Callable[..., Real]
) -> None:
    """SLURM's shortest limit is one minute. The signal comes 12 s before the limit, or up to 30 s earlier, because
    SLURM checks the time at intervals."""
    measured = RunDirectory(undisturbed(*SOME).folder / "pretrain-moco-s0").result() or {}
    five_minutes = round(300 * SOME_STEPS / measured["seconds"])
    longer = (*ONE, f"budget.max_steps={five_minutes}", "budget.ssl_epochs=10000", "pretrain.knn_every=5000")
    undisturbed_study, limited = (
        Real(tmp_path / "undisturbed_study", *longer),
        Real(tmp_path / "limited", *longer, minutes=1, signal_seconds=12),
    )
    limited.submit()
    until(limited.complete, 1500, limited.describe)
    assert limited.log("pretrain-moco-s0").count("<<< requeued") >= 5
    assert len(set(limited.resumed_from("pretrain-moco-s0"))) >= 5
    undisturbed_study.jobs("study", "demo")
    assert limited.results() == undisturbed_study.results()


@LONG_ONLY
@pytest.mark.timeout(1800)
def test_after_a_node_failure_the_old_process_stops_and_the_new_one_resumes(
    cluster: LocalCluster, tmp_path: Path, undisturbed: Callable[..., Real]
) -> None:
    real = Real(tmp_path / "real", *SOME)
    real.submit()
    name = "pretrain-moco-s0"
    wait_for_step(real, name, 5)
    node = slurm("squeue", "-h", "-j", job_of(real.rows()[name]), "-o", "%N").strip()
    frozen = processes_of(cluster, job_of(real.rows()[name]))
    for pid in frozen:  # a machine that hangs, and returns later
        os.kill(pid, signal.SIGSTOP)
    cluster.kill(f"slurmd-{node}")
    until(lambda: real.log(name).count("<<< job ") == 2, 120, real.describe)
    wait_for_step(real, name, 20)
    for pid in frozen:
        os.kill(pid, signal.SIGCONT)
    until(lambda: "a later start of this job has taken over" in real.log(name), 60, lambda: real.log(name))
    assert "was taken over by" in real.log(name)
    cluster.start_node(node)
    # SLURM may take the end of the old process for that of the later start, and block the dependent jobs
    until(lambda: not any(row.state in ACTIVE for row in real.rows().values()), 600, real.describe)
    if not real.complete():
        real.submit()
    until(real.complete, 600, real.describe)
    assert real.results() == undisturbed(*SOME).results()


@pytest.mark.parametrize("cluster", [{"cpus": 1, "nodes": 1}], indirect=True)
def test_a_stage_on_a_failed_node_stops_with_a_checkpoint_before_the_node_returns(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    """Otherwise SLURM would end the job's next start with it, because both have the same id."""
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
    """The processes of one job on a node: slurmstepd, the supervisor, the trainer."""
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
def test_a_requeue_waits_for_a_controller_that_does_not_respond(
    cluster: LocalCluster, tmp_path: Path, undisturbed: Callable[..., Real]
) -> None:
    real = Real(tmp_path / "real", *SOME)
    real.submit()
    name = "pretrain-moco-s0"
    wait_for_step(real, name, 5)
    job = processes_of(cluster, job_of(real.rows()[name]))
    cluster.kill("slurmctld")
    (supervisor,) = (pid for pid in job if b"submitit.core._submit" in line_of(pid) and b"srun" not in line_of(pid))
    os.kill(supervisor, signal.SIGUSR2)  # from SLURM it could be lost with the controller
    until(lambda: "ontact" in real.log(name), 60, lambda: real.log(name))
    cluster.start_controller()
    until(real.complete, 600, real.describe)
    assert "<<< requeued" in real.log(name)
    assert max(real.resumed_from(name)) >= 5
    assert real.results() == undisturbed(*SOME).results()


def line_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@LONG_ONLY
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("cluster", [{"cpus": 1}], indirect=True)
@pytest.mark.parametrize("victim", ["the trainer", "its supervisor"])
def test_the_death_of_one_rank_requeues_the_whole_job(cluster: LocalCluster, tmp_path: Path, victim: str) -> None:
    steps = (*ONE, "budget.max_steps=120", "budget.ssl_epochs=1000", "pretrain.knn_every=500", "precision=float32")
    undisturbed_study, real = (
        Real(tmp_path / "undisturbed_study", *steps, nodes=2),
        Real(tmp_path / "real", *steps, nodes=2),
    )
    undisturbed_study.submit()
    until(undisturbed_study.complete, 600, undisturbed_study.describe)
    real.submit()
    name = "pretrain-moco-s0"
    wait_for_step(real, name, 20)
    kill_rank_one(real.folder / name, victim)
    until(real.complete, 600, real.describe)
    assert "start 2" in real.log(name)
    assert "start 2" not in undisturbed_study.log(name)
    assert real.results() == undisturbed_study.results()
    assert real.rows()["probe-moco-s0"].state is State.COMPLETE


def kill_rank_one(run_dir: Path, victim: str) -> None:
    """Kills the process of rank 1 with SIGKILL. The environment shows the rank, because all nodes are this host."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            environment = (folder / "environ").read_bytes().split(b"\0")
            line = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        trainer = b"ssl_pkg" in line and str(run_dir).encode() in line
        supervisor = (
            b"submitit.core._submit" in line and run_dir.parent.as_posix().encode() in line and b"srun" not in line
        )
        if b"SLURM_PROCID=1" in environment and (trainer if victim == "the trainer" else supervisor):
            os.kill(int(folder.name), signal.SIGKILL)
            return
    raise AssertionError("rank 1 is not there")
