"""A study in a storm of interruptions."""

import random
import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest
from studies import LONG_ONLY, Real, job_of, until

from jobs.ledger import State
from jobs.status.states import Row
from jobs.status.watch import ACTIVE
from slurm.testbed import LocalCluster
from ssl_pkg.run.directory import runs_of

INTERRUPTIONS = 20  # of a storm, at least


@dataclass(frozen=True)
class Weather:
    """What is tried, and how."""

    overrides: tuple[str, ...]
    pauses: tuple[float, float]  # seconds between two blows, from and to
    enough: int  # interruptions after which it is calm
    limit: float  # seconds within which the study must be complete


class Storm:
    """Takes jobs away in every way that a cluster knows, until there were enough of them."""

    def __init__(self, bed: LocalCluster, real: Real, weather: Weather, draws: random.Random) -> None:
        self._bed, self._real, self._weather, self._draws = bed, real, weather, draws
        self._due = 0.0
        self._away: dict[str, float] = {}  # nodes whose slurmd was killed, and when it comes back
        self._next = [self.preempt, self.requeue, self.kill_node, self.restart_controller]  # each at least once
        self._draws.shuffle(self._next)
        self._preemptors: list[str] = []
        self._sent_again: list[str] = []
        self.blows: list[str] = []

    def until_complete(self) -> None:
        end, seen_under_way = time.monotonic() + self._weather.limit, time.monotonic()
        while not self._real.complete():
            assert time.monotonic() < end, self._real.told()
            time.sleep(1.0)
            if any(row.state in ACTIVE for row in self._real.rows().values()):
                seen_under_way = time.monotonic()
            assert time.monotonic() - seen_under_way < 90, f"a run is lost:\n{self._real.told()}"
            if self.lost_by_slurm != self._sent_again:
                self._sent_again = self.lost_by_slurm
                self._real.submit()
            enough = self.interruptions >= self._weather.enough and not self._next
            self._bring_back(everything=enough)
            if not enough and time.monotonic() > self._due:
                self._blow()

    @property
    def lost_by_slurm(self) -> list[str]:
        """The study's jobs that SLURM itself has lost, by its own log. A node that comes back is told to end, by the
        job's number, what it has kept of a job, and what begins there in the same second goes with it. Then the same
        line must be typed again. No job may fail for any other reason."""
        log = (self._bed.base / "log" / "slurmctld.log").read_text()
        back = [moment(line) for line in log.splitlines() if line.endswith("returned to service")]
        lost = []
        for line in log.splitlines():
            found = re.search(r"_job_complete: JobId=(\d+) (WTERMSIG|WEXITSTATUS) (?!0\b)", line)
            if found and found[1] not in self._preemptors:
                assert any(0 <= (moment(line) - begun).total_seconds() < 5 for begun in back), line
                lost.append(found[1])
        return lost

    @property
    def interruptions(self) -> int:
        """How many starts of stages there were beside the first of each."""
        logs = [self._real.log(run.name) for run in runs_of(self._real.folder)]
        return sum(log.count("\n>>> ") - 1 for log in logs)

    def _blow(self) -> None:
        running = [row for row in self._real.rows().values() if row.state is State.RUNNING and row.job]
        at_work = [row for row in running if row.step is not None]
        # mostly what has begun its work, or on a slow machine nothing would ever come further
        if at_work or (running and self._draws.random() < 0.2):
            kinds = [self.preempt, self.requeue, self.kill_node, self.restart_controller]
            kind = self._next.pop() if self._next else self._draws.choices(kinds, weights=(8, 3, 1, 1))[0]
            kind(self._draws.choice(at_work or running))
            self._due = time.monotonic() + self._draws.uniform(*self._weather.pauses)

    def preempt(self, row: Row) -> None:
        if subprocess.run(["squeue", "-h", "-p", "high"], capture_output=True, check=False).stdout:
            return  # the one before has not had its turn yet
        self.blows.append("preemption")
        nodes = str(len(self._bed.names) - len(self._away))
        rest = ["--exclusive", "-o", "/dev/null", "--wrap", f"sleep {self._draws.uniform(0.5, 2):.1f}"]
        done = subprocess.run(
            ["sbatch", "--parsable", "-p", "high", "-N", nodes, *rest], capture_output=True, check=False
        )
        self._preemptors.append(done.stdout.decode().strip())

    def requeue(self, row: Row) -> None:
        self.blows.append("requeue")
        subprocess.run(["scontrol", "requeue", job_of(row)], capture_output=True, check=False)

    def kill_node(self, row: Row) -> None:
        if self._away:
            return
        self.blows.append("node")
        name = self._draws.choice(self._bed.names)
        self._bed.kill(f"slurmd-{name}")
        self._away[name] = time.monotonic() + 25

    def restart_controller(self, row: Row) -> None:
        self.blows.append("controller")
        # killed, it would forget its last seconds: start jobs twice, and drain the nodes for that
        self._bed.stop_controller()
        time.sleep(self._draws.uniform(0.0, 3.0))
        self._bed.start_controller()
        until(lambda: subprocess.run(["squeue"], capture_output=True, check=False).returncode == 0)

    def _bring_back(self, everything: bool = False) -> None:
        for name in [name for name, due in self._away.items() if everything or time.monotonic() > due]:
            self._bed.start_node(name)
            del self._away[name]


def moment(line: str) -> datetime:
    """Of a line of SLURM's logs."""
    return datetime.fromisoformat(line[1:].partition("]")[0])


# long enough to be hit so often, on a fast machine too
LONGER = ("log_every=1", "budget.max_steps=300", "budget.ssl_epochs=1000", "pretrain.knn_every=500")
TWO_METHODS = Weather(("study.methods=[moco,supervised]", *LONGER), pauses=(0.5, 3), enough=INTERRUPTIONS, limit=2000)
# a quarter of an hour of work where nothing disturbs it; the blows reach fine-tuning and width, too
DEMO = Weather(("budget=demo",), pauses=(5, 45), enough=3 * INTERRUPTIONS, limit=5000)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    "cluster",
    [pytest.param({"cpus": 1}, id="USR2", marks=LONG_ONLY), pytest.param({"cpus": 1, "user_signal": False}, id="TERM")],
    indirect=True,
)
@pytest.mark.parametrize(
    "weather",
    [pytest.param(TWO_METHODS, id="two methods"), pytest.param(DEMO, id="the demo study", marks=LONG_ONLY)],
)
def test_a_study_in_a_storm_ends_as_the_undisturbed_one(
    cluster: LocalCluster,
    tmp_path: Path,
    undisturbed: Callable[..., Real],
    request: pytest.FixtureRequest,
    weather: Weather,
) -> None:
    calm = undisturbed(*weather.overrides)
    stormy = Real(tmp_path / "storm", *weather.overrides)
    stormy.submit()
    storm = Storm(cluster, stormy, weather, random.Random(request.node.name))
    storm.until_complete()
    lost = f"SLURM itself has lost {storm.lost_by_slurm}"
    print(f"{len(storm.blows)} blows, {storm.interruptions} interruptions, {lost}: {storm.blows}")
    assert storm.interruptions >= INTERRUPTIONS
    begun = [stormy.gone_on_from(name) for name in stormy.rows() if name.startswith("pretrain-")]
    assert all(steps == sorted(steps) for steps in begun), "what a start has done is not lost"
    assert max(max(steps, default=0) for steps in begun) > 0
    assert stormy.results() == calm.results()
    assert (stormy.root / "reports/demo/report.pdf").stat().st_size > 10_000
