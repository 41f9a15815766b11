"""Stages that a fork server starts, compared with stages that have a process of their own."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jobs.forked_stage import Fork, ForkedStage, fork_server
from jobs.programs import Programs
from jobs.stage_process import StageProcess
from ssl_pkg.errors import BAD_INPUT, COMPLETE, INTERRUPTED
from ssl_pkg.processes import start_time_of
from ssl_pkg.run.directory import RunDirectory

SHORT = ("stage=pretrain", "method=simclr", "budget=tiny", "threads=1")
LONG = (*SHORT, "budget.max_steps=5000", "budget.ssl_epochs=1000")


@pytest.fixture(scope="module")
def server() -> Iterator[Path]:
    with fork_server({"OMP_NUM_THREADS": "1"}) as path:
        assert path
        yield path


def stage_process(arguments: tuple[str, ...], log: Path, server: Path | None) -> StageProcess:
    fork = Fork(server, arguments) if server else None
    return StageProcess((*Programs().stage, *arguments), log, {"OMP_NUM_THREADS": "1"}, fork=fork)


def start(server: Path, data: Path, run_dir: Path) -> ForkedStage:
    """Starts a long pretraining, which is past its first steps when this returns."""
    with run_dir.with_suffix(".log").open("ab", buffering=0) as log:
        stage = Fork(server, (*LONG, f"data.root={data}", f"run_dir={run_dir}")).start(log, dict(os.environ))
    assert stage
    until(lambda: bool(RunDirectory(run_dir).metrics()))
    return stage


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_forked_stage_leaves_the_bytes_of_a_stage_with_a_process_of_its_own(
    server: Path, data: Path, tmp_path: Path
) -> None:
    logs = []
    for name, started_by in (("forked", server), ("own", None)):
        log = tmp_path / f"{name}.log"
        assert stage_process((*SHORT, f"data.root={data}", f"run_dir={tmp_path / name}"), log, started_by)() == COMPLETE
        text = log.read_text().replace(str(tmp_path / name), "RUN").replace(f"{name}:", "RUN:")
        logs.append(re.sub(r"[\d.]+ s\b", "SECONDS", text).splitlines())
    forked, own = (RunDirectory(tmp_path / name) for name in ("forked", "own"))
    forked_result, own_result = forked.result() or {}, own.result() or {}
    for key in ("weights_sha256", "metrics_sha256", "rows"):
        assert forked_result[key] == own_result[key]
    assert (forked.provenance() or {})["hardware"] == (own.provenance() or {})["hardware"]
    assert logs[0][1:-1] == logs[1][1:-1]  # all but the command line and the exit event
    assert any("is complete" in line for line in logs[0])


def test_bad_input_of_a_forked_stage_has_its_exit_status_and_its_sentence(server: Path, tmp_path: Path) -> None:
    arguments = ("stage=probe", f"source={tmp_path / 'nowhere'}", f"run_dir={tmp_path / 'run'}")
    assert stage_process(arguments, tmp_path / "log", server)() == BAD_INPUT
    assert "nowhere" in (tmp_path / "log").read_text()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, INTERRUPTED), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_signal_ends_a_forked_stage_as_it_ends_a_process(
    server: Path, data: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with start(server, data, tmp_path / "run") as stage:
        with pytest.raises(subprocess.TimeoutExpired):
            stage.wait(timeout=0.1)
        assert os.getsid(stage.pid) == stage.pid
        stage.send_signal(number)
        assert stage.wait(timeout=60) == code
        stage.send_signal(number)  # has no effect on a process that has ended
    assert any((tmp_path / "run" / "checkpoints").glob("*")) is (code == INTERRUPTED)


def test_a_stage_whose_client_dies_writes_a_checkpoint_and_stops(server: Path, data: Path, tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from jobs.forked_stage import Fork\n"
        "stage = Fork(Path(sys.argv[1]), tuple(sys.argv[3:])).start(open(sys.argv[2], 'ab', 0), dict(os.environ))\n"
        "print(stage.pid, flush=True); sys.stdin.read()"
    )
    command = [
        sys.executable,
        "-c",
        script,
        server,
        tmp_path / "log",
        *LONG,
        f"data.root={data}",
        f"run_dir={tmp_path / 'run'}",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdout
        pid = int(client.stdout.readline())
        until(lambda: bool(RunDirectory(tmp_path / "run").metrics()))
        client.kill()
    until(lambda: start_time_of(pid) is None)
    assert "run the same command again to resume" in (tmp_path / "log").read_text()


def test_without_its_server_a_running_stage_stops_and_the_next_has_a_process_of_its_own(
    data: Path, tmp_path: Path
) -> None:
    with fork_server({"OMP_NUM_THREADS": "1"}) as server:
        assert server
        with start(server, data, tmp_path / "run") as stage:
            parent = int(Path(f"/proc/{stage.pid}/stat").read_text().rsplit(")")[1].split()[1])
            os.kill(parent, signal.SIGKILL)
            assert stage.wait(timeout=60) == -signal.SIGTERM
        assert "run the same command again to resume" in (tmp_path / "run.log").read_text()
        assert stage_process(("stage=nothing", "run_dir=x"), tmp_path / "log", server)() == BAD_INPUT
    assert "nothing" in (tmp_path / "log").read_text().splitlines()[1]
