import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs.local.supervisor import Supervisor
from jobs.stage_process import StageProcess


def supervised(tmp_path: Path, code: str) -> Supervisor:
    return Supervisor(StageProcess((sys.executable, "-c", code), tmp_path / "log", runner=os.getpid()))


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("code", "status"), [("", 0), ("raise SystemExit(3)", 3), ("import os; os.abort()", -6)])
def test_the_status_is_that_of_the_stage(tmp_path: Path, code: str, status: int) -> None:
    supervisor = supervised(tmp_path, code)
    until(lambda: supervisor.ended)
    assert supervisor.status() == status


def test_a_signal_at_once_reaches_the_stage_and_not_the_handlers_of_the_runner(tmp_path: Path) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: received.append(number))
    try:
        supervisor = supervised(tmp_path, "import time; time.sleep(60)")
        supervisor.stop()
        until(lambda: supervisor.ended)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert supervisor.status() == 75
    assert received == []


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
    os.set_inheritable(writer, True)
    supervisor = supervised(tmp_path, "import time; time.sleep(60)")
    try:
        os.close(writer)
        assert os.read(reader, 1) == b""  # the end of the pipe, so that no other process has it open
    finally:
        supervisor.stop()
        os.close(reader)
        until(lambda: supervisor.ended)
