"""A study with many random interruptions."""

import random
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from studies import LONG, LONG_ONLY, Real, job_of, until

from jobs.cluster.outcomes import ACTIVE
from jobs.ledger import State
from jobs.status.states import Row
from slurm.testbed import LocalCluster
from ssl_pkg.run.directory import runs_of

INTERRUPTIONS = 20 if LONG else 8  # at least; each takes some 10 to 25 s


@dataclass(frozen=True)
class Scenario:
    """The parameters of a test."""

    overrides: tuple[str, ...]
    pauses: tuple[float, float]  # minimum and maximum seconds between two interruptions
    enough: int  # number of interruptions
    limit: float  # seconds within which the study must be complete


class Interrupter:
    """Interrupts jobs by preemptions, requeues, and failures of nodes and the controller."""

    def __init__(self, bed: LocalCluster, real: Real, scenario: Scenario, rng: random.Random) -> None:
        self._bed, self._real, self._scenario, self._rng = bed, real, scenario, rng
        self._due = 0.0
        self._killed_nodes: dict[str, float] = {}  # nodes whose slurmd was killed -> when it is started again
        self._next = [self.preempt, self.requeue, self.kill_node, self.restart_controller]  # each at least once
        self._rng.shuffle(self._next)
        self._preemptors: list[str] = []
        self._resubmitted: list[str] = []
        self.actions: list[str] = []

    def until_complete(self) -> None:
        end, last_active = time.monotonic() + self._scenario.limit, time.monotonic()
        while not self._real.complete():
            assert time.monotonic() < end, self._real.describe()
            time.sleep(1.0)
            if any(row.state in ACTIVE for row in self._real.rows().values()):
                last_active = time.monotonic()
            assert time.monotonic() - last_active < 90, f"a run is lost:\n{self._real.describe()}"
            if self.lost_by_slurm != self._resubmitted:
                self._resubmitted = self.lost_by_slurm
                self._real.submit()
            enough = self.interruptions >= self._scenario.enough and not self._next
            self._restart_nodes(everything=enough)
            if not enough and time.monotonic() > self._due:
                self._interrupt()

    @property
    def lost_by_slurm(self) -> list[str]:
        """The ids of the study's jobs that SLURM has lost, by its log. Fails if a job has failed for another reason.

        A node that returns ends the old steps of a job by its id, together with a start that has just begun there. Then
        the study must be submitted again.
        """
        log = (self._bed.base / "log" / "slurmctld.log").read_text()
        returned = [log_time(line) for line in log.splitlines() if line.endswith("returned to service")]
        lost = []
        for line in log.splitlines():
            found = re.search(r"_job_complete: JobId=(\d+) (WTERMSIG|WEXITSTATUS) (?!0\b)", line)
            if found and found[1] not in self._preemptors:
                assert any(0 <= (log_time(line) - back).total_seconds() < 5 for back in returned), line
                lost.append(found[1])
        return lost

    @property
    def interruptions(self) -> int:
        """The number of restarts of all stages."""
        logs = [self._real.log(run.name) for run in runs_of(self._real.folder)]
        return sum(log.count("\n>>> ") - 1 for log in logs)

    def _interrupt(self) -> None:
        running = [row for row in self._real.rows().values() if row.state is State.RUNNING and row.job]
        begun = [row for row in running if row.step is not None]
        # mostly runs that have begun, because on a slow machine no run would make progress otherwise
        if begun or (running and self._rng.random() < 0.2):
            kinds = [self.preempt, self.requeue, self.kill_node, self.restart_controller]
            kind = self._next.pop() if self._next else self._rng.choices(kinds, weights=(8, 3, 1, 1))[0]
            kind(self._rng.choice(begun or running))
            self._due = time.monotonic() + self._rng.uniform(*self._scenario.pauses)

    def preempt(self, row: Row) -> None:
        if subprocess.run(["squeue", "-h", "-p", "high"], capture_output=True, check=False).stdout:
            return  # the last preemption is not over yet
        self.actions.append("preemption")
        nodes = str(len(self._bed.names) - len(self._killed_nodes))
        rest = ["--exclusive", "-o", "/dev/null", "--wrap", f"sleep {self._rng.uniform(0.5, 2):.1f}"]
        done = subprocess.run(
            ["sbatch", "--parsable", "-p", "high", "-N", nodes, *rest], capture_output=True, check=False
        )
        self._preemptors.append(done.stdout.decode().strip())

    def requeue(self, row: Row) -> None:
        self.actions.append("requeue")
        subprocess.run(["scontrol", "requeue", job_of(row)], capture_output=True, check=False)

    def kill_node(self, row: Row) -> None:
        if self._killed_nodes:
            return
        self.actions.append("node")
        name = self._rng.choice(self._bed.names)
        self._bed.kill(f"slurmd-{name}")
        self._killed_nodes[name] = time.monotonic() + 25

    def restart_controller(self, row: Row) -> None:
        self.actions.append("controller")
        # not by SIGKILL: its state would be seconds old, so that it would start jobs twice and drain the nodes
        self._bed.stop_controller()
        time.sleep(self._rng.uniform(0.0, 3.0))
        self._bed.start_controller()
        until(lambda: subprocess.run(["squeue"], capture_output=True, check=False).returncode == 0)

    def _restart_nodes(self, everything: bool = False) -> None:
        for name in [name for name, due in self._killed_nodes.items() if everything or time.monotonic() > due]:
            self._bed.start_node(name)
            del self._killed_nodes[name]


def log_time(line: str) -> datetime:
    """The time of a line of SLURM's logs."""
    return datetime.fromisoformat(line[1:].partition("]")[0])


# long enough for all interruptions, also on a fast machine
LONGER = ("log_every=1", "budget.max_steps=300", "budget.ssl_epochs=1000", "pretrain.knn_every=500")
TWO_METHODS = Scenario(("study.methods=[moco,supervised]", *LONGER), pauses=(0.5, 3), enough=INTERRUPTIONS, limit=2000)
# takes 15 minutes without interruptions; the actions also reach fine-tuning and width
DEMO = Scenario(("budget=demo",), pauses=(5, 45), enough=3 * INTERRUPTIONS, limit=5000)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "cluster",
    [pytest.param({"cpus": 1}, id="USR2", marks=LONG_ONLY), pytest.param({"cpus": 1, "user_signal": False}, id="TERM")],
    indirect=True,
)
@pytest.mark.parametrize(
    "scenario",
    [pytest.param(TWO_METHODS, id="two methods"), pytest.param(DEMO, id="the demo study", marks=LONG_ONLY)],
)
def test_a_study_with_many_interruptions_equals_the_undisturbed_one(
    cluster: LocalCluster,
    tmp_path: Path,
    undisturbed: Callable[..., Real],
    request: pytest.FixtureRequest,
    scenario: Scenario,
) -> None:
    undisturbed_study = undisturbed(*scenario.overrides)
    interrupted = Real(tmp_path / "interrupted", *scenario.overrides)
    interrupted.submit()
    interrupter = Interrupter(cluster, interrupted, scenario, random.Random(request.node.name))
    interrupter.until_complete()
    lost = f"SLURM itself has lost {interrupter.lost_by_slurm}"
    print(
        f"{len(interrupter.actions)} actions, {interrupter.interruptions} interruptions, {lost}: {interrupter.actions}"
    )
    assert interrupter.interruptions >= INTERRUPTIONS
    begun = [interrupted.resumed_from(name) for name in interrupted.rows() if name.startswith("pretrain-")]
    assert all(steps == sorted(steps) for steps in begun), "no start resumes from an earlier step than the last one"
    assert max(max(steps, default=0) for steps in begun) > 0
    assert interrupted.results() == undisturbed_study.results()
    assert (interrupted.root / "reports/demo/report.pdf").stat().st_size > 10_000
