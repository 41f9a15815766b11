"""Stages that a fork server starts, compared with stages that have a process of their own."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jobs.forked_stage import Fork, ForkedStage, fork_server
from jobs.programs import Programs
from jobs.stage_process import StageProcess
from ssl_pkg.errors import BAD_INPUT, COMPLETE, INTERRUPTED
from ssl_pkg.processes import start_time_of
from ssl_pkg.run.directory import RunDirectory

SHORT = ("stage=pretrain", "method=simclr", "budget=tiny", "threads=2")
MIDDLE = (*SHORT, "budget.max_steps=60", "budget.ssl_epochs=100", "log_every=1")
LONG = (*SHORT, "budget.max_steps=5000", "budget.ssl_epochs=1000")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    log = tmp_path_factory.mktemp("server") / "log"
    with fork_server({"OMP_NUM_THREADS": "2"}, log) as path:
        assert path
        yield path
    assert not log.read_bytes()


def stage_process(arguments: tuple[str, ...], log: Path, server: Path | None, **more: str) -> StageProcess:
    """A stage with a process of its own, or a forked one, which has no command to fall back on."""
    fork = Fork(server, arguments) if server else None
    command = ("/nonexistent",) if fork else (*Programs().stage, *arguments)
    return StageProcess(command, log, {"OMP_NUM_THREADS": "2", **more}, fork=fork)


def start(server: Path, data: Path, run_dir: Path) -> ForkedStage:
    """Starts a long pretraining, which is past its first steps when this returns."""
    with run_dir.with_suffix(".log").open("ab", buffering=0) as log:
        stage = Fork(server, (*LONG, f"data.root={data}", f"run_dir={run_dir}")).start(
            log, dict(os.environ), lambda: False
        )
    assert stage
    until(lambda: bool(RunDirectory(run_dir).metrics()))
    return stage


def server_of(run: RunDirectory) -> int:
    """The process id of the server that has started the run."""
    stage = int(json.loads((run.path / "lock").read_text())["pid"])
    server = int(Path(f"/proc/{stage}/stat").read_text().rpartition(")")[2].split()[1])
    assert b"ssl_pkg.fork_server" in Path(f"/proc/{server}/cmdline").read_bytes()
    return server


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
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
        text = re.sub(r"Compiling .*\n", "", text)  # only in the first log of a new cache
        text = re.sub(r".*, step \d+ of \d+.*\n", "", text)  # a line about the progress, if a run takes long
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
        "log, fork = open(sys.argv[2], 'ab', 0), Fork(Path(sys.argv[1]), tuple(sys.argv[3:]))\n"
        "stage = fork.start(log, dict(os.environ), lambda: False)\n"
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


def test_a_fork_has_the_variables_of_its_request(server: Path, tmp_path: Path) -> None:
    arguments = (*SHORT, "data.root=~/nowhere", f"run_dir={tmp_path / 'run'}")
    assert stage_process(arguments, tmp_path / "log", server, HOME=str(tmp_path / "home"))() == BAD_INPUT
    assert str(tmp_path / "home" / "nowhere") in (tmp_path / "log").read_text()


def test_a_stage_whose_server_dies_resumes_in_a_process_of_its_own(data: Path, tmp_path: Path) -> None:
    run, arguments = RunDirectory(tmp_path / "run"), (*MIDDLE, f"data.root={data}", f"run_dir={tmp_path / 'run'}")

    def kill_the_server() -> None:
        until(lambda: len(run.metrics()) > 1)
        os.kill(server_of(run), signal.SIGKILL)

    with fork_server({"OMP_NUM_THREADS": "2"}, tmp_path / "server.log") as server, ThreadPoolExecutor() as pool:
        assert server
        killed = pool.submit(kill_the_server)
        process = StageProcess((*Programs().stage, *arguments), tmp_path / "log", fork=Fork(server, arguments))
        assert process() == COMPLETE
        killed.result()
    log = (tmp_path / "log").read_text()
    for words in (
        "run the same command again to resume",
        "gets a process of its own",
        "resumes from the checkpoint of",
    ):
        assert words in log


def test_ctrl_c_ends_a_study_whose_stages_are_forks_with_checkpoints(data: Path, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path / "demo" / "pretrain-simclr-s0")
    options = ["--data", data, "--runs", tmp_path, "study.methods=[simclr]", "budget=tiny", *LONG[len(SHORT) :]]
    command = [sys.executable, "-P", "-m", "jobs", "study", "demo", *options]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.PIPE) as study:
        until(lambda: bool(run.metrics()))
        server = server_of(run)
        os.killpg(study.pid, signal.SIGINT)
        study.communicate(timeout=60)
    assert study.returncode == INTERRUPTED
    assert "run the same command again to resume" in (tmp_path / "demo/logs/pretrain-simclr-s0.log").read_text()
    assert start_time_of(server) is None


def test_a_study_does_without_a_server_where_sockets_are_impossible(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("long" * 30)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with fork_server({}, tmp_path / "log") as server:
        assert server is None
    assert not list(long.iterdir())
