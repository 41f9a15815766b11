"""What a job does when its stage has ended. Scripts give SLURM's answers; tests/slurm has a real SLURM."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from nodes import CANCELLED, DIES, PREEMPTED, RUNNING, STARTED_AGAIN, STOPS_AT_SIGTERM, Node

from jobs.cluster.batch_script import CANCEL_FILE
from jobs.cluster.node import MAX_KILLS, START_FILE, was_cancelled
from ssl_pkg.errors import FAULT
from ssl_pkg.run.run_log import last_events


def requeued(node: Node, times: int) -> bool:
    return node.calls.count("requeue 7") == times


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("status", [0, 1, 2])
def test_the_exit_status_of_a_stage_without_a_signal_is_that_of_the_job(node: Node, status: int) -> None:
    node.run_dir.mkdir(parents=True)
    (node.run_dir / "result.json").touch()
    assert node.start(f"raise SystemExit({status})").wait(30) == status
    assert not [call for call in node.calls if "requeue" in call]


def test_exit_status_0_without_a_result_is_a_failure(node: Node) -> None:
    assert node.start("raise SystemExit(0)").wait(30) == FAULT
    assert last_events(node.log)[-1] == "exit status 1 instead of 0, because there is no result.json"
    assert not [call for call in node.calls if "requeue" in call]


def test_exit_status_0_with_an_earlier_report_only_is_a_failure(node: Node) -> None:
    node.result, node.renewed = "report.pdf", True
    report = node.run_dir / "report.pdf"
    # a report of the same results has the same modification time
    write = f"import os; open({str(report)!r}, 'wb').write(b'%PDF'); os.utime({str(report)!r}, (7, 7))"
    report.parent.mkdir(parents=True)
    report.write_bytes(b"%PDF")
    os.utime(report, (7, 7))
    assert node.start("raise SystemExit(0)").wait(30) == FAULT
    assert last_events(node.log)[-1] == "exit status 1 instead of 0, because there is no new report.pdf"
    assert node.start(write).wait(30) == 0
    report.unlink()
    assert node.start(write).wait(30) == 0


def test_exit_status_0_without_a_result_after_a_signal_is_an_interruption(node: Node) -> None:
    """As podman ends if it gets a signal before its container runs."""
    job = node.start(STOPS_AT_SIGTERM.replace("75", "0"))
    node.until(lambda: "\nready\n" in node.log_text)
    job.send_signal(signal.SIGTERM)
    node.until(lambda: "requeue 7" in node.calls)


@pytest.mark.parametrize("shown", [RUNNING, PREEMPTED], ids=["limit", "preempted"])
def test_a_signal_is_followed_by_a_requeue_and_the_job_stays_until_slurm_ends_it(node: Node, shown: str) -> None:
    job = node.start(STOPS_AT_SIGTERM, shown)
    node.until(lambda: "\nready\n" in node.log_text)
    job.send_signal(signal.SIGTERM)
    node.until(lambda: "requeued" in last_events(node.log))
    assert node.calls == ["-o show job 7", "requeue 7"]
    time.sleep(0.2)
    assert job.poll() is None  # a job that ends by itself within its grace time would count as failed


def test_a_cancelled_job_is_not_requeued(node: Node) -> None:
    job = node.start(STOPS_AT_SIGTERM, CANCELLED)
    node.until(lambda: "\nready\n" in node.log_text)
    job.send_signal(signal.SIGTERM)
    assert job.wait(30) == 75
    assert node.calls == ["-o show job 7"]
    assert last_events(node.log)[-1] == "cancelled"


def test_a_job_that_is_cancelled_while_it_is_requeued_cancels_itself(node: Node, tmp_path: Path) -> None:
    """A requeue revives a cancelled job. `ssl-study cancel` creates a file beside the start file."""
    noted = tmp_path / CANCEL_FILE
    assert node.start(
        "raise SystemExit(75)", meanwhile=f"touch {noted}", **{START_FILE: f"{tmp_path}/start.7.0.x"}
    ).wait(30)
    assert node.calls == ["-o show job 7", "requeue 7", "scancel 7"]
    assert last_events(node.log)[-1] == "cancelled"
    assert node.start("raise SystemExit(75)", **{START_FILE: f"{tmp_path}/start.7.0.x"}).wait(30) == 75
    assert node.calls[3:] == ["-o show job 7", "scancel 7"]


@pytest.mark.slow
def test_a_job_that_is_cancelled_while_the_controller_does_not_respond_is_not_requeued(node: Node) -> None:
    job = node.start(
        "raise SystemExit(75)",
        refusal="Unexpected message received",
        meanwhile=f"sed -i 's/JobState=RUNNING/JobState=CANCELLED/' {node.folder}/scontrol",
    )
    assert job.wait(30) == 75
    assert node.calls == ["-o show job 7", "requeue 7", "-o show job 7", "scancel 7"]
    assert last_events(node.log)[-1] == "cancelled"


@pytest.mark.slow
def test_a_job_whose_batch_script_was_killed_does_not_count_as_cancelled(node: Node, tmp_path: Path) -> None:
    """SLURM shows such a job as COMPLETING, like a cancelled one."""
    script = subprocess.Popen(["sleep", "60"])
    node.start(STOPS_AT_SIGTERM, CANCELLED, **{START_FILE: str(tmp_path / f"start.7.0.{script.pid}")})
    node.until(lambda: "\nready\n" in node.log_text)
    script.kill()
    script.wait()
    node.until(lambda: "requeue 7" in node.calls)
    assert "the batch script was killed" in last_events(node.log)
    assert "cancelled" not in last_events(node.log)


def test_a_preempted_job_that_slurm_ends_is_not_requeued_here(node: Node) -> None:
    """SLURM requeues it, or it was cancelled during its grace time; then a requeue would revive it."""
    job = node.start(STOPS_AT_SIGTERM, PREEMPTED.replace("RUNNING", "COMPLETING"))
    node.until(lambda: "\nready\n" in node.log_text)
    job.send_signal(signal.SIGTERM)
    assert job.wait(30) == 75
    assert node.calls == ["-o show job 7"]


def test_a_job_is_not_requeued_for_a_process_that_failed(node: Node) -> None:
    """srun then ends the other processes with the signal of a preemption."""
    first = node.start(STOPS_AT_SIGTERM)
    node.until(lambda: "\nready\n" in node.log_text)
    assert node.start("raise SystemExit(1)", SLURM_PROCID="1").wait(30) == 1
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 1
    assert not [call for call in node.calls if "requeue" in call]
    again = node.start(STOPS_AT_SIGTERM, SLURM_RESTART_COUNT="1")  # a failure in an earlier start does not count
    node.until(lambda: node.log_text.count("\nready\n") == 2)
    again.send_signal(signal.SIGTERM)
    node.until(lambda: "requeue 7" in node.calls)


@pytest.mark.parametrize("status", [255, 127, 200])
def test_exit_statuses_of_a_container_client_above_those_of_signals_are_failures(node: Node, status: int) -> None:
    assert node.start(f"raise SystemExit({status})").wait(30) == status
    assert not [call for call in node.calls if "requeue" in call]


def test_a_stage_that_was_interrupted_without_its_job_is_requeued(node: Node) -> None:
    node.start("raise SystemExit(75)")
    node.until(lambda: "requeue 7" in node.calls)


def test_a_task_of_an_array_is_requeued_by_its_own_id(node: Node) -> None:
    """SLURM_JOB_ID of the last task is the id of the whole array, by which all tasks would be requeued."""
    node.start("raise SystemExit(75)", SLURM_JOB_ID="149", SLURM_ARRAY_JOB_ID="149", SLURM_ARRAY_TASK_ID="1")
    node.until(lambda: "requeue 149_1" in node.calls)
    assert node.calls == ["-o show job 149_1", "requeue 149_1"]


def test_only_the_first_process_of_a_job_requeues_it(node: Node) -> None:
    job = node.start("raise SystemExit(75)", SLURM_PROCID="1")
    log = node.log.with_suffix(".rank1.log")
    node.until(lambda: node.calls)
    time.sleep(0.3)
    assert node.calls == ["-o show job 7"]
    assert job.poll() is None
    assert "exit status 75" in log.read_text()


def test_a_killed_stage_is_requeued_unless_it_dies_at_the_same_step_too_often(node: Node) -> None:
    for death in range(1, MAX_KILLS + 1):
        node.start(DIES)
        node.until(partial(requeued, node, death))
    assert node.start(DIES).wait(30) == 1
    assert node.calls.count("requeue 7") == MAX_KILLS
    assert "not requeued again: is `memory`" in node.log_text


@pytest.mark.parametrize(
    "text", ["[]", '{"place": [null, null]}', '{"place": [null, null], "count": "1"}', "[" * 10_000]
)
def test_a_damaged_record_of_kills_is_ignored(node: Node, text: str) -> None:
    file = node.folder / "runs" / "study" / ".jobs" / "kills" / "a.json"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    node.start(DIES)
    node.until(partial(requeued, node, 1))


def test_the_records_of_the_report_are_in_the_folder_of_the_study_and_not_in_that_of_the_reports(node: Node) -> None:
    node.run_dir = node.folder / "reports" / "study"
    node.start(DIES)
    node.until(partial(requeued, node, 1))
    assert (node.folder / "runs" / "study" / ".jobs" / "kills" / "a.json").exists()
    assert not (node.folder / "reports" / ".jobs").exists()


def test_an_earlier_start_ends_with_status_0_so_that_slurm_does_not_end_the_later_one(node: Node) -> None:
    assert node.start("raise SystemExit(1)", STARTED_AGAIN).wait(30) == 0
    assert node.calls == ["-o show job 7"]


@pytest.mark.slow
def test_a_command_is_retried_while_the_controller_does_not_respond(node: Node) -> None:
    node.start("raise SystemExit(75)", failures=1)
    node.until(lambda: "requeued" in last_events(node.log))
    assert node.calls == ["-o show job 7", "-o show job 7", "requeue 7"]
    assert "Unable to contact slurm controller" in node.log_text


@pytest.mark.slow
def test_a_command_whose_answer_was_lost_is_retried(node: Node) -> None:
    node.start("raise SystemExit(75)", refusal="Unexpected message received for job 7")
    node.until(lambda: node.calls.count("requeue 7") == 2)


def test_a_job_that_another_process_has_requeued_counts_as_requeued(node: Node) -> None:
    node.start("raise SystemExit(75)", refusal="Job is pending execution for job 7")
    node.until(lambda: "requeued" in last_events(node.log))


def test_a_refused_requeue_says_what_to_do(node: Node) -> None:
    node.start("raise SystemExit(75)", refusal="Requested operation is presently disabled")
    node.until(lambda: "submit the study again" in node.log_text)
    assert "presently disabled" in node.log_text
    assert "<<< requeued" not in node.log_text


@pytest.mark.parametrize(
    ("known", "cancelled"),
    [
        ({"JobState": "COMPLETING", "PreemptTime": "None"}, True),
        ({"JobState": "CANCELLED"}, True),
        ({"JobState": "RUNNING", "PreemptTime": "None"}, False),
        ({"JobState": "COMPLETING", "Reason": "TimeLimit"}, False),
        ({"JobState": "COMPLETING", "PreemptTime": "2026-01-01T10:00:00", "StartTime": "2026-01-01T09:00:00"}, False),
        ({"JobState": "COMPLETING", "PreemptTime": "2026-01-01T08:00:00", "StartTime": "2026-01-01T09:00:00"}, True),
        ({}, False),
    ],
    ids=["completing", "cancelled", "running", "limit", "preempted", "preempted-earlier", "unknown"],
)
def test_which_jobs_count_as_cancelled(known: dict[str, str], cancelled: bool) -> None:
    assert was_cancelled(known) is cancelled


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_stage_stops_when_the_batch_script_on_its_node_is_gone(node: Node, tmp_path: Path, rank: str) -> None:
    script = subprocess.Popen(["sleep", "60"])
    try:
        mark = tmp_path / f"start.7.0.{script.pid}"
        job = node.start(STOPS_AT_SIGTERM, STARTED_AGAIN, **{START_FILE: str(mark), "SLURM_PROCID": rank})
        log = node.log.with_suffix(".rank1.log") if rank == "1" else node.log
        node.until(lambda: log.exists() and "\nready\n" in log.read_text())
        script.kill()  # a zombie, until wait()
        if rank == "1":  # its script would be on another node
            time.sleep(3)
            assert job.poll() is None
            job.terminate()
        assert job.wait(20) == 0
        assert "exit status 75" in log.read_text()
    finally:
        script.kill()
        script.wait()


def test_the_start_file_shows_that_a_stage_has_begun_and_ended(node: Node, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    job = node.start(
        f"import os, sys; sys.exit(2 if os.path.getsize({str(mark)!r}) == 0 else 3)", **{START_FILE: str(mark)}
    )
    assert job.wait(30) == 2
    assert mark.read_text() == "2\n"
