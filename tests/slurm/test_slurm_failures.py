"""Failures between a study and its cluster: lost answers, killed commands, reused job ids, wrong profiles."""

import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from studies import OnCluster, job_of, slurm, until

from jobs.__main__ import main
from jobs.cluster.profile import Profile
from jobs.cluster.profile_check import check_profile
from jobs.ledger import State
from jobs.local.slots import Slot
from jobs.local.study import run_study
from jobs.status.display import no_estimate
from slurm.testbed import LocalCluster
from ssl_pkg.errors import BadInput

Make = Callable[..., OnCluster]


def running(small: OnCluster, *names: str) -> bool:
    return all((small.folder / name / "status").exists() for name in names)


def in_queue() -> list[str]:
    return slurm("squeue", "-h", "-r", "-o", "%i").split()


def test_the_last_task_of_an_array_is_requeued_without_the_others(study: Make) -> None:
    """SLURM_JOB_ID of the last task is the id of the whole array, by which SLURM would requeue all tasks."""
    small = study(seeds=(0, 1), wait=20.0)
    small.submit()
    first, last = "pretrain-simclr-s0", "pretrain-simclr-s1"
    until(lambda: running(small, first, last), 60, lambda: str(small.rows()))
    assert job_of(small.rows()[last]).endswith("_1")
    slurm("scancel", "--signal=USR2", job_of(small.rows()[last]))
    until((small.folder / last / "result.json").exists, 120, lambda: small.log(last))
    assert small.log(last).count("<<< requeued") == 1
    assert ", start 2," in small.log(last)
    assert ", start 2," not in small.log(first)


def test_a_job_that_slurm_accepted_without_an_answer_is_not_submitted_twice(
    study: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller stops before it answers, so that its list of jobs can't be queried."""
    small = study(wait=5.0)
    silent, deaf = tmp_path / "bin" / "sbatch", tmp_path / "bin" / "squeue"
    silent.parent.mkdir()
    silent.write_text(f'#!/bin/sh\n{shutil.which("sbatch")} "$@" >/dev/null\necho Socket timed out >&2\nexit 1\n')
    deaf.write_text("#!/bin/sh\necho Unable to contact slurm controller >&2\nexit 1\n")
    for command in (silent, deaf):
        command.chmod(0o755)
    with monkeypatch.context() as changed:
        changed.setenv("PATH", f"{silent.parent}:{os.environ['PATH']}")
        with pytest.raises(BadInput, match=r"SLURM does not respond.*run the same command"):
            small.submit()
    assert len(in_queue()) == 1
    assert [row.job for row in small.rows().values() if row.job] == in_queue(), "status finds it by its token"
    small.submit()
    assert len(in_queue()) == len(small.jobs)
    small.until_complete()


def forget_numbers(small: OnCluster) -> None:
    """Makes the batch files look as after a `submit` that was killed while sbatch ran."""
    for file in (small.folder / ".jobs/slurm").glob("*.json"):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"number": None}))


def test_the_jobs_of_a_killed_submit_are_cancelled_and_submitted_again(study: Make) -> None:
    small = study(wait=3.0)
    small.submit()
    until(lambda: running(small, "pretrain-simclr-s0"))
    before = in_queue()
    forget_numbers(small)
    assert sorted(small.submit().submitted) == sorted(job.name for job in small.jobs)
    assert not set(before).intersection(in_queue())
    small.until_complete(180)


def test_cancel_finds_the_jobs_of_a_killed_submit(study: Make, capsys: pytest.CaptureFixture[str]) -> None:
    small = study(wait=30.0)
    small.submit()
    forget_numbers(small)
    assert main(["cancel", "small", "--runs", str(small.root)]) == 0
    assert f"{len(small.jobs)} jobs of study small are cancelled" in capsys.readouterr().out
    until(lambda: not in_queue())


def test_jobs_of_another_study_with_the_same_ids_are_not_touched(study: Make) -> None:
    small = study(wait=3.0)
    small.submit()
    other = small.root / "other"
    shutil.copytree(small.folder / ".jobs", other / ".jobs")
    for file in (other / ".jobs/slurm").glob("*.json"):  # as if submitted before SLURM's state was lost
        file.with_name("before.json").write_text(json.dumps(json.loads(file.read_text()) | {"token": "before"}))
        file.unlink()
    assert main(["cancel", "other", "--runs", str(small.root)]) == 0
    small.until_complete()


def test_runs_that_are_submitted_right_after_cancel_resume(study: Make) -> None:
    small = study(wait=20.0)
    small.submit()
    name = "pretrain-simclr-s0"
    until(lambda: running(small, name))
    assert main(["cancel", "small", "--runs", str(small.root)]) == 0
    again = small.submit()
    assert sorted(again.submitted) == sorted(job.name for job in small.jobs)
    until((small.folder / name / "result.json").exists, 120, lambda: str(small.rows()))
    assert json.loads((small.folder / name / "child.json").read_text())["resumed"]


def test_a_job_does_not_depend_on_a_job_that_slurm_has_forgotten(study: Make) -> None:
    small = study()
    small.submit()
    small.until_complete()
    for file in (small.folder / ".jobs/slurm").glob("*.json"):
        content = json.loads(file.read_text())
        file.write_text(json.dumps(content | {"number": str(int(content["number"]) + 100_000)}))
    shutil.rmtree(small.folder / "ood-simclr-probe-s0")
    assert small.submit().submitted == ["ood-simclr-probe-s0", "report"]
    small.until_complete()


def test_a_job_does_not_depend_on_runs_that_were_completed_on_this_machine(study: Make) -> None:
    small = study()
    made = ("finetune-random-s0", "ood-supervised-s0", "embed-supervised-s0")
    for name in made:
        (small.folder / name).mkdir(parents=True)
        (small.folder / name / "result.json").write_text('{"seconds": 1}')
    summary = small.submit()
    assert (sorted(summary.complete), len(summary.submitted)) == (sorted(made), len(small.jobs) - len(made))
    small.until_complete()


def test_queued_runs_with_other_settings_are_an_error(study: Make) -> None:
    study(wait=20.0).submit()
    with pytest.raises(BadInput, match=r"is in the queue with other settings \(there: wait=20.0; now: wait=5.0\)"):
        study(wait=5.0).submit()


def test_a_study_in_the_queue_of_another_cluster_is_an_error(study: Make, tmp_path: Path) -> None:
    small = study(wait=20.0)
    small.submit()
    with pytest.MonkeyPatch.context() as changed:
        changed.setenv("SLURM_CONF", str(tmp_path / "elsewhere.conf"))
        with pytest.raises(BadInput, match="is in the queue of another cluster, test"):
            small.submit()


def test_a_users_filters_and_the_options_of_an_outer_job_have_no_effect(
    study: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = {"SLURM_ARRAY_JOB_ID": "999", "SLURM_ARRAY_TASK_ID": "3", "SLURM_RESTART_COUNT": "5"}
    for name, value in {"SQUEUE_PARTITION": "high", "SBATCH_PARTITION": "high", **outside}.items():
        monkeypatch.setenv(name, value)
    small = study(wait=3.0)
    small.submit()
    until(lambda: running(small, "pretrain-simclr-s0"))
    assert small.submit().submitted == []
    assert ", start 1," in small.log("pretrain-simclr-s0")


def test_a_job_in_the_state_special_exit_is_not_submitted_again(study: Make) -> None:
    small = study(wait=20.0)
    small.submit()
    name = "pretrain-simclr-s0"
    until(lambda: running(small, name))
    slurm("scontrol", "requeuehold", "State=SpecialExit", job_of(small.rows()[name]))
    assert small.submit().submitted == []
    assert small.rows()[name].state in (State.PENDING, State.RUNNING)


def test_status_says_that_python_does_not_exist(study: Make) -> None:
    small = study(python="/no/such/python")
    small.submit()
    name = "pretrain-simclr-s0"
    until(lambda: small.states()[name] is State.FAILED, 60, lambda: str(small.rows()))
    assert small.rows()[name].note == "/no/such/python can't be started: No such file or directory"


def test_scancel_during_the_grace_time_of_a_preemption_cancels_the_job(study: Make) -> None:
    small = study(wait=30.0)
    small.submit()
    name = "pretrain-simclr-s0"
    until(lambda: running(small, name))
    job = job_of(small.rows()[name])
    slurm("sbatch", "-p", "high", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")
    until(lambda: "PreemptTime=None" not in slurm("scontrol", "-o", "show", "job", job))
    slurm("scancel", job)
    until(lambda: "exit status" in small.log(name), 30, lambda: small.log(name))
    until(lambda: small.rows()[name].state is not State.RUNNING, 30, lambda: str(small.rows()[name]))
    time.sleep(8)  # time for a requeue
    assert small.rows()[name].state in (State.CANCELLED, State.INTERRUPTED)
    assert ", start 2," not in small.log(name)


def test_a_queued_study_is_not_run_on_this_machine(study: Make) -> None:
    small = study(wait=20.0)
    small.submit()
    with pytest.raises(
        BadInput,
        match=r"study small is in a cluster's queue \(finetune-random-.* more of its runs, submitted to test\)",
    ):
        run_study(small.jobs, small.folder, [Slot(1)], resume_command="", estimate=no_estimate)
    assert not (small.folder / ".runner").exists()


@pytest.mark.usefixtures("bed")
def test_the_folder_can_have_any_name(tmp_path: Path) -> None:
    """All characters that a shell, a batch script, Hydra or sbatch may interpret."""
    root = tmp_path / """José's ${seed} "Łódź", (2) [x] {y: 1} #a=b,c $HOME ` 画像 ~ *; !"""
    root.mkdir()
    small = OnCluster(root, sweep=("method.model.temperature=0.1,0.5",))
    small.jobs = small.jobs[:3]
    assert len(small.submit().submitted) == 3
    small.until_complete()
    assert small.submit().submitted == []
    pretrain, probe = (root / "small" / f"{stage}-simclr-s0-temperature=0.1" for stage in ("pretrain", "probe"))
    assert f"source={pretrain}" in json.loads((probe / "child.json").read_text())["arguments"]


FITS = {"partition": "low", "cpus": 1, "memory": {"per_node": 1}, "minutes": 10}


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        ({}, None),
        ({"partition": None}, None),
        ({"partition": "low,high"}, None),
        ({"partition": "low,nowhere"}, "partition: there is no nowhere: the partitions are high, low"),
        ({"cpus": 3, "processes": 2}, "cpus: 3 x 2 processes per node, but the nodes of partition low have at most 2"),
        ({"memory": {"per_node": 900}}, "memory: 900 GB per node, but the nodes of partition low have at most 7"),
        ({"nodes": 3}, "nodes: 3, but partition low has 2"),
        ({"constraint": "a100"}, "sbatch refuses: .*feature"),
        ({"gpus": 1}, "gpus: 1 per node, but the cluster has no GPUs"),
    ],
)
def test_check_finds_errors_with_which_no_job_would_run(
    bed: LocalCluster, wanted: dict[str, object], sentence: str | None
) -> None:
    found = check_profile(Profile.model_validate({"name": "mine", **FITS, **wanted}))
    assert found.notes == [
        "no accounting: sacct does not know how jobs ended, so `ssl-study status` reads it from the runs' logs"
    ]
    if sentence is None:
        assert found.errors == []
    else:
        assert re.match(sentence, found.errors[0]), found.errors


def test_check_says_what_happens_if_all_nodes_are_drained(bed: LocalCluster) -> None:
    nodes = ",".join(bed.names)
    slurm("scontrol", "update", f"NodeName={nodes}", "State=DRAIN", "Reason=maintenance until noon")
    try:
        found = check_profile(Profile(name="mine", partition="low", cpus=1, minutes=10))
        assert found.errors == [] and found.notes[0] == (
            "all 2 nodes of low are drained (maintenance until noon): `ssl-study submit` works, but jobs wait in the "
            "queue until a node is available"
        )
        assert check_profile(Profile(name="mine", partition="low", cpus=1, minutes=10, constraint="a100")).errors
    finally:
        slurm("scontrol", "update", f"NodeName={nodes}", "State=RESUME")
        until(lambda: set(slurm("sinfo", "-h", "-N", "-p", "low", "-o", "%T").split()) == {"idle"})  # they respond


def test_check_ends_with_2_where_no_job_would_run(
    bed: LocalCluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    for partition, status in (("low", 0), ("nowhere", 2)):
        file.write_text(json.dumps(FITS | {"partition": partition}))
        assert main(["profile", str(file), "--check"]) == status
    assert "Errors (no job would run):\n- partition: there is no nowhere" in capsys.readouterr().out


def test_a_refusal_by_sbatch_leaves_no_batch(study: Make) -> None:
    small = study(constraint="a100")
    with pytest.raises(BadInput, match=r"SLURM refuses finetune-random-.*feature"):
        small.submit()
    assert not list((small.folder / ".jobs/slurm").glob("*.json"))
