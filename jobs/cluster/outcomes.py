"""What became of the runs that were sent to SLURM: its queue, its accounting and the runs' own logs, put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
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
from jobs.cluster.slurm_cli import (
    DEPENDENCY_NEVER_SATISFIED,
    RUNNING_STATES,
    SchedulerUnavailable,
    SlurmJobInfo,
    query_jobs,
)
from jobs.ledger import REPORT, State, log_of
from jobs.stage_process import CANCELLED, EXIT_STATUS, last_job, last_output, last_words
from ssl_pkg.errors import COMPLETE, INTERRUPTED
from ssl_pkg.run.directory import RunDirectory

UNSUCCESSFUL: Final = (State.FAILED, State.BLOCKED, State.CANCELLED, State.INTERRUPTED)
ACTIVE: Final = (State.PENDING, State.RUNNING)
DEPENDENCY: Final = "Dependency"
NO_OUTPUT: Final = "without a word"
LEFT_QUEUE: Final = "gone from the queue"
ENDED_IN_SETUP: Final = "its batch script ended within the set-up lines: does one of them call exec, or kill the shell?"
NOT_REQUEUED: Final = "not requeued"


@dataclass(frozen=True)
class JobOutcome:
    """One run's job."""

    state: State
    job: str
    note: str | None = None  # why it waits, or how it ended
    requeues: int | None = None
    started: float | None = None  # seconds since the epoch
    exit_status: int | None = None


def job_outcomes(
    folder: Path, complete: Sequence[str], here: Mapping[str, float] = MappingProxyType({})
) -> tuple[dict[str, JobOutcome], str | None]:
    """The outcome of each run of the study in `folder` that was sent to SLURM, by name; and a sentence for the user if
    SLURM doesn't answer. complete: the names of the runs whose results are there. here: those that were started on
    this machine, and when; what was sent before that is not told."""
    batches = read_batches(folder)
    sent, open_jobs = _jobs(batches, complete, here)
    try:
        batches = _with_job_ids(batches)
        sent, open_jobs = _jobs(batches, complete, here)
        seen = _query_clusters(batches, open_jobs)
    except SchedulerUnavailable as error:
        told = _report_outcome(folder, open_jobs)
        if told.keys() == open_jobs.keys():  # nothing is left that SLURM could know of
            return told, None
        warning = (
            f"SLURM does not answer ({error}). The states are those of the run directories; "
            "when it is back, `submit-all` sends what is missing"
        )
        unknown = {name: JobOutcome(State.PENDING, job.id, "SLURM does not answer") for name, job in open_jobs.items()}
        return unknown | told, warning
    resolver = _OutcomeResolver(folder, {job.id: name for name, job in sent.items()})
    resolver.found = {name: JobOutcome(State.COMPLETE, sent[name].id) for name in complete if name in sent}
    for name, job in open_jobs.items():  # parents were sent before their children
        resolver.found[name] = resolver.resolve(name, job, seen.get(name))
    return resolver.found, None


def _with_job_ids(batches: Sequence[Batch]) -> list[Batch]:
    """The batches with the numbers that their own clusters know. Raises Away."""
    found: dict[str, Batch] = {}
    for conf in dict.fromkeys(batch.conf for batch in batches):
        with batch_cluster(conf):
            found |= {batch.token: batch for batch in with_job_ids([each for each in batches if each.conf == conf])}
    return [found[batch.token] for batch in batches]


def _query_clusters(batches: Sequence[Batch], jobs: Mapping[str, SubmittedJob]) -> dict[str, SlurmJobInfo]:
    """What the cluster of each run's job sees of it. Raises Away, but not for an earlier cluster that is gone."""
    seen: dict[str, SlurmJobInfo] = {}
    for conf in dict.fromkeys(job.batch.conf for job in jobs.values()):
        there = {name: job for name, job in jobs.items() if job.batch.conf == conf}
        if unreachable_reason(conf) and conf != batches[-1].conf:
            continue
        with batch_cluster(conf):
            found = query_jobs(tokens_by_id(there.values()))
        seen |= {name: found[job.id] for name, job in there.items() if job.id in found}
    return seen


def _jobs(
    batches: list[Batch], complete: Sequence[str], here: Mapping[str, float]
) -> tuple[dict[str, SubmittedJob], dict[str, SubmittedJob]]:
    """The newest jobs of these batches, and those among them whose runs are not complete."""
    sent = {name: job for name, job in newest_jobs(batches).items() if here.get(name, 0.0) <= job.batch.made}
    return sent, {name: job for name, job in sent.items() if name not in complete}


class _OutcomeResolver:
    """Puts together what is known of each job, after those that it waits for."""

    def __init__(self, folder: Path, names: Mapping[str, str]) -> None:
        self._folder = folder
        self._names: dict[str, list[str]] = {}  # of the runs, by their jobs' ids and by those of whole arrays
        for job, name in names.items():
            for number in {job, job.partition("_")[0]}:
                self._names.setdefault(number, []).append(name)
        self.found: dict[str, JobOutcome] = {}

    def resolve(self, name: str, job: SubmittedJob, seen: SlurmJobInfo | None) -> JobOutcome:
        """The outcome of a run without a result."""
        if seen is None or not seen.in_queue:
            outcome = self._ended(name, job, seen.state if seen else "")
            if outcome.state is State.COMPLETE and name != REPORT and not RunDirectory(self._folder / name).complete:
                return JobOutcome(State.INTERRUPTED, job.id, "its result is not there")
            return self._removed(name, job, outcome) or outcome
        if seen.state in RUNNING_STATES:
            return JobOutcome(State.RUNNING, job.id, None, seen.restarts, seen.started)
        return self._waiting(job, seen)

    def _waiting(self, job: SubmittedJob, seen: SlurmJobInfo) -> JobOutcome:
        bad = self._parents_in(job, UNSUCCESSFUL)
        if bad or seen.reason == DEPENDENCY_NEVER_SATISFIED:
            needed = bad or self._parents_in(job, tuple(State))
            return JobOutcome(State.BLOCKED, job.id, f"needs {_abbreviate(needed)}", seen.restarts)
        if before := job.batch.moved_from(self._folder):
            return JobOutcome(
                State.PENDING, job.id, f"will fail, because its folder was moved from {before}: cancel it"
            )
        awaited = self._parents_in(job, ACTIVE)
        if seen.reason == DEPENDENCY and awaited:
            return JobOutcome(State.PENDING, job.id, f"after {_abbreviate(awaited)}", seen.restarts)
        return JobOutcome(State.PENDING, job.id, seen.reason or None, seen.restarts)

    def _removed(self, name: str, job: SubmittedJob, outcome: JobOutcome) -> JobOutcome | None:
        """The outcome of a job that SLURM removed from the queue before it began, because a parent failed."""
        began = last_job(log_of(self._folder, name)) == job.id
        failed = self._parents_in(job, UNSUCCESSFUL)
        if began or not failed or outcome.state not in (State.CANCELLED, State.INTERRUPTED):
            return None
        return JobOutcome(State.BLOCKED, job.id, f"needs {_abbreviate(failed)}")

    def _parents_in(self, job: SubmittedJob, states: Sequence[State]) -> list[str]:
        """Those of the runs that this job waits for that are in one of `states`; a report waits for every end."""
        if _dependency_type(job) == "afterany" and states is not ACTIVE:
            return []
        parents = [name for parent in _parent_ids(job) for name in self._names.get(parent, ())]
        return [name for name in parents if name in self.found and self.found[name].state in states]

    def _ended(self, name: str, job: SubmittedJob, state: str) -> JobOutcome:
        log, printed = log_of(self._folder, name), batch_output(self._folder, job)
        failed = [line for line in printed if line.startswith(SETUP_FAILED)]
        if failed:
            return JobOutcome(State.FAILED, job.id, failed[-1])
        told = last_job(log) in (None, job.id) and log.exists()
        setting_up = ended_in_setup(self._folder, job)  # then the log is of an earlier start
        outcome = _from_slurm(log, job.id, state) or (None if setting_up else _from_log(log, job.id)) if told else None
        if outcome is None:
            outcome = _from_output(printed, job.id, state)
        if setting_up and outcome.note in (NO_OUTPUT, LEFT_QUEUE):
            return JobOutcome(State.FAILED, job.id, ENDED_IN_SETUP)
        before = job.batch.moved_from(self._folder)
        if before and outcome.note and (outcome.note in (NO_OUTPUT, NOT_REQUEUED) or before in outcome.note):
            return replace(outcome, note=f"its folder was moved from {before} while it was in the queue: submit again")
        if outcome.note == NO_OUTPUT:  # SLURM opens the job's output there before anything else
            return replace(outcome, note=f"ended without a word: does the node see {self._folder.absolute()}?")
        return outcome


def _report_outcome(folder: Path, jobs: Mapping[str, SubmittedJob]) -> dict[str, JobOutcome]:
    """The outcome of a complete report, of which its log alone knows."""
    log, job = log_of(folder, REPORT), jobs.get(REPORT)
    outcome = _from_log(log, job.id) if job and last_job(log) == job.id else None
    return {REPORT: outcome} if outcome and outcome.state is State.COMPLETE else {}


def _abbreviate(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if names[1:] else ""
    return f"{names[0]}{more}" if names else "another run"


def _dependency_type(job: SubmittedJob) -> str:
    """The kind of the job's dependency, e.g. `afterok`."""
    return ":".join(job.batch.after).partition(":")[0]


def _parent_ids(job: SubmittedJob) -> list[str]:
    """The ids of the jobs that this one waits for."""
    kind, _, ids = ":".join(job.batch.after).partition(":")
    if kind == "aftercorr":
        return [f"{ids}_{job.id.partition('_')[2]}"]
    return ids.split(":") if ids else []


def _from_output(printed: Sequence[str], job: str, state: str) -> JobOutcome:
    """Of a job that came to its end before, or without, a word in the stage's own log."""
    # a preemption's line about the step bears no reason, only the one about the job
    by_user = any("JOB " in line and "CANCELLED AT" in line and "DUE TO" not in line for line in printed)
    if state == "CANCELLED" or (by_user and not state):
        return JobOutcome(State.CANCELLED, job)
    if printed or state == "FAILED":
        telling = [line for line in printed if not line.startswith("srun: ") or "Unable to" in line]
        said = telling or [*printed] or [NO_OUTPUT]
        return JobOutcome(State.FAILED, job, said[-1])
    return JobOutcome(State.INTERRUPTED, job, LEFT_QUEUE)


def _from_slurm(log: Path, job: str, state: str) -> JobOutcome | None:
    """What SLURM knows better than the log; None where the log must tell."""
    if state == "CANCELLED" or CANCELLED in last_words(log):
        return JobOutcome(State.CANCELLED, job)
    if state == "COMPLETED":
        return JobOutcome(State.COMPLETE, job)
    if state == "OUT_OF_MEMORY":
        return JobOutcome(State.FAILED, job, "out of memory: raise `memory` in the profile")
    if state in ("TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE"):
        return JobOutcome(State.INTERRUPTED, job, state.lower().replace("_", " "))
    return None


def _from_log(log: Path, job: str) -> JobOutcome | None:
    """What the exit status in the log says; None where there is none."""
    words = last_words(log)
    statuses = [int(found[1]) for word in words if (found := EXIT_STATUS.match(word))]
    if not statuses:
        return None
    if statuses[-1] == COMPLETE:
        return JobOutcome(State.COMPLETE, job)
    if statuses[-1] == INTERRUPTED:
        return JobOutcome(State.INTERRUPTED, job, NOT_REQUEUED)
    said = [line.strip() for line in last_output(log) if line.strip()]
    return JobOutcome(State.FAILED, job, said[-1] if said else "no word in its log", exit_status=statuses[-1])
