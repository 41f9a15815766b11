"""How SLURM's commands are called: a stand-in that prints its environment, or that hangs."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.cluster import slurm_cli
from jobs.cluster.slurm_cli import SchedulerUnavailable, run_slurm

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


def test_no_variable_of_the_users_changes_what_slurms_commands_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*OPTIONS, *KEPT[:-1]):
        monkeypatch.setenv(name, "1")
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    seen = json.loads(run_slurm(sys.executable, "-c", code).stdout)
    assert not seen.keys() & set(OPTIONS)
    assert set(KEPT) <= seen.keys()


def stand_in(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_a_command_that_hangs_is_told_and_ended_with_its_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A site's wrapper has a child that keeps the pipes open."""
    stand_in(tmp_path, "squeue", f"echo sleeping and retrying >&2\nsleep 60 &\necho $! >{tmp_path}/child\nwait")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm_cli, "_NOTICE_SECONDS", 0.5)
    monkeypatch.setattr(slurm_cli, "_TIMEOUT_SECONDS", 1.0)
    began = time.monotonic()
    with pytest.raises(SchedulerUnavailable, match="squeue gave no answer within 1 s: sleeping and retrying"):
        run_slurm("squeue", "-h")
    assert time.monotonic() - began < 5
    assert capfd.readouterr().err == "squeue has not answered for 0 s; waiting up to 1 s\n"
    state = subprocess.run(
        ["ps", "-o", "stat=", "-p", (tmp_path / "child").read_text()], capture_output=True, text=True, check=False
    )
    assert state.stdout.strip() in ("", "Z")


def test_a_command_that_answers_late_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stand_in(tmp_path, "squeue", "echo before\nsleep 1\necho after")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(slurm_cli, "_NOTICE_SECONDS", 0.2)
    assert run_slurm("squeue").stdout == "before\nafter\n"
    assert "squeue has not answered" in capfd.readouterr().err


WIDTHS = (30, 20, 40, 10, 30, 200, 1024, 1024)


def row(job: str, state: str, token: str) -> str:
    cells = (job, state, "None", "0", "N/A", token, f"/runs/{token}/log", f"/runs/{token}/batch.sh")
    return "".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True))


@pytest.mark.parametrize(
    "filters",
    ["cut -c1-80", "cut -c1-120 | sed 's/$/.../'", "head -1", "true", "tr -s ' '", "tail -n +2 | sed 's/^/x/'"],
)
def test_a_job_that_squeue_does_not_show_is_not_taken_for_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filters: str
) -> None:
    (tmp_path / "rows").write_text(f"{row('6', 'RUNNING', 'others')}\n{row('7', 'RUNNING', 'aaa')}\n")
    stand_in(tmp_path, "squeue", f"cat {tmp_path}/rows | {filters}")
    stand_in(tmp_path, "scontrol", "echo JobId=7 JobState=RUNNING Reason=None Restarts=2 StartTime=Unknown Comment=aaa")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert slurm_cli.query_jobs({"7": "aaa"}) == {"7": slurm_cli.SlurmJobInfo("RUNNING", "", 2)}
    stand_in(tmp_path, "scontrol", "echo Unable to contact slurm controller >&2; exit 1")
    with pytest.raises(SchedulerUnavailable, match="Unable to contact"):
        slurm_cli.query_jobs({"7": "aaa"})


def test_lines_that_are_no_jobs_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    banner = f"{'Welcome. ' * 10} Please be quick; this is squeue, and 12 jobs are yours"
    (tmp_path / "rows").write_text(f"{banner}\nJOBID STATE\n{row('7_1', 'RUNNING', 'aaa')}\n")
    stand_in(tmp_path, "squeue", f"cat {tmp_path}/rows")
    stand_in(
        tmp_path, "scontrol", 'case $4 in 8) echo "JobState=FAILED Reason=None Comment=bbb";; esac; echo not found'
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = slurm_cli.query_jobs({"7_1": "aaa", "7_0": "aaa", "8": "bbb", "9": "ccc"})
    assert {name: seen.state for name, seen in found.items()} == {"7_1": "RUNNING", "8": "FAILED"}


def test_a_job_is_found_by_the_number_that_sbatch_printed_where_squeue_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_in(tmp_path, "squeue", "true")
    stand_in(tmp_path, "sacct", "exit 1")
    stand_in(
        tmp_path,
        "scontrol",
        'case $4 in 18) echo "JobState=PENDING Command=/runs/aaa/batch.sh";; *) echo not found;; esac',
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert slurm_cli.find_jobs(["aaa"], "job 17 of 20\n18") == {"aaa": "18"}
