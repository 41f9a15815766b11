import os
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.local.supervisor import Supervisor
from jobs.stage_process import StageProcess

SLEEP = "import time; print('started', flush=True); time.sleep(60)"


def supervised(tmp_path: Path, code: str) -> Supervisor:
    return Supervisor(StageProcess((sys.executable, "-c", code), tmp_path / "log", runner=os.getpid()))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def started(tmp_path: Path) -> bool:
    return (tmp_path / "log").exists() and "started" in (tmp_path / "log").read_text().splitlines()


@pytest.mark.parametrize(("code", "status"), [("", 0), ("raise SystemExit(3)", 3), ("import os; os.abort()", -6)])
def test_the_status_is_that_of_the_stage(tmp_path: Path, code: str, status: int) -> None:
    supervisor = supervised(tmp_path, code)
    until(lambda: supervisor.ended)
    assert supervisor.status() == status


@pytest.mark.parametrize("at_once", [True, False])
def test_a_signal_reaches_the_stage_and_not_the_handlers_of_the_runner(tmp_path: Path, at_once: bool) -> None:
    before = signal.signal(signal.SIGTERM, lambda number, frame: (tmp_path / "handled").touch())
    try:
        supervisor = supervised(tmp_path, SLEEP)
        until(lambda: at_once or started(tmp_path))
        supervisor.stop()
        until(lambda: supervisor.ended)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert supervisor.status() == 75
    assert not (tmp_path / "handled").exists()


@pytest.mark.slow
def test_the_stage_of_a_killed_supervisor_stops(tmp_path: Path) -> None:
    obedient = "import os, time; print(os.getpid(), flush=True); print('started', flush=True); time.sleep(60)"
    supervisor = supervised(tmp_path, obedient)
    until(lambda: started(tmp_path))
    stage = int((tmp_path / "log").read_text().splitlines()[1])
    os.kill(supervisor._process.pid or 0, signal.SIGKILL)
    until(lambda: supervisor.ended)
    assert supervisor.status() is None
    until(lambda: not Path(f"/proc/{stage}").exists())


def test_an_ended_supervisor_is_noticed_although_sigchld_is_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # as a program that starts the study can leave it
    try:
        supervisor = supervised(tmp_path, "")
        until(lambda: supervisor.ended)
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_an_error_of_the_supervisor_is_in_the_runs_log(tmp_path: Path) -> None:
    class Broken(StageProcess):
        def __call__(self) -> int:
            raise ValueError("broken")

    supervisor = Supervisor(Broken(("true",), tmp_path / "log"))
    until(lambda: supervisor.ended)
    assert supervisor.status() == 1
    assert "ValueError: broken" in (tmp_path / "log").read_text()


def test_a_supervisor_has_no_files_of_the_runner(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    supervisor = supervised(tmp_path, SLEEP)
    try:
        os.close(writer)
        assert select.select([reader], [], [], 10.0)[0]  # its end, because no other process has it open
    finally:
        supervisor.stop()
        os.close(reader)
        until(lambda: supervisor.ended)
