"""The `srun` function of the batch script, run by bash with a script in place of srun."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.cluster.batch_script import REQUEUE_SECONDS, RETRY_SECONDS, SIGNAL_HANDLING, START_FILE, srun_function


class TestSrunFunction:
    @pytest.fixture
    def script(self, tmp_path: Path) -> Callable[[str], "tuple[int, list[str]]"]:
        """Runs the batch script's function with this srun. Returns its status, and its pauses in seconds."""

        def run(srun: str) -> tuple[int, list[str]]:
            sleep = f'#!/bin/sh\necho "$1" >> {tmp_path}/waits\n'
            for name, content in (("srun", f"#!/bin/sh\n{srun}\n"), ("sleep", sleep)):
                (tmp_path / name).write_text(content)
                (tmp_path / name).chmod(0o755)
            folder = tmp_path / "it's a folder"
            folder.mkdir()
            (tmp_path / "waits").touch()
            environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7"}
            line = ["bash", "-c", f"{SIGNAL_HANDLING}\n{srun_function(folder)}\nsrun a 'b c'\n"]
            done = subprocess.run(line, env=environment, check=False)
            return done.returncode, (tmp_path / "waits").read_text().split()

        return run

    def test_a_step_that_slurm_refuses_is_retried(
        self, script: "Callable[[str], tuple[int, list[str]]]", tmp_path: Path
    ) -> None:
        calls = tmp_path / "calls"
        assert script(f'echo "$#" >> {calls}; [ $(wc -l < {calls}) = 3 ]') == (0, ["5", "20"])
        assert calls.read_text().split() == ["2", "2", "2"]

    def test_a_task_gets_all_cpus_of_cpus_per_task(
        self, script: "Callable[[str], tuple[int, list[str]]]", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
        assert script(f'echo "$SRUN_CPUS_PER_TASK" > {tmp_path}/cpus') == (0, [])
        assert (tmp_path / "cpus").read_text() == "8\n"

    def test_a_step_that_never_begins_fails_in_the_end(self, script: "Callable[[str], tuple[int, list[str]]]") -> None:
        assert script("exit 9") == (9, [str(pause) for pause in RETRY_SECONDS])

    def test_the_exit_status_of_a_stage_is_that_of_the_job(
        self, script: "Callable[[str], tuple[int, list[str]]]"
    ) -> None:
        assert script(f'echo 2 > "${START_FILE}"; exit 2') == (2, [])

    def test_the_script_waits_for_its_end_if_only_srun_was_killed(
        self, script: "Callable[[str], tuple[int, list[str]]]"
    ) -> None:
        assert script(f': > "${START_FILE}"; exit 1') == (1, [f"{REQUEUE_SECONDS:.0f}"])
