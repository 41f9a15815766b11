"""`python -m jobs study` and `cancel` on this machine: one runner at a time for a study, and its last words."""

import os
import signal
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from jobs.cluster.queued_runs import find_queued_runs, submitted_clusters
from jobs.cluster.slurm_cli import SchedulerUnavailable
from jobs.ledger import REPORT, State, advice, log_of
from jobs.local.runner import GRACE_SECONDS, Runner
from jobs.local.slots import Slot
from jobs.plan.graph import Job
from jobs.programs import Programs
from jobs.stage_process import last_output
from jobs.status.display import make_display
from jobs.study_lock import read_lock_holder, study_lock
from ssl_pkg.errors import COMPLETE, FAULT, INTERRUPTED, BadInput

LOG_LINES: Final = 15  # lines of a failed run's log that are shown
LOGS_SHOWN: Final = 3  # failed runs whose logs are shown


def run_study(
    jobs: Sequence[Job], folder: Path, slots: Sequence[Slot], *, again: str, programs: Programs | None = None
) -> int:
    """Runs what is missing of the plan and returns the exit status: 0 if all is complete, 1 if something failed, 75 if
    it was interrupted. `again`: the command line that goes on. Raises BadInput if `folder` can't be had."""
    with study_lock(folder, named=True):
        _refuse_queued(folder)
        shown = make_display()
        runner = Runner(jobs, folder, slots, shown, programs or Programs())
        try:
            runner.run()
        finally:
            shown.close(runner.rows)
    return print_summary({name: entry.state for name, entry in runner.entries.items()}, jobs, folder, again)


def _refuse_queued(folder: Path) -> None:
    """Raises BadInput where a cluster's queue holds runs of the study: each would be made twice."""
    for conf, cluster in submitted_clusters(folder).items():
        try:
            held = list(find_queued_runs(folder, conf))
        except SchedulerUnavailable as error:
            raise BadInput(
                f"study {folder.name} was sent to {cluster}, which does not answer ({error}): try again when it does, "
                f"or, if that cluster is no more, remove {folder / '.jobs' / 'slurm'}"
            ) from error
        if held:
            more = f" and {len(held) - 1} more of its runs" if held[1:] else ""
            reach = f", with SLURM_CONF={conf}," if conf else ""
            raise BadInput(
                f"study {folder.name} is in a cluster's queue ({held[0]}{more}, sent to {cluster}): let it end there, "
                f"or take it out{reach} by {advice('cancel', folder)}"
            )


def cancel(folder: Path) -> str:
    """Stops the runner of the study in `folder`; its runs leave their checkpoints. Returns a sentence on what happened.

    Raises BadInput where it can't be stopped from here.
    """
    owner = read_lock_holder(folder)
    if owner and not owner.here:
        raise BadInput(f"study {folder.name} is run by process {owner.pid} on {owner.host}: cancel it there")
    if owner is None or not owner.alive:
        return f"study {folder.name} is not being run on this machine: nothing to cancel"
    os.kill(owner.pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE_SECONDS + 15
    while owner.alive:
        if time.monotonic() > deadline:
            raise BadInput(
                f"the runner of study {folder.name}, process {owner.pid}, doesn't stop: look at its terminal"
            )
        time.sleep(0.2)
    return f"study {folder.name} was stopped; what ran has left a checkpoint, and the line that started it goes on"


def print_summary(states: Mapping[str, State], jobs: Sequence[Job], folder: Path, again: str) -> int:
    """The last words, and the exit status: the report's table, or what failed and how to go on."""
    failed = [name for name, state in states.items() if state is State.FAILED]
    for name in failed[:LOGS_SHOWN]:
        log = log_of(folder, name)
        print(f"\n{name} failed; the end of {log}:")
        print("\n".join(f"    {line}" for line in last_output(log)[-LOG_LINES:]))
    if failed[LOGS_SHOWN:]:
        print(f"\nfailed too: {', '.join(failed[LOGS_SHOWN:])}; their logs are in {folder / 'logs'}")
    reports = [job for job in jobs if job.stage == REPORT and states.get(job.name) is State.COMPLETE]
    if failed and reports:
        print(f"\nThe report of the rest, which says what failed: {reports[0].run_dir / 'report.pdf'}")
    if failed:
        print(f"\nWhen the cause is gone, the same line runs what is missing, and so does: {again}")
        return FAULT
    if any(state is not State.COMPLETE for state in states.values()):
        print(f"\nInterrupted. The same line goes on, and so does: {again}")
        return INTERRUPTED
    for job in jobs:
        if job.stage == REPORT:
            print("\n".join(last_output(log_of(folder, job.name))) or f"The report: {job.run_dir / 'report.pdf'}")
    return COMPLETE
