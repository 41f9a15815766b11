"""Parsing of squeue, scontrol and sacct, in whose place scripts print rows."""

import os
from pathlib import Path

import pytest
from nodes import write_command

from jobs.cluster.job_queries import SlurmJobInfo, find_jobs, query_jobs
from jobs.cluster.slurm_cli import SchedulerUnavailable

WIDTHS = (30, 20, 40, 10, 30, 200, 1024, 1024)


def row(job: str, state: str, token: str) -> str:
    cells = (job, state, "None", "0", "N/A", token, f"/runs/{token}/log", f"/runs/{token}/batch.sh")
    return "".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=True))


@pytest.mark.parametrize(
    "filters",
    ["cut -c1-80", "cut -c1-120 | sed 's/$/.../'", "head -1", "true", "tr -s ' '", "tail -n +2 | sed 's/^/x/'"],
)
def test_scontrol_is_asked_about_a_job_that_squeue_does_not_show(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, filters: str
) -> None:
    (tmp_path / "rows").write_text(f"{row('6', 'RUNNING', 'others')}\n{row('7', 'RUNNING', 'aaa')}\n")
    write_command(tmp_path, "squeue", f"cat {tmp_path}/rows | {filters}")
    write_command(
        tmp_path, "scontrol", "echo JobId=7 JobState=RUNNING Reason=None Restarts=2 StartTime=Unknown Comment=aaa"
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert query_jobs({"7": "aaa"}) == {"7": SlurmJobInfo("RUNNING", "", 2)}
    write_command(tmp_path, "scontrol", "echo Unable to contact slurm controller >&2; exit 1")
    with pytest.raises(SchedulerUnavailable, match="Unable to contact"):
        query_jobs({"7": "aaa"})


def test_lines_that_are_not_about_jobs_are_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    banner = f"{'Welcome. ' * 10} Please be quick; this is squeue, and 12 jobs are yours"
    (tmp_path / "rows").write_text(f"{banner}\nJOBID STATE\n{row('7_1', 'RUNNING', 'aaa')}\n")
    write_command(tmp_path, "squeue", f"cat {tmp_path}/rows")
    write_command(
        tmp_path, "scontrol", 'case $4 in 8) echo "JobState=FAILED Reason=None Comment=bbb";; esac; echo not found'
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    found = query_jobs({"7_1": "aaa", "7_0": "aaa", "8": "bbb", "9": "ccc"})
    assert {name: info.state for name, info in found.items()} == {"7_1": "RUNNING", "8": "FAILED"}


def test_a_job_is_found_by_the_id_that_sbatch_printed_if_squeue_shows_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_command(tmp_path, "squeue", "true")
    write_command(tmp_path, "sacct", "exit 1")
    write_command(
        tmp_path,
        "scontrol",
        'case $4 in 18) echo "JobState=PENDING Command=/runs/aaa/batch.sh";; *) echo not found;; esac',
    )
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert find_jobs(["aaa"], "job 17 of 20\n18") == {"aaa": "18"}


def test_a_job_with_the_right_id_and_another_token_belongs_to_somebody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Job ids restart when SLURM's state is lost, and the accounting still has the earlier jobs."""
    (tmp_path / "rows").write_text(f"{row('7', 'RUNNING', 'others')}\n{row('8', 'RUNNING', 'aaa')}\n")
    write_command(tmp_path, "squeue", f"cat {tmp_path}/rows")
    write_command(tmp_path, "scontrol", "echo JobId=$4 JobState=RUNNING Reason=None Comment=others")
    write_command(tmp_path, "sacct", "echo '7|COMPLETED|None'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert query_jobs({"7": "aaa", "8": "aaa"}) == {"8": SlurmJobInfo("RUNNING", "", 0)}


def test_only_jobs_that_have_ended_are_taken_from_the_accounting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that the controller has lost stays running there for ever."""
    write_command(tmp_path, "squeue", "true")
    write_command(tmp_path, "scontrol", "echo slurm_load_jobs error: Invalid job id specified >&2; exit 1")
    write_command(tmp_path, "sacct", "echo '7|RUNNING|None'; echo '8|CANCELLED by 0|None'; echo '9|TIMEOUT|TimeLimit'")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    ended = {"8": SlurmJobInfo("CANCELLED"), "9": SlurmJobInfo("TIMEOUT", "TimeLimit")}
    assert query_jobs(dict.fromkeys(("7", "8", "9"), "aaa")) == ended
