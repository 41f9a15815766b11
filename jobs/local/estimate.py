"""A rough estimate of the time that a study on this machine still needs."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Final

from jobs.ledger import REPORT, State
from jobs.plan.estimate import TRAININGS
from jobs.plan.graph import Job, remaining_cost
from jobs.status.states import Row
from jobs.status.table import SecondsLeft

MIN_MEASURED_SECONDS: Final = 30.0  # of a pretraining before its rate counts: first steps are slow, other runs start
# Bounds of the duration of a stage without a measured run, as factors on the duration that follows from the trainings'
# rate. In the demo and in photos-quick on two cores, sums over these runs had factors of 0.8 to 1.4.
ERROR_FACTORS: Final = (0.6, 1.5)
REPORT_SECONDS: Final = 15.0  # measured: 13 to 22 on two cores


class TimeLeft:
    """Estimates the time that a study still needs, from its runs' states.

    A run takes as long as the measured runs of its stage, on average. If there are none, its duration follows from its
    work and from the rate of the measured trainings, and is known only roughly. A running pretraining is measured by
    the rate of its longest phase.
    """

    def __init__(self, jobs: Sequence[Job], slots: int, work: Mapping[str, float]) -> None:
        """slots: how many jobs run at a time. work: of each job by name, of `plan.estimate.workloads`."""
        self._jobs, self._slots, self._work = jobs, slots, work
        # of running pretrainings: steps of the phase, and the seconds of all starts and of a run without interruption
        self._predicted: dict[str, tuple[int, float, float]] = {}

    def __call__(self, rows: Sequence[Row]) -> SecondsLeft:
        """Seconds until all jobs have ended: at least and at most, roughly.

        None if no job is missing, or as long as no training has been measured.
        """
        shown = {row.name: row for row in rows}
        missing = [job for job in self._jobs if shown[job.name].state in (State.PENDING, State.RUNNING)]
        found = [(job, seconds) for job in self._jobs if (seconds := self._duration(job, shown[job.name])) is not None]
        rates = [
            sum(self._work[job.name] for job, _ in same) / sum(seconds for _, seconds in same)
            for stage in TRAININGS
            if (same := [(job, seconds) for job, seconds in found if job.stage == stage])
        ]
        if not missing or not rates:
            return None
        slowest = min(rates)  # those of small data sets have the most overhead, as the unmeasured stages may have
        alike = {job.stage: [seconds for other, seconds in found if other.stage == job.stage] for job in missing}

        def left(job: Job, factor: float) -> float:
            measured = alike[job.stage]
            expected = fmean(measured) if measured else factor * self._work[job.name] / slowest
            if job.stage == REPORT:
                expected = REPORT_SECONDS
            elif job.name in self._predicted:
                _, expected, _ = self._predicted[job.name]
            return max(0.0, expected - (shown[job.name].elapsed or 0.0))

        low, high = (self._until_the_end(missing, partial(left, factor=factor)) for factor in ERROR_FACTORS)
        return low, high

    def _until_the_end(self, missing: Sequence[Job], left: Callable[[Job], float]) -> float:
        return max(sum(map(left, missing)) / self._slots, *remaining_cost(missing, left).values())

    def _duration(self, job: Job, row: Row) -> float | None:
        """The duration of a complete run, or of a running pretraining, in seconds of all starts; None if unknown."""
        if row.state is State.COMPLETE:
            return row.elapsed or None
        if job.stage != "pretrain":
            return None  # its phases take different times
        before = self._predicted.get(row.name, (0, 0.0, 0.0))
        if row.left is not None and row.rate and row.elapsed is not None and row.steps:
            longest = row.steps >= before[0]  # not while it validates
            if longest and row.elapsed - row.earlier >= MIN_MEASURED_SECONDS:
                total = row.elapsed + row.left  # without the work that a killed start has lost
                before = row.steps, total, max(total, row.steps / row.rate)
                self._predicted[row.name] = before
        return before[2] or None
