import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jobs.__main__ import main
from jobs.cluster.batches import Batch
from jobs.ledger import REPORT, Entry, State, read_ledger, write_ledger
from jobs.status.states import Row, make_row, read_rows, status_json
from jobs.status.table import plain_lines
from jobs.study_lock import LockHolder, read_lock_holder, write_lock_holder
from ssl_pkg.run.directory import RunDirectory, write_json


def begun(folder: Path, name: str, **status: object) -> Path:
    run = folder / name
    run.mkdir(parents=True)
    (run / "config.yaml").touch()
    if status:
        write_json(run / "status", {"phase": "train", "step": 30, "steps": 120, "rate": 2.0, **status})
    return run


def states(folder: Path) -> dict[str, State]:
    return {row.name: row.state for row in read_rows(folder)}


def test_a_running_run_shows_its_progress(tmp_path: Path) -> None:
    now = time.time()
    begun(tmp_path, "a", heartbeat=now)
    row = make_row(tmp_path, "a", Entry(State.RUNNING, started=now - 15), now)
    assert row == Row("a", State.RUNNING, "train", 30, 120, 2.0, left=45.0, elapsed=15.0)
    assert row.fraction == 0.25


def test_a_run_with_parts_shows_them_and_no_time_left_of_a_single_phase(tmp_path: Path) -> None:
    now = time.time()
    begun(tmp_path, "a", heartbeat=now, part=3, parts=5)
    row = make_row(tmp_path, "a", Entry(State.RUNNING, started=now - 15), now)
    assert (row.part, row.parts, row.left) == (3, 5, None)
    assert row.fraction == 0.4
    assert "part 3 of 5: train 30/120" in plain_lines([row])[1]


def test_a_run_with_a_single_part_shows_the_progress_of_its_phase(tmp_path: Path) -> None:
    now = time.time()
    begun(tmp_path, "a", heartbeat=now, part=1, parts=1)
    row = make_row(tmp_path, "a", Entry(State.RUNNING, started=now - 15), now)
    assert (row.fraction, row.left) == (0.25, 45.0)
    assert "part" not in plain_lines([row])[1]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"step": "x", "steps": null}', '{"heartbeat": true, "rate": 0}'])
def test_a_damaged_status_file_is_ignored(tmp_path: Path, text: str) -> None:
    (begun(tmp_path, "a") / "status").write_text(text)
    row = make_row(tmp_path, "a", Entry(State.RUNNING, started=1.0), 3.0)
    assert row == Row("a", State.RUNNING, elapsed=2.0)
    assert make_row(tmp_path, "missing", Entry(State.RUNNING), 3.0) == Row("missing", State.RUNNING)


def test_the_status_of_an_earlier_start_is_not_shown(tmp_path: Path) -> None:
    begun(tmp_path, "a", heartbeat=100.0)
    row = make_row(tmp_path, "a", Entry(State.RUNNING, started=200.0), 201.0)
    assert (row.step, row.elapsed) == (None, None)  # an elapsed time of 1 s would jump at the first report
    assert make_row(tmp_path, "a", Entry(State.INTERRUPTED, started=200.0, ended=203.0), 900.0).elapsed == 3.0


def test_the_elapsed_time_is_that_of_all_starts_also_before_the_run_is_complete(tmp_path: Path) -> None:
    begun(tmp_path, "a", heartbeat=210.0, earlier_seconds=100.0)
    row = make_row(tmp_path, "a", Entry(State.RUNNING, started=200.0), 212.0)
    assert (row.elapsed, row.earlier) == (112.0, 100.0)
    assert make_row(tmp_path, "a", Entry(State.INTERRUPTED, started=200.0, ended=213.0), 900.0).elapsed == 113.0


def test_the_ledger_counts_for_runs_that_were_started_here_after_they_were_submitted(tmp_path: Path) -> None:
    begun(tmp_path, "a")
    Batch("token", "test", ("a",), number="7", made=100.0).write(tmp_path)
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "a.log").write_text(
        "<<< job 7, start 1, on x\n>>> now\n<<< exit status 75 after 3 s\n<<< cancelled\n"
    )
    for started, state in ((50.0, State.CANCELLED), (150.0, State.FAILED)):
        write_ledger(tmp_path, {"a": Entry(State.FAILED, started=started, ended=started + 3, exit_status=1)})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("jobs.cluster.outcomes.query_jobs", lambda wanted: {})
            assert states(tmp_path) == {"a": state}


@pytest.mark.parametrize("submitted", [True, False])
def test_a_complete_run_ended_when_it_wrote_its_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, submitted: bool
) -> None:
    """Here and on a cluster, also if the ledger knows no end, or that of an earlier start."""
    monkeypatch.setattr("jobs.cluster.outcomes.query_jobs", lambda wanted: {})
    write_json(begun(tmp_path, "a") / "result.json", {"seconds": 9.0})
    os.utime(tmp_path / "a" / "result.json", (1000.0, 1000.0))
    log = tmp_path / "logs" / "report.log"
    log.parent.mkdir()
    log.write_text("<<< job 8, start 1, on x\n>>> now\n<<< exit status 0 after 3 s\n")
    os.utime(log, (2000.0, 2000.0))
    entries = {"a": Entry(State.FAILED, started=50.0, ended=60.0), "report": Entry()}
    if submitted:
        for number, name in (("7", "a"), ("8", "report")):
            Batch(f"token{number}", "test", (name,), number=number, made=100.0).write(tmp_path)
    else:
        entries["report"] = Entry(State.COMPLETE)
    write_ledger(tmp_path, entries)
    runs = status_json(tmp_path)["runs"]
    assert [(run["name"], run["state"], run["ended"]) for run in runs] == [
        ("a", "complete", 1000.0),
        ("report", "complete", 2000.0),
    ]


def test_a_cancelled_run_stays_cancelled_when_slurm_has_forgotten_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jobs.cluster.outcomes.query_jobs", lambda wanted: {})
    for name, number in (("a", "7"), ("b", "8")):
        Batch(f"token{number}", "test", (name,), number=number, made=100.0).write(tmp_path)
    Batch("token9", "test", ("c",), "afterok:7", number="9", made=100.0).write(tmp_path)
    write_ledger(tmp_path, {"a": Entry(State.CANCELLED), "b": Entry(), "c": Entry(State.CANCELLED)})
    assert states(tmp_path) == {"a": State.CANCELLED, "b": State.INTERRUPTED, "c": State.CANCELLED}


def test_run_directories_override_the_ledger_of_a_dead_runner(tmp_path: Path) -> None:
    now = time.time()
    recorded = {
        "running": State.RUNNING,
        "still-alive": State.RUNNING,
        "finished-since": State.RUNNING,
        "removed": State.COMPLETE,
        "failed": State.FAILED,
        "blocked": State.BLOCKED,
        "report": State.COMPLETE,
    }
    write_ledger(tmp_path, {name: Entry(state, exit_status=1) for name, state in recorded.items()})
    begun(tmp_path, "still-alive", heartbeat=now)
    begun(tmp_path, "running", heartbeat=now - 300)
    write_json(begun(tmp_path, "finished-since") / "result.json", {"seconds": 12.0})
    begun(tmp_path, "by-hand")
    assert states(tmp_path) == {
        "running": State.INTERRUPTED,
        "still-alive": State.RUNNING,
        "finished-since": State.COMPLETE,
        "removed": State.PENDING,
        "failed": State.FAILED,
        "blocked": State.BLOCKED,
        "report": State.COMPLETE,
        "by-hand": State.INTERRUPTED,
    }
    assert read_ledger(tmp_path)["failed"] == Entry(State.FAILED, exit_status=1)


def test_the_ledger_counts_while_its_runner_is_alive(tmp_path: Path) -> None:
    write_ledger(tmp_path, {"a": Entry(State.RUNNING, started=1.0)})
    write_lock_holder(tmp_path)
    holder = read_lock_holder(tmp_path)
    assert holder
    assert holder.alive
    assert states(tmp_path) == {"a": State.RUNNING}
    assert not LockHolder(holder.pid, holder.host, "another start time").alive
    assert not LockHolder(holder.pid, "elsewhere", holder.start_time).alive


ODD_FIELD = '{"a": {"state": "failed", "x": 1}}'


@pytest.mark.parametrize(
    "text", ["", "[]", "[" * 10_000, '{"a": 1}', '{"a": {"state": "odd"}}', '{"a": {"x": 1}}', ODD_FIELD]
)
def test_a_damaged_ledger_is_ignored(tmp_path: Path, text: str) -> None:
    (tmp_path / ".jobs").mkdir()
    (tmp_path / ".jobs" / "ledger.json").write_text(text)
    (tmp_path / ".runner").write_text(text)
    assert read_ledger(tmp_path) == {}
    assert read_lock_holder(tmp_path) is None
    assert read_rows(tmp_path) == []


def test_a_complete_run_shows_its_headline(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for headline, shown in (
        ({"label": "test", "value": 0.8125}, "81.2 % test"),
        ({"label": "test", "value": None}, None),
        (None, None),
    ):
        write_json(tmp_path / "a" / "result.json", {"stage": "probe", "seconds": 1.0, "headline": headline})
        assert make_row(tmp_path, "a", Entry(State.COMPLETE), 3.0).result == shown


@pytest.mark.parametrize(
    "entry",
    [
        Entry(State.COMPLETE),  # in the ledger of a second start
        Entry(State.COMPLETE, started=100.0, ended=160.0),
        Entry(State.RUNNING, started=100.0),  # the runner was killed before the run's end
    ],
)
def test_the_elapsed_time_of_a_complete_run_is_that_of_its_result(tmp_path: Path, entry: Entry) -> None:
    write_json(begun(tmp_path, "a") / "result.json", {"seconds": 42.5})
    write_ledger(tmp_path, {"a": entry})
    assert [row.elapsed for row in read_rows(tmp_path)] == [42.5]


def test_the_elapsed_time_of_a_killed_runners_run_does_not_grow(tmp_path: Path) -> None:
    begun(tmp_path, "a")
    write_ledger(tmp_path, {"a": Entry(State.RUNNING, started=100.0)})
    assert [(row.state, row.elapsed) for row in read_rows(tmp_path)] == [(State.INTERRUPTED, None)]


def test_status_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(begun(tmp_path / "demo", "a") / "result.json", {"seconds": 12.0})
    write_ledger(tmp_path / "demo", {"a": Entry(), REPORT: Entry(State.COMPLETE)})
    assert main(["status", "demo", "--runs", str(tmp_path), "--json"]) == 0
    status = json.loads(capsys.readouterr().out)
    assert status["totals"] == {"complete": 1}
    assert status["runner"] is None
    assert status["runs"][0]["elapsed"] == 12.0


def test_status_is_fast_and_plain_without_a_terminal(tmp_path: Path) -> None:
    RunDirectory(begun(tmp_path / "demo", "a")).write_status(phase="train", step=1, steps=2, rate=None)
    asking = (
        "import sys, resource; sys.argv[0] = 'jobs'; from jobs.__main__ import main;"
        f"main(['status', 'demo', '--runs', {str(tmp_path)!r}]);"
        "usage = resource.getrusage(resource.RUSAGE_SELF); print(usage.ru_utime + usage.ru_stime);"
        "print([name for name in ('torch', 'hydra', 'pydantic', 'submitit') if name in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", asking], capture_output=True, text=True, check=True).stdout
    *table, cpu, heavy = output.splitlines()
    assert table[1].split() == ["a", "interrupted", "train", "1/2"]
    assert "\x1b" not in output
    assert heavy == "[]"
    assert float(cpu) < 1.0


def test_a_run_whose_cluster_does_not_answer_is_running_as_long_as_it_has_a_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conf = str(tmp_path / "slurm.conf")
    monkeypatch.setenv("SLURM_CONF", conf)  # does not exist
    for number, name in (("7", "a"), ("8", "b")):
        Batch(f"token{number}", "test", (name,), (), conf, number, made=100.0).write(tmp_path)
    begun(tmp_path, "a", heartbeat=time.time())
    begun(tmp_path, "b", heartbeat=time.time() - 300)
    write_ledger(tmp_path, {"a": Entry(), "b": Entry()})
    assert states(tmp_path) == {"a": State.RUNNING, "b": State.PENDING}
