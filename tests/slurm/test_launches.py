"""How processes are launched: by srun, in an interactive step, in a folder with modules of the same names."""

import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from studies import OnCluster

from jobs.ledger import State
from slurm.testbed import LocalCluster

LAUNCH = "import os; from ssl_pkg.distributed.launch import is_task"
TASK = f'{LAUNCH}; print("task" if is_task(os.environ) else "alone", flush=True)'


def output_words(terminal: bool, *line: str) -> list[str]:
    """The output of a step's processes, with a terminal or without one."""
    if not terminal:
        done = subprocess.run(line, capture_output=True, text=True, check=True, stdin=subprocess.DEVNULL)
        return done.stdout.split()
    ours, theirs = pty.openpty()
    process = subprocess.Popen(line, stdin=theirs, stdout=theirs, stderr=subprocess.DEVNULL)
    os.close(theirs)
    text = b""
    try:
        while read := os.read(ours, 1000):
            text += read
    except OSError:  # the last process has closed the terminal
        pass
    finally:
        os.close(ours)
    assert process.wait(30) == 0
    return text.replace(b"\0", b"").decode().split()


@pytest.mark.parametrize(
    ("terminal", "shell", "words"),
    [
        (False, "", ["task", "task"]),
        (False, "{}; true", ["task", "task"]),  # as in a user's script
        (True, "", ["task"]),  # the terminal shows only rank 0
        (True, "{}; true", ["alone"]),
        (True, "srun --overlap -n2 sh -c '{}; true'; true", ["task", "task"]),
    ],
    ids=["srun", "srun script", "pty", "typed in a pty", "srun typed in a pty"],
)
def test_a_process_is_a_task_only_if_srun_started_it(
    bed: LocalCluster, tmp_path: Path, terminal: bool, shell: str, words: list[str]
) -> None:
    file = tmp_path / "task.py"
    file.write_text(TASK)
    python = [sys.executable, str(file)]
    command = ["bash", "-c", shell.format(" ".join(python))] if shell else python
    assert output_words(terminal, "srun", "-p", "low", "-N2", "-n2", *["--pty"] * terminal, *command) == words


def test_no_job_imports_from_the_folder_in_which_it_was_submitted(
    study: Callable[..., OnCluster], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = tmp_path / "hostile"
    for name in ("submitit", "ssl_pkg", "jobs", "cloudpickle", "filelock", "typing"):
        (hostile / name).mkdir(parents=True)
        (hostile / name / "__init__.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write({name!r})\n")
    monkeypatch.chdir(hostile)
    small = study()
    small.jobs = [job for job in small.jobs if job.stage == "pretrain"]
    small.submit()
    small.until_complete(60)
    assert set(small.states().values()) == {State.COMPLETE}
    assert not (tmp_path / "imported").exists()
