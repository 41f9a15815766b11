"""What became of the runs that were sent to SLURM: its queue, its accounting and the runs' own logs, put together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from jobs.cluster.batch_script import SET_UP
from jobs.cluster.batches import (
    Batch,
    Sent,
    around,
    cluster_of,
    comments,
    gone,
    jobs_of,
    numbered,
    read_batches,
    within_set_up,
)  # fmt: skip
from jobs.cluster.slurm_cli import NEVER, RUNS, Away, Seen, look
from jobs.ledger import REPORT, State, log_of
from jobs.stage_process import CANCELLED, EXIT_STATUS, last_job, last_output, last_words
from ssl_pkg.errors import COMPLETE, INTERRUPTED
from ssl_pkg.run.directory import RunDirectory

ENDED_BADLY: Final = (State.FAILED, State.BLOCKED, State.CANCELLED, State.INTERRUPTED)
UNDER_WAY: Final = (State.PENDING, State.RUNNING)
WAITS_FOR_OTHERS: Final = "Dependency"
SILENT: Final = "without a word"
GONE: Final = "gone from the queue"
ENDED_IN_SET_UP: Final = (
    "its batch script ended within the set-up lines: does one of them call exec, or kill the shell?"
)
NOT_REQUEUED: Final = "not requeued"


@dataclass(frozen=True)
class Fate:
    """One run's job."""

    state: State
    job: str
    note: str | None = None  # why it waits, or how it ended
    requeues: int | None = None
    started: float | None = None  # seconds since the epoch
    exit_status: int | None = None


def fates(
    folder: Path, complete: Sequence[str], here: Mapping[str, float] = MappingProxyType({})
) -> tuple[dict[str, Fate], str | None]:
    """The fate of each run of the study in `folder` that was sent to SLURM, by name; and a sentence for the user if
    SLURM doesn't answer. complete: the names of the runs whose results are there. here: those that were started on
    this machine, and when; what was sent before that is not told."""
    batches = read_batches(folder)
    sent, open_jobs = _jobs(batches, complete, here)
    try:
        batches = _numbered(batches)
        sent, open_jobs = _jobs(batches, complete, here)
        seen = _look(batches, open_jobs)
    except Away as error:
        told = _told_report(folder, open_jobs)
        if told.keys() == open_jobs.keys():  # nothing is left that SLURM could know of
            return told, None
        warning = (
            f"SLURM does not answer ({error}). The states are those of the run directories; "
            "when it is back, `submit-all` sends what is missing"
        )
        unknown = {name: Fate(State.PENDING, job.id, "SLURM does not answer") for name, job in open_jobs.items()}
        return unknown | told, warning
    judge = _Judge(folder, {job.id: name for name, job in sent.items()})
    judge.found = {name: Fate(State.COMPLETE, sent[name].id) for name in complete if name in sent}
    for name, job in open_jobs.items():  # parents were sent before their children
        judge.found[name] = judge.fate(name, job, seen.get(name))
    return judge.found, None


def _numbered(batches: Sequence[Batch]) -> list[Batch]:
    """The batches with the numbers that their own clusters know. Raises Away."""
    found: dict[str, Batch] = {}
    for conf in dict.fromkeys(batch.conf for batch in batches):
        with cluster_of(conf):
            found |= {batch.token: batch for batch in numbered([each for each in batches if each.conf == conf])}
    return [found[batch.token] for batch in batches]


def _look(batches: Sequence[Batch], jobs: Mapping[str, Sent]) -> dict[str, Seen]:
    """What the cluster of each run's job sees of it. Raises Away, but not for an earlier cluster that is gone."""
    seen: dict[str, Seen] = {}
    for conf in dict.fromkeys(job.batch.conf for job in jobs.values()):
        there = {name: job for name, job in jobs.items() if job.batch.conf == conf}
        if gone(conf) and conf != batches[-1].conf:
            continue
        with cluster_of(conf):
            found = look(comments(there.values()))
        seen |= {name: found[job.id] for name, job in there.items() if job.id in found}
    return seen


def _jobs(
    batches: list[Batch], complete: Sequence[str], here: Mapping[str, float]
) -> tuple[dict[str, Sent], dict[str, Sent]]:
    """The newest jobs of these batches, and those among them whose runs are not complete."""
    sent = {name: job for name, job in jobs_of(batches).items() if here.get(name, 0.0) <= job.batch.made}
    return sent, {name: job for name, job in sent.items() if name not in complete}


class _Judge:
    """Puts together what is known of each job, after those that it waits for."""

    def __init__(self, folder: Path, names: Mapping[str, str]) -> None:
        self._folder = folder
        self._names: dict[str, list[str]] = {}  # of the runs, by their jobs' ids and by those of whole arrays
        for job, name in names.items():
            for number in {job, job.partition("_")[0]}:
                self._names.setdefault(number, []).append(name)
        self.found: dict[str, Fate] = {}

    def fate(self, name: str, job: Sent, seen: Seen | None) -> Fate:
        """The fate of a run without a result."""
        if seen is None or not seen.in_queue:
            fate = self._ended(name, job, seen.state if seen else "")
            if fate.state is State.COMPLETE and name != REPORT and not RunDirectory(self._folder / name).complete:
                return Fate(State.INTERRUPTED, job.id, "its result is not there")
            return self._removed(name, job, fate) or fate
        if seen.state in RUNS:
            return Fate(State.RUNNING, job.id, None, seen.restarts, seen.started)
        return self._waiting(job, seen)

    def _waiting(self, job: Sent, seen: Seen) -> Fate:
        bad = self._parents_in(job, ENDED_BADLY)
        if bad or seen.reason == NEVER:
            needed = bad or self._parents_in(job, tuple(State))
            return Fate(State.BLOCKED, job.id, f"needs {_few(needed)}", seen.restarts)
        if before := job.batch.moved_from(self._folder):
            return Fate(State.PENDING, job.id, f"will fail, because its folder was moved from {before}: cancel it")
        awaited = self._parents_in(job, UNDER_WAY)
        if seen.reason == WAITS_FOR_OTHERS and awaited:
            return Fate(State.PENDING, job.id, f"after {_few(awaited)}", seen.restarts)
        return Fate(State.PENDING, job.id, seen.reason or None, seen.restarts)

    def _removed(self, name: str, job: Sent, fate: Fate) -> Fate | None:
        """The fate of a job that SLURM took out of the queue before it began, because one that it needs has failed."""
        began = last_job(log_of(self._folder, name)) == job.id
        failed = self._parents_in(job, ENDED_BADLY)
        if began or not failed or fate.state not in (State.CANCELLED, State.INTERRUPTED):
            return None
        return Fate(State.BLOCKED, job.id, f"needs {_few(failed)}")

    def _parents_in(self, job: Sent, states: Sequence[State]) -> list[str]:
        """Those of the runs that this job waits for that are in one of `states`; a report waits for every end."""
        if _kind(job) == "afterany" and states is not UNDER_WAY:
            return []
        parents = [name for parent in _parents(job) for name in self._names.get(parent, ())]
        return [name for name in parents if name in self.found and self.found[name].state in states]

    def _ended(self, name: str, job: Sent, state: str) -> Fate:
        log, printed = log_of(self._folder, name), around(self._folder, job)
        failed = [line for line in printed if line.startswith(SET_UP)]
        if failed:
            return Fate(State.FAILED, job.id, failed[-1])
        told = last_job(log) in (None, job.id) and log.exists()
        setting_up = within_set_up(self._folder, job)  # then the log is of an earlier start
        fate = _by_slurm(log, job.id, state) or (None if setting_up else _by_log(log, job.id)) if told else None
        if fate is None:
            fate = _without_log(printed, job.id, state)
        if setting_up and fate.note in (SILENT, GONE):
            return Fate(State.FAILED, job.id, ENDED_IN_SET_UP)
        before = job.batch.moved_from(self._folder)
        if before and fate.note and (fate.note in (SILENT, NOT_REQUEUED) or before in fate.note):
            return replace(fate, note=f"its folder was moved from {before} while it was in the queue: submit again")
        if fate.note == SILENT:  # SLURM opens the job's output there before anything else
            return replace(fate, note=f"ended without a word: does the node see {self._folder.absolute()}?")
        return fate


def _told_report(folder: Path, jobs: Mapping[str, Sent]) -> dict[str, Fate]:
    """The fate of a complete report, of which its log alone knows."""
    log, job = log_of(folder, REPORT), jobs.get(REPORT)
    fate = _by_log(log, job.id) if job and last_job(log) == job.id else None
    return {REPORT: fate} if fate and fate.state is State.COMPLETE else {}


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1} more" if names[1:] else ""
    return f"{names[0]}{more}" if names else "another run"


def _kind(job: Sent) -> str:
    """The kind of the job's dependency, e.g. `afterok`."""
    return ":".join(job.batch.after).partition(":")[0]


def _parents(job: Sent) -> list[str]:
    """The ids of the jobs that this one waits for."""
    kind, _, ids = ":".join(job.batch.after).partition(":")
    if kind == "aftercorr":
        return [f"{ids}_{job.id.partition('_')[2]}"]
    return ids.split(":") if ids else []


def _without_log(printed: Sequence[str], job: str, state: str) -> Fate:
    """Of a job that came to its end before, or without, a word in the stage's own log."""
    # a preemption's line about the step bears no reason, only the one about the job
    by_user = any("JOB " in line and "CANCELLED AT" in line and "DUE TO" not in line for line in printed)
    if state == "CANCELLED" or (by_user and not state):
        return Fate(State.CANCELLED, job)
    if printed or state == "FAILED":
        telling = [line for line in printed if not line.startswith("srun: ") or "Unable to" in line]
        said = telling or [*printed] or [SILENT]
        return Fate(State.FAILED, job, said[-1])
    return Fate(State.INTERRUPTED, job, GONE)


def _by_slurm(log: Path, job: str, state: str) -> Fate | None:
    """What SLURM knows better than the log; None where the log must tell."""
    if state == "CANCELLED" or CANCELLED in last_words(log):
        return Fate(State.CANCELLED, job)
    if state == "COMPLETED":
        return Fate(State.COMPLETE, job)
    if state == "OUT_OF_MEMORY":
        return Fate(State.FAILED, job, "out of memory: raise `memory` in the profile")
    if state in ("TIMEOUT", "NODE_FAIL", "PREEMPTED", "BOOT_FAIL", "DEADLINE"):
        return Fate(State.INTERRUPTED, job, state.lower().replace("_", " "))
    return None


def _by_log(log: Path, job: str) -> Fate | None:
    """What the exit status in the log says; None where there is none."""
    words = last_words(log)
    statuses = [int(found[1]) for word in words if (found := EXIT_STATUS.match(word))]
    if not statuses:
        return None
    if statuses[-1] == COMPLETE:
        return Fate(State.COMPLETE, job)
    if statuses[-1] == INTERRUPTED:
        return Fate(State.INTERRUPTED, job, NOT_REQUEUED)
    said = [line.strip() for line in last_output(log) if line.strip()]
    return Fate(State.FAILED, job, said[-1] if said else "no word in its log", exit_status=statuses[-1])
