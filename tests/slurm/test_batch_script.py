"""The batch script around the stage: environment, set-up lines, signals to the whole job."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from studies import OnCluster, job_of, slurm, until

from jobs.__main__ import main
from jobs.cluster.profile import Profile
from jobs.cluster.profile_check import check_profile
from jobs.cluster.queue import cancel_submitted
from jobs.ledger import State
from slurm.testbed import LocalCluster
from ssl_pkg.errors import BadInput

Make = Callable[..., OnCluster]
FIRST, SECOND = "finetune-random-s0", "pretrain-simclr-s0"
STARTS = '[ "${SLURM_RESTART_COUNT:-0}" != 0 ] || '  # before a command of a set-up line for the first start only


def from_random_weights(small: OnCluster) -> OnCluster:
    """Keeps only the study's trainings from random weights."""
    small.jobs = [job for job in small.jobs if job.name.startswith(("pretrain", "finetune-random"))]
    return small


def pretraining(small: OnCluster) -> OnCluster:
    """Submits the study's trainings from random weights."""
    from_random_weights(small).submit()
    return small


def printed(small: OnCluster, name: str) -> str:
    """The output of the batch script of a run's job."""
    number = job_of(small.rows()[name])
    return "".join(file.read_text() for file in (small.folder / ".jobs/slurm").glob(f"*/{number}_0_log.*"))


def working(small: OnCluster, name: str) -> bool:
    return (small.folder / name / "status").exists()


def resumed(small: OnCluster, name: str) -> bool:
    return bool(json.loads((small.folder / name / "child.json").read_text())["resumed"])


def test_a_signal_to_the_whole_job_at_any_time_loses_no_work_and_no_result(
    study: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """srun is slow before the step of one run, and after that of another."""
    slow = tmp_path / "bin" / "srun"
    slow.parent.mkdir()
    slow.write_text(
        "#!/bin/sh\nrun=${SLURM_JOB_NAME%%.*}-$SLURM_ARRAY_TASK_ID-$SLURM_RESTART_COUNT\n"
        f'[ $run != pretrain-simclr-0- ] || {{ touch "{tmp_path}/before"; sleep 3; }}\n{shutil.which("srun")} "$@"\n'
        f'status=$?\n[ $run != pretrain-simclr-1- ] || {{ touch "{tmp_path}/after"; sleep 3; }}\nexit $status\n'
    )
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    small = pretraining(study(seeds=(0, 1), wait=5.0))
    full, batch, starting, ended = (
        f"{name}-s{seed}" for name in ("finetune-random", "pretrain-simclr") for seed in (0, 1)
    )
    until(lambda: working(small, full) and working(small, batch) and (tmp_path / "before").exists())
    slurm("scancel", "--signal=TERM", "--full", job_of(small.rows()[full]))
    slurm("scancel", "--signal=TERM", "--batch", job_of(small.rows()[batch]))
    slurm("scancel", "--signal=TERM", "--full", job_of(small.rows()[starting]))
    until((tmp_path / "after").exists)
    number = job_of(small.rows()[ended])
    slurm("scancel", "--signal=TERM", "--full", number)
    small.until_complete(90)
    for name in (full, batch, starting):
        assert resumed(small, name) or name == starting, small.log(name)
        assert small.log(name).count("<<< requeued") == 1
        assert ", start 2," in small.log(name) and ", start 3," not in small.log(name)
    until(lambda: "JobState=COMPLETED" in slurm("scontrol", "show", "job", number), 20)
    assert ", start 2," not in small.log(ended)


def test_a_signal_to_the_steps_processes_loses_no_work(study: Make) -> None:
    """SLURM sends it to the stage too, not only to its supervisor."""
    small = pretraining(study(wait=20.0))
    until(lambda: working(small, FIRST) and working(small, SECOND))
    slurm("scancel", "--signal=QUIT", job_of(small.rows()[FIRST]))
    slurm("scancel", "--signal=ALRM", job_of(small.rows()[SECOND]))
    small.until_complete(60)
    assert resumed(small, FIRST) and resumed(small, SECOND), small.log(FIRST)


def test_a_signal_during_the_set_up_requeues_the_job_and_scancel_cancels_it(study: Make, tmp_path: Path) -> None:
    line = f'{STARTS}{{ touch "{tmp_path}/$SLURM_JOB_NAME"; sleep 60; }}'
    small = pretraining(study(setup=(line,)))
    until(lambda: all((tmp_path / f"{name}.small").exists() for name in (FIRST, SECOND)), 60)
    first, second = job_of(small.rows()[FIRST]), job_of(small.rows()[SECOND])
    slurm("scancel", "--signal=TERM", "--full", first)
    slurm("scancel", second)
    until(lambda: small.states()[FIRST] is State.COMPLETE, 60, lambda: printed(small, FIRST))
    assert ", start 2," in small.log(FIRST)
    assert small.states()[SECOND] is State.CANCELLED
    assert "Restarts=0" in slurm("scontrol", "show", "job", second)


def test_a_job_that_is_cancelled_while_it_requeues_itself_stays_cancelled_until_it_is_submitted_again(
    study: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM revives a cancelled job that is requeued."""
    slow = tmp_path / "bin" / "scontrol"
    slow.parent.mkdir()
    slow.write_text(
        f'#!/bin/sh\n[ "$1" != requeue ] || {{ touch "{tmp_path}/requeues"; sleep 2; }}\n'
        f'exec {shutil.which("scontrol")} "$@"\n'
    )
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
    small = pretraining(study(wait=5.0))
    until(lambda: working(small, FIRST))
    first = job_of(small.rows()[FIRST])
    slurm("scancel", "--signal=USR2", first)
    until((tmp_path / "requeues").exists)
    assert cancel_submitted(small.folder) == 2
    until(lambda: "<<< cancelled" in small.log(FIRST), 20, lambda: small.log(FIRST))
    until(lambda: "JobState=CANCELLED" in slurm("scontrol", "show", "job", first), 20)
    assert small.states()[FIRST] is State.CANCELLED
    small.submit()
    small.until_complete(30)


@pytest.mark.parametrize("export", ["NONE", "FOO"])
def test_a_job_gets_its_environment_with_export_none_or_a_list(study: Make, export: str) -> None:
    small = pretraining(study(sbatch={"export": export}, setup=("export SET_UP=here",)))
    small.until_complete(60)
    environment = json.loads((small.folder / FIRST / "child.json").read_text())["environment"]
    assert environment["SET_UP"] == "here"
    assert environment["PATH"] and environment["HOME"]
    assert ", start 2," not in small.log(FIRST)


def test_a_job_gets_its_environment_if_the_site_exports_none(
    study: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "bin" / "sbatch"
    site.parent.mkdir()
    site.write_text(f'#!/bin/sh\nexec env SBATCH_EXPORT=NONE {shutil.which("sbatch")} "$@"\n')
    site.chmod(0o755)
    monkeypatch.setenv("PATH", f"{site.parent}:{os.environ['PATH']}")
    small = pretraining(study())
    small.until_complete(60)
    assert "SSL_STAGE_START_FILE" in json.loads((small.folder / FIRST / "child.json").read_text())["environment"]


def test_the_first_set_up_line_that_fails_ends_the_job_and_is_named(
    study: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    small = pretraining(study(setup=("cd /tmp; echo setting up", "module load nothere", "echo not reached")))
    until(lambda: set(small.states().values()) == {State.FAILED}, 60, lambda: str(small.rows()))
    note = small.rows()[FIRST].note or ""
    assert note.startswith(
        "set-up line 2 failed (status 127): module load nothere: module is only defined in login shells"
    )
    assert "/etc/profile.d/modules.sh" in note
    assert not (small.folder / FIRST).exists()
    assert main(["logs", FIRST, "small", "--runs", str(small.root)]) == 0
    logs = capsys.readouterr().out
    assert "setting up" in logs and "set-up line 2 failed" in logs and "not reached" not in logs
    assert "not found" in logs  # the shell's own message, on stderr
    assert "JobState=FAILED" in (shown := slurm("scontrol", "show", "job", job_of(small.rows()[FIRST])))
    assert "Restarts=0" in shown


def test_status_says_that_a_folder_was_moved_while_its_jobs_waited(
    study: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = pretraining(study(sbatch={"hold": True}))
    (tmp_path / "new").mkdir()
    before.folder.rename(tmp_path / "new/small")
    small = from_random_weights(OnCluster(tmp_path / "new"))
    assert small.rows()[FIRST].note == f"will fail, because the study was moved from {before.folder}: cancel it"
    with pytest.raises(BadInput, match=f"is in the queue for {before.folder}, from where this study was moved"):
        small.submit()
    slurm("scontrol", "release", job_of(small.rows()[FIRST]))
    until(lambda: small.states()[FIRST] is State.FAILED, 30, lambda: str(small.rows()))
    note = f"the study was moved from {before.folder} while the job was in the queue: submit it again"
    assert small.rows()[FIRST].note == note
    assert not before.folder.exists()
    assert main(["cancel", "small", "--runs", str(small.root)]) == 0
    assert "1 job of study small is cancelled" in capsys.readouterr().out
    small.submit()
    small.until_complete(60)


def test_status_says_that_a_folder_was_moved_while_a_stage_was_running(study: Make, tmp_path: Path) -> None:
    before = pretraining(study(wait=60.0))
    until(lambda: working(before, FIRST) and working(before, SECOND))
    (tmp_path / "new").mkdir()
    before.folder.rename(tmp_path / "new/small")
    small = OnCluster(tmp_path / "new")
    until(lambda: set(small.states().values()) == {State.FAILED}, 20, lambda: printed(small, FIRST) + small.log(FIRST))
    note = f"the study was moved from {before.folder} while the job was in the queue: submit it again"
    assert small.rows()[FIRST].note == note
    assert "is gone: the study's folder was moved or removed" in printed(small, FIRST)
    assert not before.folder.exists()


def test_check_tries_the_environment_of_a_job_with_export_none(
    bed: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {
        "name": "mine",
        "partition": "low",
        "cpus": 1,
        "memory": {"per_node": 1},
        "minutes": 10,
        "sbatch": {"export": "NONE"},
    }
    found = check_profile(Profile.model_validate(asked))
    assert found.errors == []
    assert found.notes[-1].startswith("export: NONE: jobs get only PATH, LD_LIBRARY_PATH, PYTHONPATH")
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    (stop,) = check_profile(Profile.model_validate(asked)).errors
    assert stop.startswith("/nowhere/python does not start in a job whose environment has only PATH: ")


def test_cancel_in_a_copy_does_not_cancel_the_jobs_of_the_original(
    study: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = pretraining(study(wait=1.0))
    shutil.copytree(small.folder, tmp_path / "copy/small")
    assert main(["cancel", "small", "--runs", str(tmp_path / "copy")]) == 0
    assert "nothing to cancel" in capsys.readouterr().out
    small.until_complete(60)
