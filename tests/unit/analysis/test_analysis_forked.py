import multiprocessing
import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from analysis.forked import in_a_fork
from ssl_pkg.hardware.machine import cores

pytestmark = pytest.mark.skipif(cores() < 2, reason="on one core nothing is forked")


def test_the_task_runs_in_another_process_at_the_same_time(tmp_path: Path) -> None:
    mine, theirs = os.pipe(), os.pipe()

    def task() -> None:
        os.write(theirs[1], b"x")
        assert os.read(mine[0], 1) == b"x"
        (tmp_path / "pid").write_text(str(os.getpid()))

    with in_a_fork(task):
        assert select.select([theirs[0]], [], [], 10.0)[0]  # the task has started
        os.write(mine[1], b"x")  # without which it does not end
    assert int((tmp_path / "pid").read_text()) != os.getpid()


def test_an_error_of_the_task_is_raised_here_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    def task() -> None:
        raise OSError("full")

    with pytest.raises(OSError, match="full"), in_a_fork(task):
        pass
    assert capfd.readouterr() == ("", "")


def test_a_killed_fork_is_replaced(tmp_path: Path) -> None:
    parent = os.getpid()

    def task() -> None:
        if os.getpid() != parent:
            os.kill(os.getpid(), 9)
        (tmp_path / "done").touch()

    with in_a_fork(task):
        pass
    assert (tmp_path / "done").exists()


def test_an_error_in_the_context_ends_the_fork_which_cleans_up(tmp_path: Path) -> None:
    ready = os.pipe()

    def task() -> None:
        try:
            os.write(ready[1], b"x")
            time.sleep(60)
        finally:
            (tmp_path / "cleaned").touch()

    with pytest.raises(KeyboardInterrupt), in_a_fork(task):
        os.read(ready[0], 1)
        raise KeyboardInterrupt
    assert multiprocessing.active_children() == []
    assert (tmp_path / "cleaned").exists()


@pytest.mark.slow
def test_the_fork_of_a_killed_process_ends(tmp_path: Path) -> None:
    lines = f"""
import os, signal, time
from pathlib import Path
from analysis.forked import in_a_fork
def task():
    Path({str(tmp_path / "pid")!r}).write_text(str(os.getpid()))
    time.sleep(60)
with in_a_fork(task):
    while not Path({str(tmp_path / "pid")!r}).exists():
        time.sleep(0.02)
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", lines], check=False)
    fork = Path(f"/proc/{(tmp_path / 'pid').read_text()}")
    deadline = time.monotonic() + 10
    while fork.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not fork.exists()
