"""A cluster of scripts in place of SLURM's commands, which keep a list of jobs."""

import os
from pathlib import Path

import pytest

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
    "srun": "exit 1",
    # the script's folder is named after the batch's token
    "sbatch": """
        number=$(($(wc -l <"$SLURM_CONF") + 100))
        echo "$number $(basename "$(dirname "$2")")" >>"$SLURM_CONF"
        echo "$number"
    """,
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
