"""Runs a small study on this machine, with real child processes."""

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from small_study import NAMES, run

from jobs.ledger import Entry, State, log_path, read_ledger, write_ledger
from jobs.local.study import cancel
from jobs.local.synthetic import generate
from jobs.status.states import read_rows, status_json
from jobs.study_lock import read_lock_holder
from ssl_pkg.cache import synthetic_set
from ssl_pkg.errors import BadInput
from ssl_pkg.run.directory import RunDirectory
from ssl_pkg.run.run_log import START_PREFIX

DRIVER = Path(__file__).with_name("small_study.py")


@contextmanager
def runner(root: Path, *, slots: int = 2, wait: float = 30.0) -> Iterator["subprocess.Popen[str]"]:
    """Context manager with a runner in its own process group, as in a terminal; kills the runner at the end."""
    process = subprocess.Popen(
        [sys.executable, str(DRIVER), str(root), str(slots), str(wait)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        cwd=DRIVER.parents[2],
        env={**os.environ, "PYTHONPATH": str(DRIVER.parents[2])},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def events(root: Path) -> list[tuple[str, str]]:
    try:
        lines = (root / "EVENTS").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [(what, name) for what, name in map(json.loads, lines)]


def begun(root: Path) -> list[str]:
    return [name for what, name in events(root) if what == "begin"]


def most_at_once(root: Path) -> int:
    running = peak = 0
    for what, _ in events(root):
        running += 1 if what == "begin" else -1
        peak = max(peak, running)
    return peak


def states(root: Path) -> dict[str, State]:
    return {row.name: row.state for row in read_rows(root / "small")}


def child(root: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((root / "small" / name / "child.json").read_text())
    return content


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_study_completes_and_a_second_call_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert run(tmp_path, wait=1.0) == 0  # longer than the time between two starts
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert cpu_seconds / (len(NAMES) + 1) < 1.0  # per job, including the stub's
    assert all(RunDirectory(tmp_path / "small" / name).complete for name in NAMES)
    assert set(states(tmp_path).values()) == {State.COMPLETE}
    assert most_at_once(tmp_path) == 2
    printed = capsys.readouterr().out
    assert "the table of results" in printed
    assert printed.count("report.pdf") == printed.count("a first report")  # the table names the last one's path
    (first_number,) = (line for line in printed.splitlines() if "first number" in line)
    assert re.search(r"the first number: 50\.3 % test accuracy of probe-[ab]-s0$", first_number)

    made = child(tmp_path, "probe-a-s0")
    assert made["environment"]["OMP_NUM_THREADS"] == "1"
    assert made["arguments"][-1] == "threads=1"
    assert "working on probe-a-s0" in log_path(tmp_path / "small", "probe-a-s0").read_text()
    assert read_lock_holder(tmp_path / "small") is None

    first, elapsed = events(tmp_path), {row.name: row.elapsed for row in read_rows(tmp_path / "small")}
    assert None not in elapsed.values()
    assert run(tmp_path) == 0
    assert events(tmp_path) == first
    assert {row.name: row.elapsed for row in read_rows(tmp_path / "small")} == elapsed
    assert "the table of results" in capsys.readouterr().out

    shutil.rmtree(tmp_path / "small" / "logs")
    assert run(tmp_path) == 0
    assert str(tmp_path / "reports" / "report.pdf") in capsys.readouterr().out

    shutil.rmtree(tmp_path / "small" / "probe-b-s0")
    capsys.readouterr()
    assert run(tmp_path) == 0
    assert "first number" not in capsys.readouterr().out  # it was shown before
    assert begun(tmp_path) == [name for what, name in first if what == "begin"] + ["probe-b-s0"]


def test_the_folder_may_have_any_characters(tmp_path: Path) -> None:
    root = tmp_path / """José's ${seed} "Łódź", (2) [x] {y: 1} #a=b,c $HOME \\ 画像 ~ *"""
    assert run(root) == 0
    assert set(states(root).values()) == {State.COMPLETE}
    assert child(root, "probe-a-s0")["arguments"][0] == f"run_dir={root / 'small' / 'probe-a-s0'}"


def test_one_slot_runs_one_job_at_a_time_probes_first_and_then_the_longest_chain(tmp_path: Path) -> None:
    assert run(tmp_path, slots=1) == 0
    assert most_at_once(tmp_path) == 1
    assert begun(tmp_path) == ["pretrain-a-s0", "probe-a-s0", "pretrain-b-s0", "probe-b-s0", "ood-a-probe-s0"]


def test_the_first_report_waits_for_one_final_model_and_not_for_its_evaluations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, slots=1) == 0
    printed = capsys.readouterr().out
    said = f"a first report, of the complete runs: {tmp_path / 'reports' / 'report.pdf'}"
    assert printed.index("probe-a-s0: complete") < printed.index(said) < printed.index("ood-a-probe-s0: running")
    log = log_path(tmp_path / "small", "report")
    assert log.read_text().count(START_PREFIX) == 2

    shutil.rmtree(tmp_path / "small" / "pretrain-a-s0")
    assert run(tmp_path, slots=1) == 0
    assert said not in capsys.readouterr().out  # the earlier report has all final models
    assert log.read_text().count(START_PREFIX) == 3

    for name in ("probe-a-s0", "ood-a-probe-s0"):
        shutil.rmtree(tmp_path / "small" / name)
    assert run(tmp_path, slots=1) == 0
    printed = capsys.readouterr().out
    assert printed.index("probe-a-s0: complete") < printed.index(said) < printed.index("ood-a-probe-s0: running")
    assert log.read_text().count(START_PREFIX) == 5


def test_a_stopped_generation_of_the_synthetic_set_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    messages: list[str] = []
    begun = []

    def wait() -> bool:
        time.sleep(0.05)
        begun[:] = (tmp_path / "ssl-study").glob(".*/files/stl10_binary/*")
        return not begun

    generate(messages.append, wait)
    assert begun
    assert list((tmp_path / "ssl-study").iterdir()) == []
    assert messages == [f"generating the synthetic images in {synthetic_set()} (once)"]


def test_a_failure_blocks_only_its_descendants_and_can_be_repaired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cause = tmp_path / "FAIL-probe-a-s0"
    cause.touch()
    assert run(tmp_path) == 1
    assert states(tmp_path) == {
        "pretrain-a-s0": State.COMPLETE,
        "probe-a-s0": State.FAILED,
        "ood-a-probe-s0": State.BLOCKED,
        "pretrain-b-s0": State.COMPLETE,
        "probe-b-s0": State.COMPLETE,
        "report": State.COMPLETE,
    }
    assert (tmp_path / "reports" / "report.pdf").is_file()
    printed = capsys.readouterr().out
    assert f"The report, which lists the failed runs: {tmp_path / 'reports' / 'report.pdf'}" in printed
    assert "the cause of it all" in printed
    assert str(log_path(tmp_path / "small", "probe-a-s0")) in printed
    assert "the same again" in printed

    cause.unlink()
    before, made = begun(tmp_path), (tmp_path / "reports" / "report.pdf").stat().st_mtime_ns
    assert run(tmp_path) == 0
    assert begun(tmp_path)[len(before) :] == ["probe-a-s0", "ood-a-probe-s0"]
    assert (tmp_path / "reports" / "report.pdf").stat().st_mtime_ns > made  # a new report of all runs


def test_a_study_without_any_success_has_no_report(tmp_path: Path) -> None:
    for name in ("pretrain-a-s0", "pretrain-b-s0"):
        (tmp_path / f"FAIL-{name}").touch()
    assert run(tmp_path) == 1
    assert states(tmp_path)["report"] is State.BLOCKED
    assert not (tmp_path / "reports").exists()


def test_the_ledger_keeps_the_entries_of_other_seeds(tmp_path: Path) -> None:
    other = Entry(State.COMPLETE, exit_status=0)
    (tmp_path / "small").mkdir()
    write_ledger(tmp_path / "small", {"pretrain-a-s1": other})
    assert run(tmp_path) == 0
    entries = read_ledger(tmp_path / "small")
    assert entries["pretrain-a-s1"] == other
    assert list(entries)[-1] == "pretrain-a-s1"


def test_a_child_that_exits_75_is_interrupted_not_failed(tmp_path: Path) -> None:
    (tmp_path / "HANG-pretrain-b-s0").touch()
    assert run(tmp_path) == 75
    now = states(tmp_path)
    assert (now["pretrain-b-s0"], now["probe-b-s0"], now["report"]) == (State.INTERRUPTED, State.PENDING, State.PENDING)
    assert now["ood-a-probe-s0"] is State.COMPLETE


@pytest.mark.parametrize(
    "stop",
    [
        pytest.param(lambda pid: os.killpg(pid, signal.SIGINT), id="Ctrl-C in the terminal"),
        pytest.param(lambda pid: os.killpg(pid, signal.SIGHUP), id="the terminal is closed"),
        pytest.param(lambda pid: os.killpg(pid, signal.SIGQUIT), id="Ctrl-\\ in the terminal"),
    ],
)
def test_the_terminals_signals_interrupt_each_child_once(tmp_path: Path, stop: Callable[[int], None]) -> None:
    with runner(tmp_path) as process:
        until(lambda: len(begun(tmp_path)) == 2)
        stop(process.pid)
        printed, _ = process.communicate(timeout=10)
    assert process.returncode == 75, printed
    assert "Interrupted. This command resumes the study: the same again" in printed
    for name in ("pretrain-a-s0", "pretrain-b-s0"):
        assert (tmp_path / "small" / name / "checkpoint").read_text() in ("SIGTERM", "SIGINT")
        assert states(tmp_path)[name] is State.INTERRUPTED


def test_after_a_killed_runner_the_study_resumes_at_once(tmp_path: Path) -> None:
    with runner(tmp_path) as process:
        until(lambda: len(begun(tmp_path)) == 2)
        process.kill()
        process.wait()
        assert run(tmp_path) == 0  # while the children of the first runner are still stopping
    assert (tmp_path / "small" / "pretrain-a-s0" / "checkpoint").read_text() == "SIGTERM"
    assert most_at_once(tmp_path) == 2


def test_a_second_runner_is_refused_and_a_cancelled_study_resumes(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    with runner(tmp_path) as process:
        until(lambda: len(begun(tmp_path)) == 2)
        with pytest.raises(BadInput, match=f"^study small is being run by process {process.pid} on "):
            run(tmp_path)
        until(lambda: states(tmp_path)["pretrain-a-s0"] is State.RUNNING)
        until(lambda: status_json(folder)["runs"][0]["steps"] == 600)
        assert status_json(folder)["runner"]["pid"] == process.pid
        assert "was stopped" in cancel(folder)
        printed, _ = process.communicate(timeout=20)
    assert process.returncode == 75, printed
    assert sorted(begun(tmp_path)) == ["pretrain-a-s0", "pretrain-b-s0"]
    assert (folder / "pretrain-a-s0" / "checkpoint").read_text() == "SIGTERM"
    assert "nothing to cancel" in cancel(folder)
    assert run(tmp_path) == 0
    assert child(tmp_path, "pretrain-a-s0")["resumed"]


def test_stages_of_a_local_study_never_join_an_outer_process_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1", "SLURM_STEP_ID": "0", "SLURM_LOCALID": "0"}
    for name, value in {**step, "RANK": "1", "WORLD_SIZE": "2", "SSL_STUDY_STEP": "3.0", "SLURM_JOB_ID": "3"}.items():
        monkeypatch.setenv(name, value)
    assert run(tmp_path) == 0
    environment = child(tmp_path, "pretrain-a-s0")["environment"]
    assert not {*step, "RANK", "WORLD_SIZE", "SSL_STUDY_STEP"} & environment.keys()
    assert environment["SLURM_JOB_ID"] == "3"
