"""`submit`, with --wait as often as needed, because SLURM may limit the number of jobs of a user."""

import sys
import time
from collections.abc import Collection, Mapping, Sequence, Set
from pathlib import Path
from typing import Final

from jobs.cluster.job_arrays import dependents
from jobs.cluster.slurm_cli import SchedulerUnavailable
from jobs.cluster.submit import Submission, SubmissionSummary
from jobs.ledger import State, counted_runs, jobs_command
from jobs.local.study import print_summary
from jobs.plan.graph import Job
from jobs.status.states import read_rows
from jobs.status.watch import follow
from ssl_pkg.errors import COMPLETE, INTERRUPTED
from ssl_pkg.messages.counted import counted

RETRY_SECONDS: Final = 10.0  # between two submissions while other jobs, or jobs that are just ending, fill the limit


def submit_rounds(
    submission: Submission, jobs: Sequence[Job], folder: Path, cluster: str, *, wait: bool, resume_command: str
) -> int:
    """Submits the plan `jobs` and returns the exit status. Raises BadInput.

    wait: wait until all runs have ended, and submit those that a limit has left. Runs that have failed or were
    cancelled meanwhile, and runs that depend on them, are not submitted again. `ssl-study cancel` ends the submission.
    """
    unsuccessful: dict[str, State] = {}
    before: SubmissionSummary | None = None
    outage = ""
    while True:
        try:
            summary = submission.submit(skip=dependents(jobs, unsuccessful), first=before is None)
        except SchedulerUnavailable as error:
            text = error.explain(f"trying again every {RETRY_SECONDS:.0f} s")
            if text != outage:
                print(text, file=sys.stderr, flush=True)
            outage = text
            time.sleep(RETRY_SECONDS)
            continue
        outage = ""
        if summary != before and not summary.cancelled:
            _print_submission(summary, cluster, wait=wait)
        before = summary
        if not wait:
            print(f"To see their states: {jobs_command('status', folder)}")
            return INTERRUPTED if summary.unsubmitted else COMPLETE
        if _others_fill_limit(summary):
            time.sleep(RETRY_SECONDS)
            continue
        nothing_runs = summary.cancelled or (summary.none_allowed and not (summary.submitted or summary.queued))
        rows = read_rows(folder) if nothing_runs else follow(folder)
        states = {job.name: row.state for job in jobs for row in rows if row.name == job.name}
        ended = (State.FAILED, State.INTERRUPTED, State.CANCELLED)
        tried = states.keys() - set(summary.unsubmitted)  # a limit may leave a run that an earlier call has submitted
        unsuccessful |= {name: states[name] for name in states if name in tried and states[name] in ended}
        if summary.cancelled or summary.none_allowed or not summary.unsubmitted:
            unsubmitted = {name for name in states if states[name] is State.PENDING or name in summary.unsubmitted}
            reason = "the study was cancelled" if summary.cancelled else summary.limit
            _print_unsubmitted(jobs, unsubmitted, unsuccessful, reason)
            return print_summary(states, jobs, folder, resume_command)


def _others_fill_limit(summary: SubmissionSummary) -> bool:
    """Whether SLURM accepts no run until other jobs have ended: of other studies, or of runs that are complete."""
    return bool(summary.unsubmitted) and not (summary.submitted or summary.queued or summary.none_allowed)


def _print_submission(summary: SubmissionSummary, cluster: str, *, wait: bool) -> None:
    print(
        f"{counted_runs(summary.submitted)} submitted to {cluster}, {counted_runs(summary.queued)} already in its "
        f"queue, {counted_runs(summary.complete)} complete"
    )
    if summary.unsubmitted:
        wanted = len(summary.submitted) + len(summary.unsubmitted)
        if summary.none_allowed:
            then = ""
        elif not wait:
            then = "; run the same command again when some have ended"
        elif _others_fill_limit(summary):
            then = f"; other jobs have taken the places: trying again every {RETRY_SECONDS:.0f} s"
        else:
            then = "; the rest is submitted when these have ended"
        print(f"submitted {len(summary.submitted)} of {wanted} jobs; {summary.limit}{then}", flush=True)


def _print_unsubmitted(
    jobs: Sequence[Job], unsubmitted: Set[str], unsuccessful: Mapping[str, State], reason: str
) -> None:
    """Prints how many runs were not submitted, and why."""
    if blocked := dependents(jobs, unsuccessful).intersection(unsubmitted):
        # SLURM cancels the jobs that depend on an unsuccessful one; they are not the cause
        caused = {job.name for job in jobs if not unsuccessful.keys().isdisjoint(job.parents)}
        first, *others = [job.name for job in jobs if job.name in unsuccessful.keys() - caused]
        more = f" or {'one of ' * (len(others) > 1)}{counted(len(others), 'more run')}" if others else ""
        verb = "failed" if unsuccessful[first] is State.FAILED else f"was {unsuccessful[first]}"
        need = "it needs" if len(blocked) == 1 else "they need"
        print(f"\n{_were(blocked)} not submitted, because {need} {first}{more}, which {verb}")
    if rest := unsubmitted - blocked:
        print(f"\n{_were(rest)} not submitted, because {reason}")


def _were(names: Collection[str]) -> str:
    return f"{counted_runs(names)} {'was' if len(names) == 1 else 'were'}"
