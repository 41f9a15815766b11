import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.cluster.batch_script import SETUP_DONE, SETUP_FAILED, START_LINE
from jobs.cluster.batches import Batch, SubmittedJob, newest_jobs, read_batches
from jobs.cluster.job_queries import SlurmJobInfo
from jobs.cluster.outcomes import ENDED_IN_SETUP, JobOutcome, _from_log, _from_output, _from_slurm, _OutcomeResolver
from jobs.cluster.slurm_cli import SchedulerUnavailable, run_slurm
from jobs.ledger import REPORT, Entry, State, log_path, write_ledger
from jobs.status.states import read_status

LOG = ">>> 2026-01-01 10:00:00 python -m ssl_pkg\n{output}\n<<< exit status {status} after 3 s\n{words}"


def batch(number: str, *names: str, after: str = "") -> Batch:
    return Batch("token" + number, "test", names, after, number=number)


def test_a_batch_of_one_run_is_a_job_and_of_several_an_array(tmp_path: Path) -> None:
    batch("7", "a").write(tmp_path)
    batch("12", "b-s0", "b-s1").write(tmp_path)
    Batch.new("test", ("never-submitted",)).write(tmp_path)
    (tmp_path / ".jobs/slurm/torn.json").write_text('{"token": ')
    (tmp_path / ".jobs/slurm/other.json").write_text(json.dumps({"number": 1}))
    jobs = newest_jobs(read_batches(tmp_path))
    assert {name: job.id for name, job in jobs.items()} == {"a": "7", "b-s0": "12_0", "b-s1": "12_1"}


def test_the_newest_job_of_a_run_counts_although_job_ids_have_restarted(tmp_path: Path) -> None:
    for made, number in enumerate(("9", "100", "10")):
        replace(batch(number, "a"), made=float(made)).write(tmp_path)
    assert newest_jobs(read_batches(tmp_path))["a"].id == "10"


def resolved(
    tmp_path: Path, info: SlurmJobInfo | None, parent: State = State.RUNNING, after: str = "afterok:1"
) -> JobOutcome:
    resolver = _OutcomeResolver(tmp_path, {"1": "parent", "3_0": "parent"})
    resolver.found["parent"] = JobOutcome(parent, "1")
    return resolver.resolve("child", SubmittedJob("2_0", batch("2", "child", "other", after=after)), info)


@pytest.mark.parametrize("after", ["afterok:1", "aftercorr:3", "afterok:3"])
def test_the_note_of_a_pending_run_names_its_parent(tmp_path: Path, after: str) -> None:
    waiting = SlurmJobInfo("PENDING", "Dependency", 2)
    assert resolved(tmp_path, waiting, after=after) == JobOutcome(State.PENDING, "2_0", "after parent", 2)
    assert resolved(tmp_path, SlurmJobInfo("PENDING", "Priority", 0)) == JobOutcome(State.PENDING, "2_0", "Priority", 0)


@pytest.mark.parametrize("parent", [State.FAILED, State.CANCELLED, State.INTERRUPTED, State.BLOCKED])
def test_a_run_is_blocked_as_soon_as_its_parent_is_unsuccessful(tmp_path: Path, parent: State) -> None:
    outcome = resolved(tmp_path, SlurmJobInfo("PENDING", "Dependency", 0), parent)
    assert (outcome.state, outcome.note) == (State.BLOCKED, "needs parent")


@pytest.mark.parametrize("parent", [State.FAILED, State.CANCELLED, State.INTERRUPTED, State.BLOCKED])
@pytest.mark.parametrize("info", [SlurmJobInfo("CANCELLED", "", 0), None])
def test_a_run_that_slurm_removed_because_its_parent_failed_is_blocked(
    tmp_path: Path, parent: State, info: SlurmJobInfo | None
) -> None:
    outcome = resolved(tmp_path, info, parent)
    assert (outcome.state, outcome.note) == (State.BLOCKED, "needs parent")


@pytest.mark.parametrize("parent", [State.FAILED, State.CANCELLED, State.BLOCKED])
def test_a_report_waits_for_the_end_of_runs_not_for_their_success(tmp_path: Path, parent: State) -> None:
    waiting = SlurmJobInfo("PENDING", "Priority", 0)
    assert resolved(tmp_path, waiting, parent, "afterany:1") == JobOutcome(State.PENDING, "2_0", "Priority", 0)
    running = resolved(tmp_path, SlurmJobInfo("PENDING", "Dependency", 0), State.RUNNING, "afterany:1")
    assert running.note == "after parent"


def test_a_run_with_dependency_never_satisfied_is_blocked(tmp_path: Path) -> None:
    assert resolved(tmp_path, SlurmJobInfo("PENDING", "DependencyNeverSatisfied", 0)).state is State.BLOCKED


@pytest.mark.parametrize(
    ("status", "words", "state", "note"),
    [
        (1, "", State.FAILED, "the cause"),
        (2, "", State.FAILED, "the cause"),
        (-9, "", State.FAILED, "the cause"),
        (75, "", State.INTERRUPTED, "not requeued"),
        (75, "<<< requeued\n", State.INTERRUPTED, "not requeued"),
        (0, "", State.COMPLETE, None),
    ],
)
def test_without_accounting_the_log_shows_how_a_job_ended(
    tmp_path: Path, status: int, words: str, state: State, note: str | None
) -> None:
    log = tmp_path / "log"
    log.write_text(LOG.format(output="progress\nthe cause", status=status, words=words))
    outcome = _from_log(log, "1")
    assert outcome is not None
    assert (outcome.state, outcome.note) == (state, note)
    assert outcome.exit_status == (status if state is State.FAILED else None)


def test_the_log_is_enough_to_recognize_a_cancelled_run(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(LOG.format(output="", status=75, words="<<< cancelled\n"))
    assert _from_slurm(log, "1", "") == JobOutcome(State.CANCELLED, "1")
    log.write_text(log.read_text() + LOG.format(output="resumed", status=1, words=""))
    assert _from_slurm(log, "1", "") is None


@pytest.mark.parametrize(
    ("word", "state"),
    [
        ("CANCELLED", State.CANCELLED),
        ("OUT_OF_MEMORY", State.FAILED),
        ("TIMEOUT", State.INTERRUPTED),
        ("NODE_FAIL", State.INTERRUPTED),
        ("COMPLETED", State.COMPLETE),
    ],
)
def test_the_outcome_by_slurms_job_state(tmp_path: Path, word: str, state: State) -> None:
    outcome = _from_slurm(tmp_path / "no-log", "1", word)
    assert outcome is not None
    assert outcome.state is state


def test_the_note_of_a_job_that_left_the_queue_says_so(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "child.log"
    log.parent.mkdir()
    log.write_text("<<< job 1, start 1, on a\n>>> now\nsaid\n")
    outcome = _OutcomeResolver(tmp_path, {}).resolve("child", SubmittedJob("1", batch("1", "child")), None)
    assert outcome == JobOutcome(State.INTERRUPTED, "1", "not in the queue: submit again")


def test_a_run_whose_result_was_removed_is_not_complete(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "child.log"
    log.parent.mkdir()
    log.write_text("<<< job 1, start 1, on a\n" + LOG.format(output="", status=0, words=""))
    resolver = _OutcomeResolver(tmp_path, {})
    for info in (None, SlurmJobInfo("COMPLETED")):
        outcome = resolver.resolve("child", SubmittedJob("1", batch("1", "child")), info)
        assert outcome == JobOutcome(State.INTERRUPTED, "1", "its result is missing")
    log.rename(log.with_stem("report"))  # which has no run directory
    assert (
        resolver.resolve("report", SubmittedJob("1", batch("1", "report")), SlurmJobInfo("COMPLETED")).state
        is State.COMPLETE
    )


@pytest.mark.parametrize(
    ("printed", "word", "state", "note"),
    [
        ([], "", State.INTERRUPTED, "not in the queue: submit again"),
        ([], "FAILED", State.FAILED, "ended without output"),
        (["python: not found", "srun: error: a: task 0: Exited"], "", State.FAILED, "python: not found"),
        (["no python", "srun: the stage has not begun (status 127): retrying in 5 s"], "", State.FAILED, "no python"),
        (["of old", "srun: error: Unable to create step"], "", State.FAILED, "srun: error: Unable to create step"),
        ([], "CANCELLED", State.CANCELLED, None),
        (["slurmstepd: error: *** JOB 5 ON a CANCELLED AT 2026-01-01T10:00:00 ***"], "", State.CANCELLED, None),
        (["*** STEP 5.0 ON a CANCELLED AT 2026-01-01 ***", "Killed"], "", State.FAILED, "Killed"),
        (["JOB 5 ON a CANCELLED AT 2026-01-01 DUE TO TIME LIMIT", "Terminated"], "", State.INTERRUPTED, "timeout"),
        (["JOB 5 ON a CANCELLED AT 2026-01-01 DUE TO NODE FAILURE"], "", State.FAILED, "JOB 5 ON a CANCELLED AT"),
        (["setting up", "module: command not found"], "FAILED", State.FAILED, "module: command not found"),
    ],
)
def test_the_outcome_of_a_job_without_a_log_comes_from_its_output(
    printed: list[str], word: str, state: State, note: str | None
) -> None:
    outcome = _from_output(printed, "5", word)
    assert outcome.state is state
    assert (outcome.note or "").startswith(note or "")


def printed(tmp_path: Path, out: str, err: str = "") -> SubmittedJob:
    """A job with these output files."""
    job = SubmittedJob("1", batch("1", "child"))
    folder = tmp_path / ".jobs/slurm" / job.batch.token
    folder.mkdir(parents=True)
    (folder / "1_0_log.out").write_text(out)
    (folder / "1_0_log.err").write_text(err)
    return job


def test_a_set_up_line_that_failed_in_an_earlier_start_does_not_count(tmp_path: Path) -> None:
    first, second = f"{START_LINE}1\n", f"{START_LINE}2\n"
    job = printed(
        tmp_path, f"{first}{second}{SETUP_DONE}\n", f"{first}{SETUP_FAILED}1 failed (status 1): false\n{second}"
    )
    log_path(tmp_path, "report").parent.mkdir()
    log_path(tmp_path, "report").write_text("<<< job 1, start 2, on a\n" + LOG.format(output="", status=0, words=""))
    assert _OutcomeResolver(tmp_path, {}).resolve("report", job, None).state is State.COMPLETE


@pytest.mark.parametrize("info", [None, SlurmJobInfo("COMPLETED"), SlurmJobInfo("FAILED")])
def test_the_note_says_that_a_set_up_line_replaced_or_killed_the_script(
    tmp_path: Path, info: SlurmJobInfo | None
) -> None:
    outcome = _OutcomeResolver(tmp_path, {}).resolve(
        "child", printed(tmp_path, f"{START_LINE}1\n", f"{START_LINE}1\n"), info
    )
    assert (outcome.state, outcome.note) == (State.FAILED, ENDED_IN_SETUP)


def test_a_job_that_reached_its_time_limit_during_the_set_up_has_not_failed(tmp_path: Path) -> None:
    job = printed(tmp_path, f"{START_LINE}1\n", f"{START_LINE}1\nTerminated\n")
    outcome = _OutcomeResolver(tmp_path, {}).resolve("child", job, SlurmJobInfo("TIMEOUT", "TimeLimit"))
    assert (outcome.state, outcome.note) == (State.INTERRUPTED, "timeout")


def test_the_log_of_an_earlier_job_does_not_count_for_a_later_one(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "child.log"
    log.parent.mkdir()
    log.write_text("<<< job 1, start 1, on a\n" + LOG.format(output="the cause", status=1, words=""))
    resolver = _OutcomeResolver(tmp_path, {})
    assert resolver.resolve("child", SubmittedJob("1", batch("1", "child")), None).state is State.FAILED
    assert (
        resolver.resolve("child", SubmittedJob("2", batch("2", "child")), None).note == "not in the queue: submit again"
    )


def test_a_missing_slurm_conf_is_an_error_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM's commands would try to fetch one for a minute."""
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\nsleep 60\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin")
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    began = time.monotonic()
    with pytest.raises(SchedulerUnavailable, match=r"slurm\.conf does not exist"):
        run_slurm("squeue")
    assert time.monotonic() - began < 30


def test_a_complete_report_stays_complete_when_the_cluster_is_unreachable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in (("1", "probe"), ("2", REPORT)):
        replace(batch(number, name), conf=str(tmp_path / "slurm.conf")).write(tmp_path)
    write_ledger(tmp_path, dict.fromkeys(("probe", REPORT), Entry()))
    log = log_path(tmp_path, REPORT)
    log.parent.mkdir()
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    states = {}
    for job in ("1", "2"):  # of an earlier report, and of this one
        log.write_text(f"<<< job {job}, start 1, on a\n" + LOG.format(output="", status=0, words=""))
        rows, warning = read_status(tmp_path)
        assert warning and "does not respond" in warning
        states[job] = [row.state for row in sorted(rows, key=lambda row: row.name)]
    assert states == {"1": [State.PENDING, State.PENDING], "2": [State.PENDING, State.COMPLETE]}


def test_the_status_of_a_complete_study_does_not_need_its_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace(batch("1", REPORT), conf=str(tmp_path / "slurm.conf")).write(tmp_path)
    write_ledger(tmp_path, {REPORT: Entry()})
    log = log_path(tmp_path, REPORT)
    log.parent.mkdir()
    log.write_text("<<< job 1, start 1, on a\n" + LOG.format(output="", status=0, words=""))
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "slurm.conf"))
    rows, warning = read_status(tmp_path)
    assert ([row.state for row in rows], warning) == ([State.COMPLETE], None)


@pytest.mark.parametrize("word", ["RUNNING", "COMPLETING"])
def test_a_running_run_has_the_start_and_the_restarts_of_its_job(tmp_path: Path, word: str) -> None:
    outcome = resolved(tmp_path, SlurmJobInfo(word, "", 3, 1000.0))
    assert outcome == JobOutcome(State.RUNNING, "2_0", None, 3, 1000.0)
