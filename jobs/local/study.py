"""`ssl-study study` and `cancel` on this machine, and the summary when a study ends."""

import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from jobs.cluster.queue import clusters_with_runs
from jobs.ledger import REPORT, State, log_path
from jobs.local.best_model import prediction_advice
from jobs.local.runner import GRACE_SECONDS, Runner
from jobs.local.slots import Slot
from jobs.plan.graph import Job
from jobs.plan.record import record_plan
from jobs.programs import Programs
from jobs.status.display import Estimate, make_display
from jobs.study_lock import read_lock_holder, study_lock
from ssl_pkg.errors import COMPLETE, FAULT, INTERRUPTED, BadInput
from ssl_pkg.messages.program import PROGRAM
from ssl_pkg.messages.wrapping import wrapped
from ssl_pkg.run.run_log import last_output
from ssl_pkg.run.study_plan import REPORT_FILE

LOG_LINES: Final = 15  # lines of a failed run's log that are shown
LOGS_SHOWN: Final = 3  # failed runs whose logs are shown


def run_study(
    jobs: Sequence[Job],
    folder: Path,
    slots: Sequence[Slot],
    *,
    resume_command: str,
    estimate: Estimate,
    synthetic: bool = False,
) -> int:
    """Runs the missing jobs of a plan. Returns the exit status: 0 complete, 1 a run failed, 75 interrupted.

    resume_command: the command line that resumes the study. synthetic: whether the data is the synthetic set, which is
    then generated before the first stage starts. estimate: of the time that the study still needs. Raises BadInput if
    another process holds the study's lock, or if a cluster's queue holds runs of the study.
    """
    with study_lock(folder, named=True):
        _refuse_queued(folder)
        record_plan(folder, jobs)
        display = make_display(estimate)
        runner = Runner(jobs, folder, slots, display, Programs(), synthetic=synthetic)
        try:
            runner.run()
        finally:
            display.close(runner.rows)
    states = {name: entry.state for name, entry in runner.entries.items()}
    return print_summary(states, jobs, folder, resume_command)


def _refuse_queued(folder: Path) -> None:
    """Raises BadInput if a cluster's queue holds runs of the study, because they would run twice."""
    for cluster, queued, how in clusters_with_runs(folder):
        more = f" and {len(queued) - 1} more of its runs" if queued[1:] else ""
        raise BadInput(
            f"study {folder.name} is in a cluster's queue ({queued[0]}{more}, submitted to {cluster}): wait for its "
            f"end, or cancel it{how}"
        )


def cancel(folder: Path) -> str:
    """Stops the runner of the study in `folder`, whose runs write checkpoints. Returns a sentence about the result.

    Raises BadInput if the runner is on another host, belongs to another user, or does not stop.
    """
    holder = read_lock_holder(folder)
    if holder and not holder.on_this_host:
        raise BadInput(
            f"study {folder.name} is being run by process {holder.pid} on {holder.host}: cancel it on that host"
        )
    nothing = f"study {folder.name} is not being run on this machine: nothing to cancel"
    if holder is None or not holder.alive:
        return nothing
    try:
        os.kill(holder.pid, signal.SIGTERM)
    except ProcessLookupError:  # has just ended
        return nothing
    except PermissionError as error:
        raise BadInput(
            f"the runner of study {folder.name}, process {holder.pid}, belongs to another user: ask that user to "
            "cancel it"
        ) from error
    deadline = time.monotonic() + GRACE_SECONDS + 15
    while holder.alive:
        if time.monotonic() > deadline:
            raise BadInput(
                f"the runner of study {folder.name}, process {holder.pid}, does not stop: look at its terminal"
            )
        time.sleep(0.2)
    return f"study {folder.name} was stopped. Its runs have written checkpoints; the same command resumes the study"


def print_summary(states: Mapping[str, State], jobs: Sequence[Job], folder: Path, resume_command: str) -> int:
    """Prints the report's table and what to do next, or the failed runs and how to resume. Returns the exit status.

    resume_command: the command line that resumes the study. If it starts a container, and not `ssl-study` by any path,
    no `predict` command is printed, because the container's paths do not exist outside.
    """
    failed = [name for name, state in states.items() if state is State.FAILED]
    for name in failed[:LOGS_SHOWN]:
        log = log_path(folder, name)
        print(f"\n{name} failed; the end of {log}:")
        print("\n".join(f"    {line}" for line in last_output(log)[-LOG_LINES:]))
    if failed[LOGS_SHOWN:]:
        print(f"\nalso failed: {', '.join(failed[LOGS_SHOWN:])}; their logs are in {folder / 'logs'}")
    reports = [job for job in jobs if job.stage == REPORT and states.get(job.name) is State.COMPLETE]
    if failed and reports:
        print(f"\nThe report, which lists the failed runs: {reports[0].run_dir / REPORT_FILE}")
    if failed:
        print(f"\nWhen the cause is fixed, this command runs the missing runs: {resume_command}")
        return FAULT
    if any(state is not State.COMPLETE for state in states.values()):
        print(f"\nInterrupted. This command resumes the study: {resume_command}")
        return INTERRUPTED
    for job in jobs:
        if job.stage == REPORT:
            print("\n".join(last_output(log_path(folder, job.name))) or f"The report: {job.run_dir / REPORT_FILE}")
    if Path(shlex.split(resume_command)[0]).name == PROGRAM and (advice := prediction_advice(jobs)):
        *sentences, line = advice.splitlines()
        print("\n".join(["", *(wrapped(sentence, sys.stdout) for sentence in sentences), line]))
    return COMPLETE
