"""The job id of a batch where wrappers around sbatch interfere."""

import os
import subprocess
import time
from pathlib import Path

import pytest

import jobs.cluster.sbatch
from jobs.cluster.slurm_cli import SlurmError


def test_a_new_job_that_sbatch_printed_counts_even_without_the_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in (("squeue", "true"), ("sacct", "exit 1"), ("scontrol", "")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(jobs.cluster.sbatch, "LISTING_SECONDS", 0.0)
    for when, error in (
        ("%FT%T", SlurmError),
        ("2020-01-01T00:00:00", jobs.cluster.sbatch.SubmissionRefused),
    ):
        shows = f'echo "JobId=18 UserId=me($(id -u)) JobState=PENDING SubmitTime=$(date +{when})"'
        (tmp_path / "scontrol").write_text(f"#!/bin/sh\n{shows}\n")
        with pytest.raises(error, match="printed"):
            jobs.cluster.sbatch._find_job_id(subprocess.CompletedProcess([], 0, "18", ""), "aaa", time.time() - 5)
