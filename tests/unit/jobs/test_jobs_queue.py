"""How SLURM's commands are called: a stand-in that prints its environment, or that hangs."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs import queue
from jobs.queue import Away, ask

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
    seen = json.loads(ask(sys.executable, "-c", code).stdout)
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
    monkeypatch.setattr(queue, "_SLOW", 0.5)
    monkeypatch.setattr(queue, "_SECONDS", 1.0)
    began = time.monotonic()
    with pytest.raises(Away, match="squeue gave no answer within 1 s: sleeping and retrying"):
        ask("squeue", "-h")
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
    monkeypatch.setattr(queue, "_SLOW", 0.2)
    assert ask("squeue").stdout == "before\nafter\n"
    assert "squeue has not answered" in capfd.readouterr().err
