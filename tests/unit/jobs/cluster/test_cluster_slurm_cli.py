"""How SLURM's commands are run: scripts in their place print the environment, or hang."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from nodes import write_command

from jobs.cluster import slurm_cli
from jobs.cluster.slurm_cli import SchedulerUnavailable, SlurmMissing, job_fields, run_slurm

OPTIONS = (
    "SACCT_FEDERATION", "SACCT_LOCAL", "SALLOC_PARTITION", "SBATCH_ARRAY_INX", "SBATCH_CLUSTERS", "SBATCH_EXPORT",
    "SBATCH_JOB_NAME", "SBATCH_MEM_PER_CPU", "SBATCH_NO_REQUEUE", "SBATCH_OPEN_MODE", "SBATCH_PARTITION",
    "SBATCH_SIGNAL", "SBATCH_TIMELIMIT", "SBATCH_WAIT", "SCANCEL_INTERACTIVE", "SCANCEL_PARTITION", "SCANCEL_STATE",
    "SCONTROL_ALL", "SINFO_FORMAT", "SINFO_PARTITION", "SLURM_ARRAY_TASK_ID", "SLURM_BITSTR_LEN", "SLURM_CLUSTERS",
    "SLURM_EXPORT_ENV", "SLURM_JOB_ID", "SLURM_TIME_FORMAT", "SQUEUE_ACCOUNT", "SQUEUE_ALL", "SQUEUE_ARRAY",
    "SQUEUE_FORMAT", "SQUEUE_FORMAT2", "SQUEUE_PARTITION", "SQUEUE_SORT", "SQUEUE_STATES", "SQUEUE_USERS",
    "SRUN_CPUS_PER_TASK", "SUBMITIT_EXECUTOR", "RANK", "WORLD_SIZE", "MASTER_ADDR",
)  # fmt: skip
KEPT = ("SLURM_JWT", "SLURM_CONF_SERVER", "USERS_OWN", "PATH")


def test_environment_variables_do_not_change_the_options_of_slurms_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*OPTIONS, *KEPT[:-1]):
        monkeypatch.setenv(name, "1")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    environment = json.loads(run_slurm(sys.executable, "-c", code).stdout)
    assert not environment.keys() & set(OPTIONS)
    assert set(KEPT) <= environment.keys()


def test_a_comment_that_repeats_a_field_does_not_change_it() -> None:
    text = "JobId=7 JobState=RUNNING Reason=None StdErr= Comment=note JobState=FAILED Reason=TimeLimit"
    assert job_fields(text) == {
        "JobId": "7", "JobState": "RUNNING", "Reason": "None", "StdErr": "", "Comment": "note"
    }  # fmt: skip


@pytest.mark.slow
def test_a_command_that_hangs_is_reported_and_killed_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The command is a site's wrapper with a child that keeps the pipes open."""
    write_command(tmp_path, "squeue", f"echo sleeping and retrying >&2\nsleep 60 &\necho $! >{tmp_path}/child\nwait")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm_cli, "_NOTICE_SECONDS", 0.5)
    monkeypatch.setattr(slurm_cli, "_TIMEOUT_SECONDS", 1.0)
    began = time.monotonic()
    with pytest.raises(SchedulerUnavailable, match="squeue did not answer within 1 s: sleeping and retrying"):
        run_slurm("squeue", "-h")
    assert time.monotonic() - began < 5
    assert capfd.readouterr().err == "squeue has not answered for 0 s; waiting up to 1 s\n"
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", (tmp_path / "child").read_text()], capture_output=True, text=True, check=False
    )
    assert state.stdout.strip() in ("", "Z")


@pytest.mark.slow
def test_the_output_of_a_slow_command_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_command(tmp_path, "squeue", "echo before\nsleep 1\necho after")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm_cli, "_NOTICE_SECONDS", 0.2)
    assert run_slurm("squeue").stdout == "before\nafter\n"
    assert "squeue has not answered" in capfd.readouterr().err


def test_the_error_says_that_slurm_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("SLURM_CONF", raising=False)
    with pytest.raises(SlurmMissing) as error:
        run_slurm("squeue")
    assert error.value.explain("wait").startswith("SLURM is not available on this machine (squeue not found): use a")
