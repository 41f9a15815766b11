"""A rough estimate of the time that a study on this machine still needs."""

from collections.abc import Sequence
from statistics import fmean

from jobs.ledger import State
from jobs.plan.graph import Job, remaining_cost
from jobs.status.states import Row


class TimeLeft:
    """Estimates the time that a study still needs, from its runs' states.

    A run takes as long as the measured runs of its stage, on average. If there are none, its duration follows from the
    costs of the stages and from all measured durations. A running pretraining is measured by the rate of its longest
    phase.
    """

    def __init__(self, jobs: Sequence[Job], slots: int) -> None:
        """slots: how many jobs run at a time."""
        self._jobs, self._slots = jobs, slots
        # of running pretrainings: steps of the phase, and the run's duration
        self._foretold: dict[str, tuple[int, float]] = {}

    def __call__(self, rows: Sequence[Row]) -> float | None:
        """Seconds until all jobs have ended.

        None if no job is missing, or if no run of a stage as costly as the missing ones has been measured.
        """
        shown = {row.name: row for row in rows}
        missing = [job for job in self._jobs if shown[job.name].state in (State.PENDING, State.RUNNING)]
        found = [(job, seconds) for job in self._jobs if (seconds := self._duration(job, shown[job.name])) is not None]
        if not missing or max(job.cost for job in missing) > max((job.cost for job, _ in found), default=0.0):
            return None
        measured = {job.stage: [seconds for other, seconds in found if other.stage == job.stage] for job in missing}
        scale = sum(seconds for _, seconds in found) / sum(job.cost for job, _ in found)

        def left(job: Job) -> float:
            alike = measured[job.stage]
            average = fmean(alike) if alike else scale * job.cost
            _, expected = self._foretold.get(job.name, (0, average))
            return max(0.0, expected - (shown[job.name].elapsed or 0.0))

        return max(sum(map(left, missing)) / self._slots, *remaining_cost(missing, left).values())

    def _duration(self, job: Job, row: Row) -> float | None:
        """The duration of a complete run, or of a running pretraining, in seconds; None if unknown."""
        if row.state is State.COMPLETE:
            return row.elapsed
        if job.stage != "pretrain":
            return None  # its phases take different times
        steps, duration = self._foretold.get(row.name, (0, None))
        if row.left is not None and row.elapsed is not None and (row.steps or 0) >= steps:  # not while it validates
            steps, duration = row.steps or 0, row.elapsed + row.left
            self._foretold[row.name] = steps, duration
        return duration
