"""What a job says to SLURM when its stage has ended. The answers are written down here; tests/slurm has real ones."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from jobs.cluster.batch_script import CANCEL_FILE
from jobs.cluster.node import MAX_KILLS, START_FILE, copy_data, was_cancelled
from jobs.stage_process import last_words
from ssl_pkg.errors import FAULT

SCONTROL = """\
#!/bin/sh
echo "$@" >> {folder}/calls
if [ "$(wc -l < {folder}/calls)" -le {absences} ]; then
  echo "Unable to contact slurm controller (connect failure)" >&2; exit 1
fi
case "$1" in
  requeue) {meanwhile}; echo "{refusal}" >&2; exit {status};;
  *) echo "{shown}";;
esac
"""
RUNNING = "JobState=RUNNING Reason=None PreemptTime=None Restarts=0"
PREEMPTED = "JobState=RUNNING Reason=None PreemptTime=2026-01-01T10:00:00 StartTime=2026-01-01T09:00:00 Restarts=0"
CANCELLED = "JobState=COMPLETING Reason=None PreemptTime=None Restarts=0"
STARTED_AGAIN = "JobState=RUNNING Reason=None PreemptTime=None Restarts=1"
OBEDIENT = (
    "import signal, sys, time; signal.signal(signal.SIGTERM, lambda n, _: sys.exit(75));"
    "print('ready', flush=True); time.sleep(30)"
)
DIES = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"


class Node:
    """A job on a node whose SLURM answers as it was told."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "runs" / "study" / "logs" / "a.log"
        self.run_dir = folder / "runs" / "study" / "a"
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self,
        code: str,
        shown: str = RUNNING,
        absences: int = 0,
        refusal: str = "",
        meanwhile: str = "true",
        **environment: str,
    ) -> "subprocess.Popen[str]":
        words = {"folder": self.folder, "absences": absences, "refusal": refusal, "shown": shown}
        answers = SCONTROL.format(**words, status=1 if refusal else 0, meanwhile=meanwhile)
        for name, content in (
            ("scontrol", answers),
            ("scancel", f'#!/bin/sh\necho scancel "$@" >> {self.folder}/calls\n'),
        ):
            (self.folder / name).write_text(content)
            (self.folder / name).chmod(0o755)
        job = (
            "from pathlib import Path; from jobs.cluster.node import NodeStage; "
            f"NodeStage(({sys.executable!r}, '-c', {code!r}), Path({str(self.run_dir)!r}), "
            f"Path({str(self.log)!r}), result='result.json')()"
        )
        changed = {"PATH": f"{self.folder}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", "SLURM_RESTART_COUNT": "0"}
        started = subprocess.Popen([sys.executable, "-c", job], env=os.environ | changed | environment, text=True)
        self._started.append(started)
        return started

    @property
    def calls(self) -> list[str]:
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    @property
    def said(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def until(self, holds: Callable[[], object]) -> None:
        end = time.monotonic() + 30
        while not holds():
            assert time.monotonic() < end, self.said
            time.sleep(0.02)

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.wait()


def requeued(node: Node, times: int) -> bool:
    return node.calls.count("requeue 7") == times


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    made = Node(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize("status", [0, 1, 2])
def test_a_stage_that_ends_by_itself_gives_its_status_and_is_not_requeued(node: Node, status: int) -> None:
    node.run_dir.mkdir(parents=True)
    (node.run_dir / "result.json").touch()
    assert node.start(f"raise SystemExit({status})").wait(30) == status
    assert not [call for call in node.calls if "requeue" in call]


def test_a_success_without_a_result_is_none(node: Node) -> None:
    assert node.start("raise SystemExit(0)").wait(30) == FAULT
    assert last_words(node.log)[-1] == "exit status 1 after all, since there is no result.json"
    assert not [call for call in node.calls if "requeue" in call]


def test_a_success_that_a_signal_brought_about_is_an_interruption(node: Node) -> None:
    """A podman that is signalled before its container runs ends so."""
    job = node.start(OBEDIENT.replace("75", "0"))
    node.until(lambda: "\nready\n" in node.said)
    job.send_signal(signal.SIGTERM)
    node.until(lambda: "requeue 7" in node.calls)


@pytest.mark.parametrize("shown", [RUNNING, PREEMPTED], ids=["limit", "preempted"])
def test_a_signal_is_followed_by_a_requeue_and_the_job_stays_until_slurm_ends_it(node: Node, shown: str) -> None:
    job = node.start(OBEDIENT, shown)
    node.until(lambda: "\nready\n" in node.said)
    job.send_signal(signal.SIGTERM)
    node.until(lambda: "requeued" in last_words(node.log))
    assert node.calls == ["-o show job 7", "requeue 7"]
    time.sleep(0.2)
    assert job.poll() is None  # SLURM would call a job that ends within its grace failed


def test_a_cancelled_job_is_not_requeued(node: Node) -> None:
    job = node.start(OBEDIENT, CANCELLED)
    node.until(lambda: "\nready\n" in node.said)
    job.send_signal(signal.SIGTERM)
    assert job.wait(30) == 75
    assert node.calls == ["-o show job 7"]
    assert last_words(node.log)[-1] == "cancelled"


def test_a_job_that_is_cancelled_while_it_is_requeued_cancels_itself(node: Node, tmp_path: Path) -> None:
    """SLURM revives a cancelled job that is requeued. `jobs cancel` leaves a file beside the mark."""
    noted = tmp_path / CANCEL_FILE
    assert node.start(
        "raise SystemExit(75)", meanwhile=f"touch {noted}", **{START_FILE: f"{tmp_path}/start.7.0.x"}
    ).wait(30)
    assert node.calls == ["-o show job 7", "requeue 7", "scancel 7"]
    assert last_words(node.log)[-1] == "cancelled"
    assert node.start("raise SystemExit(75)", **{START_FILE: f"{tmp_path}/start.7.0.x"}).wait(30) == 75
    assert node.calls[3:] == ["-o show job 7", "scancel 7"]


def test_a_job_that_is_cancelled_while_the_controller_is_away_is_not_requeued(node: Node) -> None:
    job = node.start(
        "raise SystemExit(75)",
        refusal="Unexpected message received",
        meanwhile=f"sed -i 's/JobState=RUNNING/JobState=CANCELLED/' {node.folder}/scontrol",
    )
    assert job.wait(30) == 75
    assert node.calls == ["-o show job 7", "requeue 7", "-o show job 7", "scancel 7"]
    assert last_words(node.log)[-1] == "cancelled"


def test_a_job_whose_batch_script_was_killed_is_not_called_cancelled(node: Node, tmp_path: Path) -> None:
    """SLURM shows it as completing, as it shows a cancelled one."""
    script = subprocess.Popen(["sleep", "60"])
    node.start(OBEDIENT, CANCELLED, **{START_FILE: str(tmp_path / f"start.7.0.{script.pid}")})
    node.until(lambda: "\nready\n" in node.said)
    script.kill()
    script.wait()
    node.until(lambda: "requeue 7" in node.calls)
    assert "the batch script was killed" in last_words(node.log)
    assert "cancelled" not in last_words(node.log)


def test_what_slurm_has_decided_while_a_job_was_preempted_is_left_to_it(node: Node) -> None:
    """It is being requeued, or was cancelled in its grace; a requeue of ours would bring that one back."""
    job = node.start(OBEDIENT, PREEMPTED.replace("RUNNING", "COMPLETING"))
    node.until(lambda: "\nready\n" in node.said)
    job.send_signal(signal.SIGTERM)
    assert job.wait(30) == 75
    assert node.calls == ["-o show job 7"]


def test_a_job_is_not_requeued_for_a_process_that_failed(node: Node) -> None:
    """srun ends the others then, which to them looks like a preemption."""
    first = node.start(OBEDIENT)
    node.until(lambda: "\nready\n" in node.said)
    assert node.start("raise SystemExit(1)", SLURM_PROCID="1").wait(30) == 1
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 1
    assert not [call for call in node.calls if "requeue" in call]
    again = node.start(OBEDIENT, SLURM_RESTART_COUNT="1")  # what failed in an earlier start says nothing of this one
    node.until(lambda: node.said.count("\nready\n") == 2)
    again.send_signal(signal.SIGTERM)
    node.until(lambda: "requeue 7" in node.calls)


@pytest.mark.parametrize("status", [255, 127, 200])
def test_a_clients_own_failure_is_no_signal(node: Node, status: int) -> None:
    assert node.start(f"raise SystemExit({status})").wait(30) == status
    assert not [call for call in node.calls if "requeue" in call]


def test_a_stage_that_was_interrupted_alone_is_requeued(node: Node) -> None:
    node.start("raise SystemExit(75)")
    node.until(lambda: "requeue 7" in node.calls)


def test_a_task_of_an_array_is_requeued_by_its_own_name(node: Node) -> None:
    """The last task bears the whole array's number, and by that all tasks would be."""
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


def test_a_killed_stage_comes_back_unless_it_dies_at_the_same_step_again_and_again(node: Node) -> None:
    for death in range(1, MAX_KILLS + 1):
        node.start(DIES)
        node.until(partial(requeued, node, death))
    assert node.start(DIES).wait(30) == 1
    assert node.calls.count("requeue 7") == MAX_KILLS
    assert "given up: is `memory`" in node.said


def test_a_copy_that_has_been_succeeded_ends_well_so_that_slurm_leaves_the_later_start_alone(node: Node) -> None:
    assert node.start("raise SystemExit(1)", STARTED_AGAIN).wait(30) == 0
    assert node.calls == ["-o show job 7"]


def test_a_controller_that_is_away_is_asked_again(node: Node) -> None:
    node.start("raise SystemExit(75)", absences=1)
    node.until(lambda: "requeued" in last_words(node.log))
    assert node.calls == ["-o show job 7", "-o show job 7", "requeue 7"]
    assert "Unable to contact slurm controller" in node.said


def test_an_answer_that_was_lost_on_its_way_is_asked_for_again(node: Node) -> None:
    node.start("raise SystemExit(75)", refusal="Unexpected message received for job 7")
    node.until(lambda: node.calls.count("requeue 7") == 2)


def test_a_job_that_another_has_requeued_is_requeued(node: Node) -> None:
    node.start("raise SystemExit(75)", refusal="Job is pending execution for job 7")
    node.until(lambda: "requeued" in last_words(node.log))


def test_a_refused_requeue_says_what_to_do(node: Node) -> None:
    node.start("raise SystemExit(75)", refusal="Requested operation is presently disabled")
    node.until(lambda: "submit-all" in node.said)
    assert "presently disabled" in node.said
    assert "<<< requeued" not in node.said


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
def test_cancelled_is_what_slurm_says_it_is(known: dict[str, str], cancelled: bool) -> None:
    assert was_cancelled(known) is cancelled


def test_data_are_copied_once_and_each_set_to_a_place_of_its_own(tmp_path: Path) -> None:
    one, two, target = tmp_path / "one", tmp_path / "two", tmp_path / "node"
    for source, content in ((one, b"1111"), (two, b"2222")):
        (source / "stl10_binary").mkdir(parents=True)
        (source / "stl10_binary" / "train_X.bin").write_bytes(content)
    first, second = copy_data(one, target), copy_data(two, target)
    assert (first / "stl10_binary/train_X.bin").read_bytes() == b"1111"
    assert (second / "stl10_binary/train_X.bin").read_bytes() == b"2222"
    born = (first / "stl10_binary/train_X.bin").stat().st_ino
    assert copy_data(one, target) == first
    assert (first / "stl10_binary/train_X.bin").stat().st_ino == born
    (one / "stl10_binary/train_X.bin").write_bytes(b"3333")
    os.utime(one / "stl10_binary/train_X.bin", (10, 10))
    assert (copy_data(one, target) / "stl10_binary/train_X.bin").read_bytes() == b"3333"


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_stage_stops_when_the_batch_script_on_its_node_is_gone(node: Node, tmp_path: Path, rank: str) -> None:
    script = subprocess.Popen(["sleep", "60"])
    try:
        mark = tmp_path / f"start.7.0.{script.pid}"
        job = node.start(OBEDIENT, STARTED_AGAIN, **{START_FILE: str(mark), "SLURM_PROCID": rank})
        log = node.log.with_suffix(".rank1.log") if rank == "1" else node.log
        node.until(lambda: log.exists() and "\nready\n" in log.read_text())
        script.kill()  # and it stays as a corpse
        if rank == "1":  # its script is on another node, where the number says nothing
            time.sleep(3)
            assert job.poll() is None
            job.terminate()
        assert job.wait(20) == 0
        assert "exit status 75" in log.read_text()
    finally:
        script.kill()
        script.wait()


def test_a_stage_tells_the_batch_script_when_it_begins_and_when_it_has_ended(node: Node, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    job = node.start(
        f"import os, sys; sys.exit(2 if os.path.getsize({str(mark)!r}) == 0 else 3)", **{START_FILE: str(mark)}
    )
    assert job.wait(30) == 2
    assert mark.read_text() == "2\n"
