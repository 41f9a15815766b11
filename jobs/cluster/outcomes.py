"""The states of the runs that were submitted to SLURM, from its queue, its accounting and the runs' own logs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from jobs.cluster.batch_script import SETUP_FAILED
from jobs.cluster.batches import (
    Batch,
    SubmittedJob,
    batch_cluster,
    batch_output,
    ended_in_setup,
    newest_jobs,
    read_batches,
    tokens_by_id,
    unreachable_reason,
    with_job_ids,
)  # fmt: skip
from jobs.cluster.job_queries import DEPENDENCY_NEVER_SATISFIED, RUNNING_STATES, SlurmJobInfo, query_jobs
from jobs.cluster.slurm_cli import SchedulerUnavailable
from jobs.ledger import REPORT, State, log_path, read_ledger
from jobs.stage_process import CANCELLED, last_slurm_job
from ssl_pkg.errors import COMPLETE, INTERRUPTED
from ssl_pkg.run.directory import RunDirectory
from ssl_pkg.run.run_log import last_events, last_exit_status, last_output

UNSUCCESSFUL: Final = (State.FAILED, State.BLOCKED, State.CANCELLED, State.INTERRUPTED)
ACTIVE: Final = (State.PENDING, State.RUNNING)
DEPENDENCY: Final = "Dependency"
NO_OUTPUT: Final = "ended without output"
LEFT_QUEUE: Final = "not in the queue: submit again"
ENDED_IN_SETUP: Final = "its batch script ended during the set-up lines: does one of them call exec, or kill the shell?"
NOT_REQUEUED: Final = "not requeued"


@dataclass(frozen=True)
class JobOutcome:
    """The state of one run's job, pending and running jobs included."""

    state: State
    job: str
    note: str | None = None  # why the job is pending, or how it ended
    requeues: int | None = None
    started: float | None = None  # seconds since the epoch
    exit_status: int | None = None


def job_outcomes(folder: Path, complete: Sequence[str]) -> tuple[dict[str, JobOutcome], str | None]:
    """Returns the outcome of each submitted run of the study in `folder`, by name, and a warning or None.

    The warning says that SLURM does not respond. complete: the names of the complete runs. Jobs are left out if their
    run has been started on this machine since they were submitted.
    """
    here = {name: entry.started for name, entry in read_ledger(folder).items() if entry.started}
    batches = read_batches(folder)
    submitted, open_jobs = _jobs(batches, complete, here)
    try:
        batches = _with_job_ids(batches)
        submitted, open_jobs = _jobs(batches, complete, here)
        infos = _query_clusters(batches, open_jobs)
    except SchedulerUnavailable as error:
        known = _report_outcome(folder, open_jobs)
        if known.keys() == open_jobs.keys():  # SLURM is not needed
            return known, None
        warning = error.explain("when it does, submit the study again, which submits only the missing runs")
        unknown = {name: JobOutcome(State.PENDING, job.id, "state unknown") for name, job in open_jobs.items()}
        return unknown | known, f"{warning}. The states come from the run directories only"
    resolver = _OutcomeResolver(folder, {job.id: name for name, job in submitted.items()})
    resolver.found = {name: JobOutcome(State.COMPLETE, submitted[name].id) for name in complete if name in submitted}
    for name, job in open_jobs.items():  # parents were submitted before their children
        resolver.found[name] = resolver.resolve(name, job, infos.get(name))
    return resolver.found, None


def _with_job_ids(batches: Sequence[Batch]) -> list[Batch]:
    """The batches, with missing job ids from their own clusters. Raises SchedulerUnavailable."""
    found: dict[str, Batch] = {}
    for conf in dict.fromkeys(batch.conf for batch in batches):
        with batch_cluster(conf):
            found |= {batch.token: batch for batch in with_job_ids([each for each in batches if each.conf == conf])}
    return [found[batch.token] for batch in batches]


def _query_clusters(batches: Sequence[Batch], jobs: Mapping[str, SubmittedJob]) -> dict[str, SlurmJobInfo]:
    """What each job's own cluster reports. Skips earlier, unreachable clusters. Raises SchedulerUnavailable."""
    infos: dict[str, SlurmJobInfo] = {}
    for conf in dict.fromkeys(job.batch.conf for job in jobs.values()):
        of_cluster = {name: job for name, job in jobs.items() if job.batch.conf == conf}
        if unreachable_reason(conf) and conf != batches[-1].conf:
            continue
        with batch_cluster(conf):
            found = query_jobs(tokens_by_id(of_cluster.values()))
        infos |= {name: found[job.id] for name, job in of_cluster.items() if job.id in found}
    return infos


def _jobs(
    batches: list[Batch], complete: Sequence[str], here: Mapping[str, float]
) -> tuple[dict[str, SubmittedJob], dict[str, SubmittedJob]]:
    """The newest jobs of the runs in these batches, and those of them whose runs are not complete."""
    submitted = {name: job for name, job in newest_jobs(batches).items() if here.get(name, 0.0) <= job.batch.made}
    return submitted, {name: job for name, job in submitted.items() if name not in complete}


class _OutcomeResolver:
    """Finds the outcome of each job. The jobs must be resolved in order, parents before children."""

    def __init__(self, folder: Path, names: Mapping[str, str]) -> None:
        self._folder = folder
        self._names: dict[str, list[str]] = {}  # of the runs, by job id and by the id of the whole array
        for job, name in names.items():
            for number in {job, job.partition("_")[0]}:
                self._names.setdefault(number, []).append(name)
        self.found: dict[str, JobOutcome] = {}

    def resolve(self, name: str, job: SubmittedJob, info: SlurmJobInfo | None) -> JobOutcome:
        """The outcome of a run that has no result."""
        if info is None or not info.in_queue:
            outcome = self._ended(name, job, info.state if info else "")
            if outcome.state is State.COMPLETE and name != REPORT and not RunDirectory(self._folder / name).complete:
                return JobOutcome(State.INTERRUPTED, job.id, "its result is missing")
            return self._removed(name, job, outcome) or outcome
        if info.state in RUNNING_STATES:
            return JobOutcome(State.RUNNING, job.id, None, info.restarts, info.started)
        return self._pending(job, info)

    def _pending(self, job: SubmittedJob, info: SlurmJobInfo) -> JobOutcome:
        failed = self._parents_in(job, UNSUCCESSFUL)
        if failed or info.reason == DEPENDENCY_NEVER_SATISFIED:
            needed = failed or self._parents_in(job, tuple(State))
            return JobOutcome(State.BLOCKED, job.id, f"needs {_abbreviate(needed)}", info.restarts)
        if before := job.batch.moved_from(self._folder):
            return JobOutcome(State.PENDING, job.id, f"will fail, because the study was moved from {before}: cancel it")
        active = self._parents_in(job, ACTIVE)
        if info.reason == DEPENDENCY and active:
            return JobOutcome(State.PENDING, job.id, f"after {_abbreviate(active)}", info.restarts)
        return JobOutcome(State.PENDING, job.id, info.reason or None, info.restarts)

    def _removed(self, name: str, job: SubmittedJob, outcome: JobOutcome) -> JobOutcome | None:
        """The outcome of a job that SLURM removed from the queue before it began, because a parent failed."""
        began = last_slurm_job(log_path(self._folder, name)) == job.id
        failed = self._parents_in(job, UNSUCCESSFUL)
        if began or not failed or outcome.state not in (State.CANCELLED, State.INTERRUPTED):
            return None
        return JobOutcome(State.BLOCKED, job.id, f"needs {_abbreviate(failed)}")

    def _parents_in(self, job: SubmittedJob, states: Sequence[State]) -> list[str]:
        """The job's parents that are in one of `states`. A report's parents may have failed (`afterany`)."""
        if _dependency_type(job) == "afterany" and states is not ACTIVE:
            return []
        parents = [name for parent in _parent_ids(job) for name in self._names.get(parent, ())]
        return [name for name in parents if name in self.found and self.found[name].state in states]

    def _ended(self, name: str, job: SubmittedJob, state: str) -> JobOutcome:
        log, printed = log_path(self._folder, name), batch_output(self._folder, job)
        failed = [line for line in printed if line.startswith(SETUP_FAILED)]
        if failed:
            return JobOutcome(State.FAILED, job.id, failed[-1])
        has_log = last_slurm_job(log) in (None, job.id) and log.exists()
        setting_up = ended_in_setup(self._folder, job)  # then the log is that of an earlier start
        outcome = None
        if has_log:
            outcome = _from_slurm(log, job.id, state) or (None if setting_up else _from_log(log, job.id))
        if outcome is None:
            outcome = _from_state(job.id, state) or _from_output(printed, job.id, state)
        if setting_up and outcome.note in (NO_OUTPUT, LEFT_QUEUE):
            return JobOutcome(State.FAILED, job.id, ENDED_IN_SETUP)
        before = job.batch.moved_from(self._folder)
        if before and outcome.note and (outcome.note in (NO_OUTPUT, NOT_REQUEUED) or before in outcome.note):
            note = f"the study was moved from {before} while the job was in the queue: submit it again"
            return replace(outcome, note=note)
        if outcome.note == NO_OUTPUT:  # SLURM first opens the job's output in that folder
            note = f"{NO_OUTPUT}: does the node have access to {self._folder.absolute()}?"
            return replace(outcome, note=note)
        return outcome


def _report_outcome(folder: Path, jobs: Mapping[str, SubmittedJob]) -> dict[str, JobOutcome]:
    """The outcome of a complete report, which only its log shows."""
    log, job = log_path(folder, REPORT), jobs.get(REPORT)
    outcome = _from_log(log, job.id) if job and last_slurm_job(log) == job.id else None
    return {REPORT: outcome} if outcome and outcome.state is State.COMPLETE else {}


def _abbreviate(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if names[1:] else ""
    return f"{names[0]}{more}" if names else "another run"


def _dependency_type(job: SubmittedJob) -> str:
    """The type of the job's dependency, e.g. `afterok`."""
    return job.batch.after.partition(":")[0]


def _parent_ids(job: SubmittedJob) -> list[str]:
    """The ids of the jobs that this job depends on."""
    kind, _, ids = job.batch.after.partition(":")
    if kind == "aftercorr":
        return [f"{ids}_{job.id.partition('_')[2]}"]
    return ids.split(":") if ids else []


def _from_output(printed: Sequence[str], job: str, state: str) -> JobOutcome:
    """The outcome of a job whose stage has not written to its log."""
    # After a preemption, srun's line about the step gives no reason; only the line about the job does.
    by_user = any("JOB " in line and "CANCELLED AT" in line and "DUE TO" not in line for line in printed)
    if state == "CANCELLED" or (by_user and not state):
        return JobOutcome(State.CANCELLED, job)
    if any("CANCELLED AT" in line and "DUE TO TIME LIMIT" in line for line in printed):
        return JobOutcome(State.INTERRUPTED, job, "timeout")
    if printed or state == "FAILED":
        causes = [line for line in printed if not line.startswith("srun: ") or "Unable to" in line]
        lines = causes or [*printed] or [NO_OUTPUT]
        return JobOutcome(State.FAILED, job, lines[-1])
    return JobOutcome(State.INTERRUPTED, job, LEFT_QUEUE)


def _from_slurm(log: Path, job: str, state: str) -> JobOutcome | None:
    """The outcome by SLURM's state, or by a cancellation in the log; None if the exit status decides."""
    if state == "CANCELLED" or CANCELLED in last_events(log):
        return JobOutcome(State.CANCELLED, job)
    if state == "COMPLETED":
        return JobOutcome(State.COMPLETE, job)
    return _from_state(job, state)


def _from_state(job: str, state: str) -> JobOutcome | None:
    """The outcome of a job that SLURM has ended; None in other states."""
    if state == "OUT_OF_MEMORY":
        return JobOutcome(State.FAILED, job, "out of memory: increase `memory` in the profile")
    if state in ("TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE"):
        return JobOutcome(State.INTERRUPTED, job, state.lower().replace("_", " "))
    return None


def _from_log(log: Path, job: str) -> JobOutcome | None:
    """The outcome by the exit status in the log; None if there is none."""
    status = last_exit_status(log)
    if status is None:
        return None
    if status == COMPLETE:
        return JobOutcome(State.COMPLETE, job)
    if status == INTERRUPTED:
        return JobOutcome(State.INTERRUPTED, job, NOT_REQUEUED)
    lines = [line.strip() for line in last_output(log) if line.strip()]
    return JobOutcome(State.FAILED, job, lines[-1] if lines else "its log is empty", exit_status=status)
