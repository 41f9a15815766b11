import fcntl
import multiprocessing
import os
import pickle
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from jobs.local.slots import Slot, slots
from jobs.stage_process import StageProcess
from ssl_pkg.processes import start_time_of
from ssl_pkg.run.run_log import last_output

OBEDIENT = (
    "import signal, sys, time;"
    "[signal.signal(n, lambda n, _: sys.exit(75)) for n in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)];"
    "print('ready', flush=True); time.sleep(30)"
)
DEAF = OBEDIENT.replace("lambda n, _: sys.exit(75)", "signal.SIG_IGN")
DEFENCELESS = "import time; print('ready', flush=True); time.sleep(30)"


def process(log: Path, code: str, **options: float) -> StageProcess:
    return StageProcess((sys.executable, "-c", code), log, **options)


def called(stage: StageProcess, results: "multiprocessing.SimpleQueue[int]") -> None:
    results.put(stage())


def signalled(stage: StageProcess, *numbers: int) -> int:
    """The exit status of the stage if its process receives the signals after the child is ready."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    outer = context.Process(target=called, args=(stage, results))
    outer.start()
    deadline = time.monotonic() + 20
    while "ready" not in last_output(stage.log):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    for number in numbers:
        os.kill(outer.pid or 0, number)
    outer.join()
    return results.get()


@pytest.mark.parametrize("status", [0, 1, 2, 75])
def test_the_exit_status_is_returned_and_the_log_has_each_start(tmp_path: Path, status: int) -> None:
    log = tmp_path / "logs" / "a.log"
    stage = process(log, f"import sys; print('out'); print('error', file=sys.stderr); sys.exit({status})")
    assert stage() == status
    assert stage() == status
    lines = log.read_text().splitlines()
    assert len(lines) == 8
    assert lines[0].startswith(">>> ")
    assert lines[0].endswith(shlex.join(stage.command))
    assert lines[3].startswith(f"<<< exit status {status} after")
    assert sorted(last_output(log)) == ["error", "out"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "number",
    [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGALRM],
)
def test_signals_are_forwarded_to_the_child(tmp_path: Path, number: int) -> None:
    assert signalled(process(tmp_path / "log", OBEDIENT), number) == 75


def test_a_child_that_was_not_ready_for_the_signal_counts_as_interrupted(tmp_path: Path) -> None:
    assert signalled(process(tmp_path / "log", DEFENCELESS), signal.SIGUSR2) == 75


@pytest.mark.slow
def test_a_child_that_ignores_signals_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    assert signalled(process(tmp_path / "log", DEAF, grace=0.2), signal.SIGTERM, signal.SIGTERM) == 75
    assert "<<< exit status -9 after" in (tmp_path / "log").read_text()


def test_a_child_killed_by_another_process_has_failed(tmp_path: Path) -> None:
    assert process(tmp_path / "log", "import os; os.kill(os.getpid(), 9)")() == -9


def test_the_environment_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GONE", "1")
    code = "import os; print(os.environ['MADE'], 'GONE' in os.environ)"
    stage = StageProcess((sys.executable, "-c", code), tmp_path / "log", {"MADE": "x", "GONE": None})
    assert stage() == 0
    assert last_output(tmp_path / "log") == ["x False"]


def test_a_second_start_waits_for_the_end_of_the_first(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("ab") as out:
        code = "import sys; sys.stdin.read()"
        first = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=out)
        fcntl.flock(out, fcntl.LOCK_EX)
    assert first.stdin is not None
    began = time.monotonic()
    threading.Timer(0.5, first.stdin.close).start()
    assert process(log, "print('second')")() == 0
    assert time.monotonic() - began >= 0.5
    assert first.wait() == 0


def test_a_stage_stops_if_its_runner_has_ended(tmp_path: Path) -> None:
    not_a_runner = os.getpid()  # a process is never its own parent
    assert process(tmp_path / "log", OBEDIENT, runner=not_a_runner)() == 75


def test_the_pickle_is_light(tmp_path: Path) -> None:
    content = pickle.dumps(process(tmp_path / "log", "pass"))
    assert len(content) < 1000
    code = (
        f"import pickle, sys; pickle.loads({content!r});"
        "print([name for name in ('torch', 'hydra', 'pydantic', 'rich', 'submitit') if name in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_processes() -> None:
    born = start_time_of(os.getpid())
    assert born
    child = subprocess.Popen(["sleep", "0"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert start_time_of(child.pid) is None  # a zombie
    child.wait()
    assert start_time_of(child.pid) is None


def test_slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jobs.local.slots.cores", lambda: 8)
    monkeypatch.setenv("PATH", str(tmp_path))
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: H100 (UUID: GPU-aa)'\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert slots(1, use_gpus=True) == [Slot(1)] * 8
    assert slots(3, use_gpus=True) == [Slot(3)] * 2
    assert slots(99, use_gpus=True) == [Slot(8)]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2, MIG-x")
    assert slots(99, use_gpus=True) == [Slot(4, "2"), Slot(4, "MIG-x")]
    assert slots(99, use_gpus=True, runs_per_gpu=2) == [Slot(2, "2"), Slot(2, "MIG-x")] * 2
    assert slots(99, use_gpus=False) == slots(99, use_gpus=False, runs_per_gpu=2) == [Slot(8)]
    assert slots(1, use_gpus=True)[0].environment == {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "2"}
    assert "CUDA_VISIBLE_DEVICES" not in Slot(1).environment  # a run inherits the runner's
