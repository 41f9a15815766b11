"""One call of `submit` after the other, where a limit on jobs lets SLURM take only a part of a study at once."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jobs.cluster.submit import Submission, SubmissionSummary
from jobs.cluster.submit_order import dependents
from jobs.ledger import State, advice
from jobs.local.study import print_summary
from jobs.plan.graph import Job
from jobs.status.states import NOT_SUBMITTED, Row
from jobs.status.watch import follow
from ssl_pkg.errors import COMPLETE, INTERRUPTED

REPEAT_COMMAND: Final = "type the same line again"


def submit_rounds(
    submission: Submission, jobs: Sequence[Job], folder: Path, cluster: str, *, wait: bool, again: str
) -> int:
    """Sends the plan `jobs` and returns the exit status. wait: stays until all has ended, and sends what a limit left,
    without the runs that failed meanwhile and those that need them. Raises BadInput."""
    failed: set[str] = set()
    planned = {job.name for job in jobs}
    while True:
        summary = submission.submit(skip=dependents(jobs, failed))
        _print_submission(summary, cluster, wait=wait)
        if not wait:
            print(f"How they stand: {advice('status', folder)}")
            return INTERRUPTED if summary.unsubmitted else COMPLETE
        rows = [row for row in follow(folder) if row.name in planned]
        states = {row.name: row.state for row in rows}
        failed |= {name for name, state in states.items() if state in (State.FAILED, State.INTERRUPTED)}
        progress = bool(summary.submitted or summary.queued) and State.CANCELLED not in states.values()
        if not summary.unsubmitted or not progress:
            _print_unsubmitted(rows, sorted(failed), dependents(jobs, failed), summary.limit)
            return print_summary(states, jobs, folder, again)


def _print_submission(summary: SubmissionSummary, cluster: str, *, wait: bool) -> None:
    print(
        f"{len(summary.submitted)} runs sent to {cluster}, {len(summary.queued)} were in its queue, "
        f"{len(summary.complete)} are complete"
    )
    if summary.unsubmitted:
        print(
            f"sent {len(summary.submitted)} of {len(summary.submitted) + len(summary.unsubmitted)}; {summary.limit}; ",
            end="",
        )
        print("the rest is sent when these have ended" if wait else f"{REPEAT_COMMAND} when some have ended")


def _print_unsubmitted(rows: Sequence[Row], failed: Sequence[str], needing: set[str], limit: str) -> None:
    """How many runs were not sent, and why."""
    unsent = [row.name for row in rows if row.note == NOT_SUBMITTED]
    if blocked := needing.intersection(unsent):
        more = f" or one of {len(failed) - 1} more runs" if failed[1:] else ""
        print(f"\n{len(blocked)} runs were not sent, because they need {failed[0]}{more}, which failed")
    if rest := len(unsent) - len(blocked):
        print(f"\n{rest} runs were not sent, because {limit or 'the study was cancelled'}")
