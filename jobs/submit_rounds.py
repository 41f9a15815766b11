"""`submit`, with --wait as often as needed, because SLURM may limit the number of jobs of a user."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jobs.cluster.job_arrays import dependents
from jobs.cluster.submit import Submission, SubmissionSummary
from jobs.ledger import State, jobs_command
from jobs.local.study import print_summary
from jobs.plan.graph import Job
from jobs.status.states import NOT_SUBMITTED, Row
from jobs.status.watch import follow
from ssl_pkg.errors import COMPLETE, INTERRUPTED

REPEAT_COMMAND: Final = "run the same command again"


def submit_rounds(
    submission: Submission, jobs: Sequence[Job], folder: Path, cluster: str, *, wait: bool, again: str
) -> int:
    """Submits the plan `jobs` and returns the exit status. Raises BadInput.

    wait: wait until all runs have ended, and submit those that a limit has left. Runs that have failed meanwhile, and
    runs that depend on them, are not submitted again.
    """
    failed: set[str] = set()
    planned = {job.name for job in jobs}
    while True:
        summary = submission.submit(skip=dependents(jobs, failed))
        _print_submission(summary, cluster, wait=wait)
        if not wait:
            print(f"To see their states: {jobs_command('status', folder)}")
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
        f"{len(summary.submitted)} runs submitted to {cluster}, {len(summary.queued)} already in its queue, "
        f"{len(summary.complete)} complete"
    )
    if summary.unsubmitted:
        wanted = len(summary.submitted) + len(summary.unsubmitted)
        then = "the rest is submitted when these have ended" if wait else f"{REPEAT_COMMAND} when some have ended"
        print(f"submitted {len(summary.submitted)} of {wanted}; {summary.limit}; {then}")


def _print_unsubmitted(rows: Sequence[Row], failed: Sequence[str], dependent: set[str], limit: str) -> None:
    """Prints how many runs were not submitted, and why."""
    unsubmitted = [row.name for row in rows if row.note == NOT_SUBMITTED]
    if blocked := dependent.intersection(unsubmitted):
        more = f" or one of {len(failed) - 1} more runs" if failed[1:] else ""
        print(f"\n{len(blocked)} runs were not submitted, because they need {failed[0]}{more}, which failed")
    if rest := len(unsubmitted) - len(blocked):
        print(f"\n{rest} runs were not submitted, because {limit or 'the study was cancelled'}")
