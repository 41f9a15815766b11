"""One call of `submit` after the other, where a limit on jobs lets SLURM take only a part of a study at once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jobs.cluster.submit import Outcome, Submission
from jobs.cluster.submit_order import dependents
from jobs.ledger import State, advice
from jobs.local.study import conclude
from jobs.plan.graph import Job
from jobs.status.states import NOT_SENT, Row
from jobs.status.watch import follow
from ssl_pkg.errors import COMPLETE, INTERRUPTED

AGAIN: Final = "type the same line again"


def send_rounds(
    submission: Submission, jobs: Sequence[Job], folder: Path, cluster: str, *, wait: bool, again: str
) -> int:
    """Sends the plan `jobs` and returns the exit status. wait: stays until all has ended, and sends what a limit left,
    without the runs that failed meanwhile and those that need them. Raises BadInput."""
    failed: set[str] = set()
    planned = {job.name for job in jobs}
    while True:
        outcome = submission.send(skip=dependents(jobs, failed))
        _say(outcome, cluster, wait=wait)
        if not wait:
            print(f"How they stand: {advice('status', folder)}")
            return INTERRUPTED if outcome.unsent else COMPLETE
        rows = [row for row in follow(folder) if row.name in planned]
        states = {row.name: row.state for row in rows}
        failed |= {name for name, state in states.items() if state in (State.FAILED, State.INTERRUPTED)}
        progress = bool(outcome.sent or outcome.queued) and State.CANCELLED not in states.values()
        if not outcome.unsent or not progress:
            _say_unsent(rows, sorted(failed), dependents(jobs, failed), outcome.limit)
            return conclude(states, jobs, folder, again)


def _say(outcome: Outcome, cluster: str, *, wait: bool) -> None:
    print(
        f"{len(outcome.sent)} runs sent to {cluster}, {len(outcome.queued)} were in its queue, "
        f"{len(outcome.complete)} are complete"
    )
    if outcome.unsent:
        print(f"sent {len(outcome.sent)} of {len(outcome.sent) + len(outcome.unsent)}; {outcome.limit}; ", end="")
        print("the rest is sent when these have ended" if wait else f"{AGAIN} when some have ended")


def _say_unsent(rows: Sequence[Row], failed: Sequence[str], needing: set[str], limit: str) -> None:
    """How many runs were not sent, and why."""
    unsent = [row.name for row in rows if row.note == NOT_SENT]
    if blocked := needing.intersection(unsent):
        more = f" or one of {len(failed) - 1} more runs" if failed[1:] else ""
        print(f"\n{len(blocked)} runs were not sent, because they need {failed[0]}{more}, which failed")
    if rest := len(unsent) - len(blocked):
        print(f"\n{rest} runs were not sent, because {limit or 'the study was cancelled'}")
