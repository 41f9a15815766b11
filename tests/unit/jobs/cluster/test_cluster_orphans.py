"""What is recalled and cancelled, by which cluster: stand-ins for SLURM's commands that keep a list of jobs."""

import json
import os
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest

import jobs.cluster.sbatch
from jobs.__main__ import main
from jobs.cluster.batches import Batch, read_batches
from jobs.cluster.orphans import cancel_orphans
from jobs.cluster.slurm_cli import SchedulerUnavailable
from jobs.ledger import Entry, State, write_ledger
from jobs.status.states import read_status
from ssl_pkg.run.directory import write_json

COMMANDS = {
    "squeue": """
        case "$*" in
          *JobArrayID:30,State*)
            awk '{printf "%-30s%-20s%-40s%-10s%-30s%-200s\\n", $1, "PENDING", "None", 0, "N/A", $2}' ;;
          *) awk '{printf "%-30s%-200s\\n", $1, $2}' ;;
        esac <"$SLURM_CONF"
    """,
    "scontrol": "echo Invalid job id >&2; exit 1",
    "sacct": "exit 1",
    "scancel": 'for job; do sed -i "/^$job /d" "$SLURM_CONF"; done',
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study's folder. A cluster's slurm.conf is the list of its jobs, each with its comment."""
    (tmp_path / "bin").mkdir()
    for name, text in COMMANDS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "one.conf"))
    (tmp_path / "one.conf").write_text("")
    folder = tmp_path / "runs" / "small"
    folder.mkdir(parents=True)
    return folder


def sent(folder: Path, token: str, number: str | None, *names: str, age: float = 5.0) -> Batch:
    batch = replace(Batch.new("test", names, ()), token=token, number=number, made=time.time() - age)
    batch.write(folder)
    (folder / ".jobs" / "slurm" / token).mkdir()
    return batch


def test_status_and_cancel_ask_the_cluster_that_the_study_was_sent_to(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent(folder, "aaa", "7", "a")
    write_ledger(folder, {"a": Entry()})
    jobs, other = tmp_path / "one.conf", tmp_path / "two.conf"
    jobs.write_text("7 aaa\n")
    other.write_text("")
    monkeypatch.setenv("SLURM_CONF", str(other))
    assert [(row.state, row.note) for row in read_status(folder)[0]] == [(State.PENDING, None)]
    assert main(["cancel", "small", "--runs", str(folder.parent)]) == 0
    assert "1 jobs of study small are cancelled" in capsys.readouterr().out
    assert jobs.read_text() == ""


def test_a_second_job_of_a_batch_is_cancelled(folder: Path, tmp_path: Path) -> None:
    """A site's wrapper calls sbatch twice."""
    sent(folder, "aaa", "7", "a")
    sent(folder, "bbb", "9", "b", "c")
    (tmp_path / "one.conf").write_text("7 aaa\n8 aaa\n9_0 bbb\n9_1 bbb\n10_0 bbb\n10_1 bbb\n11 other\n")
    assert cancel_orphans(folder, read_batches(folder)) == {"8": "aaa", "10_0": "bbb", "10_1": "bbb"}
    assert (tmp_path / "one.conf").read_text() == "7 aaa\n9_0 bbb\n9_1 bbb\n11 other\n"


def test_a_job_that_arrives_after_its_call_was_killed_is_found_and_can_not_run(folder: Path, tmp_path: Path) -> None:
    sent(folder, "aaa", None, "a")
    assert cancel_orphans(folder, read_batches(folder)) == {}
    assert not (folder / ".jobs" / "slurm" / "aaa").exists(), "sbatch no longer finds the script, nor SLURM the folder"
    (tmp_path / "one.conf").write_text("7 aaa\n")
    assert cancel_orphans(folder, read_batches(folder)) == {"7": "aaa"}
    sent(folder, "old", None, "b", age=900)
    cancel_orphans(folder, read_batches(folder))
    assert [batch.token for batch in read_batches(folder)] == ["aaa"]


def test_cancel_in_a_copy_reaches_the_jobs_of_an_original_that_was_deleted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = sent(folder, "aaa", "7", "a", "b", age=60)
    file = folder / ".jobs" / "slurm" / "aaa.json"
    write_json(file, json.loads(file.read_text()) | {"folder": str(tmp_path / "original")})
    sent(folder, "bbb", "9", "a")
    assert batch.token in {each.token for each in read_batches(folder)}
    (tmp_path / "one.conf").write_text("7_0 aaa\n7_1 aaa\n9 bbb\n")
    assert main(["cancel", "small", "--runs", str(folder.parent)]) == 0
    assert (tmp_path / "one.conf").read_text() == ""
    assert "3 jobs of study small are cancelled" in capsys.readouterr().out


def test_a_job_that_sbatch_printed_is_not_denied_where_it_lacks_the_token(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs.cluster.sbatch, "LISTING_SECONDS", 0.0)
    for when, error in (
        ("%FT%T", SchedulerUnavailable),
        ("2020-01-01T00:00:00", jobs.cluster.sbatch.SubmissionRefused),
    ):
        shows = f'echo "JobId=18 UserId=me($(id -u)) JobState=PENDING SubmitTime=$(date +{when})"'
        (tmp_path / "bin" / "scontrol").write_text(f"#!/bin/sh\n{shows}\n")
        with pytest.raises(error, match="printed"):
            jobs.cluster.sbatch._find_job_id(subprocess.CompletedProcess([], 0, "18", ""), "aaa", time.time() - 5)
