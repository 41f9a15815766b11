"""`python -m jobs submit`: what is missing of a study goes to SLURM, by submitit, and never twice."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from submitit import SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError
from submitit.helpers import clean_env

from jobs.batches import Batch, Sent, comments, jobs_of, read_batches, slurm_conf
from jobs.graph import Job
from jobs.ledger import REPORT, Entry, State, forget_owner, log_of, read_ledger, write_ledger
from jobs.local import alone
from jobs.node import NodeStage
from jobs.profile import Profile, reach
from jobs.queue import NEVER, Away, cancel, look, no_answer
from jobs.runner import Programs
from jobs.script import script
from jobs.sending import OTHERS_SECONDS, recall, settled
from slurm.container import check, folders
from ssl_pkg.config import SYNTHETIC
from ssl_pkg.errors import BadInput

# Until the stage's process can take a signal, it waits: without this, one that comes while Python starts ends the job.
SHIELD: Final = "$(env --block-signal=TERM true 2>/dev/null && echo env --block-signal=TERM --block-signal=USR2)"


@dataclass
class Outcome:
    """What became of each run of the plan."""

    sent: list[str] = field(default_factory=list)
    queued: list[str] = field(default_factory=list)  # by an earlier call
    complete: list[str] = field(default_factory=list)


class Submission:
    """Sends the jobs of a plan to the cluster of `profile`."""

    def __init__(
        self, jobs: Sequence[Job], folder: Path, profile: Profile, *, data_root: str, programs: Programs
    ) -> None:  # fmt: skip
        self._jobs, self._folder, self._profile, self._data_root = jobs, folder.absolute(), profile, data_root
        self._programs = programs

    def send(self) -> Outcome:
        """Sends what is missing, parents before children. Raises BadInput where SLURM or the folder refuses."""
        if "%" in str(self._folder):
            raise BadInput(
                f"SLURM puts other words for the % in {self._folder}: give another folder by --runs (make: RUNS=)"
            )
        reach(self._profile)
        if self._profile.container:
            backend = self._profile.container.backend
            check(self._profile.container.binds, backend)
            for job in self._jobs:
                check(folders((*((REPORT,) if job.stage == REPORT else ()), *job.overrides)), backend)
        with alone(self._folder, OTHERS_SECONDS):
            try:
                return self._send()
            except Away as error:
                raise BadInput(f"SLURM does not answer ({error}): type the same line when it does") from error

    def _send(self) -> Outcome:
        outcome = Outcome()
        forget_owner(self._folder)  # who may send knows that no runner is at work
        settled(recall(self._folder))
        self._sent = jobs_of(self._batches_here())
        self._seen = settled(comments(self._sent.values()))
        recorded = read_ledger(self._folder)
        missing: list[Job] = []
        useless: dict[str, Sent] = {}
        for job in self._jobs:
            if job.complete and not (job.stage == REPORT and missing):  # a report tells of all
                outcome.complete.append(job.name)
            elif self._stands(job, {other.name for other in missing}):
                self._refuse_others(job, recorded.get(job.name))
                outcome.queued.append(job.name)
            else:
                missing.append(job)
                useless |= {job.name: self._sent[job.name]} if self._in_queue(job.name) else {}
        if useless:
            cancel(job.id for job in useless.values())
            settled(comments(useless.values()))  # a run's next job must not meet the one before
        self._open = {name for name in self._sent if self._in_queue(name)} - useless.keys()
        entries = {
            job.name: Entry(State.COMPLETE if job.complete else State.PENDING, settings=job.settings)
            for job in self._jobs
        }
        others = {
            name: entry
            for name, entry in recorded.items()
            if name not in entries and (name in self._sent or entry.state is not State.PENDING)
        }
        write_ledger(self._folder, entries | others)
        try:
            for level in _levels(missing):
                for group, after in self._groups(level):
                    self._submit(group, after)
                    outcome.sent += [job.name for job in group]
        except BadInput:
            known = {*outcome.sent, *outcome.queued, *outcome.complete}
            write_ledger(self._folder, {name: entry for name, entry in entries.items() if name in known} | others)
            raise
        return outcome

    def _batches_here(self) -> list[Batch]:
        """Those of the cluster at hand. Raises BadInput if another one still has runs of the study."""
        batches, here = read_batches(self._folder), os.environ.get("SLURM_CONF", "")
        for conf in {batch.conf for batch in batches} - {here}:
            if conf and not Path(conf).exists():  # a cluster that is no more
                continue
            there = jobs_of([batch for batch in batches if batch.conf == conf])
            with slurm_conf(conf):
                waiting = [job for job in look(comments(there.values())).values() if job.in_queue]
            if waiting:
                cluster = next(iter(there.values())).batch.cluster
                raise BadInput(
                    f"study {self._folder.name} is in the queue of {cluster}, another cluster: let it end there, or "
                    f"take it out by `SLURM_CONF={conf} python -m jobs cancel {self._folder.name}`"
                )
        return [batch for batch in batches if batch.conf == here]

    def _refuse_others(self, job: Job, entry: Entry | None) -> None:
        """Raises BadInput if the queue's job of this run was sent with other settings, or for another folder."""
        if before := self._sent[job.name].batch.moved_from(self._folder):
            raise BadInput(
                f"{job.name} is in the queue for {before}, from where this study was moved, and will fail: take it out "
                f"by `python -m jobs cancel {self._folder.name} --runs {self._folder.parent}`, then submit again"
            )
        difference = entry.differs(job.settings) if entry else None
        if difference:
            raise BadInput(
                f"{job.name} is in the queue with other settings ({difference}): give another folder by --runs "
                f"(make: RUNS=), or take it out by `python -m jobs cancel {self._folder.name}` (make: cancel)"
            )

    def _in_queue(self, name: str) -> bool:
        seen = self._seen.get(self._sent[name].id) if name in self._sent else None
        return seen is not None and seen.in_queue

    def _stands(self, job: Job, missing: set[str]) -> bool:
        """Whether the queue holds a job of this run that will start: it waits for its parents' jobs of now."""
        if not self._in_queue(job.name) or missing.intersection(job.parents):
            return False
        return self._seen[self._sent[job.name].id].reason != NEVER

    def _groups(self, level: list[Job]) -> Iterator[tuple[list[Job], tuple[str, ...]]]:
        """Like jobs together, each group, an array, with the dependency that holds for all of it.

        SLURM lets each task of an array wait for its own parent only where the parents are the same tasks of another.
        """
        parents = {job.name: self._awaited(job) for job in level}
        waiting = {name: tuple(self._sent[parent].id for parent in awaited) for name, awaited in parents.items()}
        bound = [job for job in level if waiting[job.name]]
        arrays = {self._sent[parent].batch for job in bound for parent in parents[job.name]}
        groups: dict[tuple[str, ...], list[Job]] = {}
        for job in level:
            groups.setdefault(waiting[job.name], []).append(job)
        if free := groups.pop((), None):
            yield free, ()
        if len(bound) > 1 and len(arrays) == 1:
            (array,) = arrays
            if [waiting[job.name] for job in bound] == [(f"{array.number}_{i}",) for i in range(len(array.names))]:
                yield bound, (f"aftercorr:{array.number}",)
                return
        for ids, group in groups.items():
            yield group, (f"afterok:{':'.join(_whole(ids, self._sent.values()))}",)

    def _awaited(self, job: Job) -> list[str]:
        """The job's parents in the queue, but for those that another of them waits for itself."""
        there = [parent for parent in job.parents if parent in self._open]
        inner = {name for other in self._jobs if other.name in there for name in other.parents}
        return [parent for parent in there if parent not in inner]

    def _submit(self, group: list[Job], after: tuple[str, ...]) -> None:
        batch = Batch.new(self._profile.name, tuple(job.name for job in group), after)
        batch.write(self._folder)
        executor = SlurmExecutor(self._batch_folder(batch), python=f"{SHIELD} {_quoted(sys.executable)} -P")
        executor.update_parameters(**self._parameters(group[0], batch))
        try:
            # inside a job, or with options in the environment, sbatch would give them on to these
            with clean_env(), slurm_conf(batch.conf), executor.batch():
                handles = [executor.submit(self._work(job)) for job in group]
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            reason = " ".join(str(error).split())[:400]
            if no_answer(reason):  # the job may be in the queue all the same: the next call looks for it there
                raise Away(reason) from error
            batch.forget(self._folder)
            raise BadInput(f"SLURM refuses {group[0].name}: {reason}") from error
        number = handles[0].job_id.partition("_")[0]
        batch = batch.sent(number)
        batch.write(self._folder)
        self._sent |= jobs_of([batch])
        self._open.update(batch.names)

    def _batch_folder(self, batch: Batch) -> Path:
        return self._folder / ".jobs" / "slurm" / batch.token

    def _work(self, job: Job) -> NodeStage:
        threads: dict[str, str | None] = {"OMP_NUM_THREADS": str(self._profile.cpus)}
        log = log_of(self._folder, job.name)
        if job.stage == REPORT:
            line = (*self._program(self._programs.report, inside=(REPORT,)), *job.overrides)
            return NodeStage(line, job.run_dir.absolute(), log, threads, "report.pdf")
        where = job.line(self._profile.cpus, gpu=self._profile.gpus > 0)
        line = (*self._program(self._programs.stage), *where)
        copy = None if self._data_root == SYNTHETIC else self._profile.copy_data_to
        return NodeStage(line, job.run_dir, log, threads, "result.json", self._data_root, copy)

    def _program(self, program: tuple[str, ...], inside: tuple[str, ...] = ()) -> tuple[str, ...]:
        """What runs a stage on the node; `inside`: what its command line begins with in the image."""
        if self._profile.container:
            return (*self._profile.container.client(), *inside)
        return (self._profile.python or program[0], *program[1:])

    def _parameters(self, job: Job, batch: Batch) -> dict[str, Any]:
        """submitit's words for what the profile asks of SLURM."""
        profile, several = self._profile, job.stage == "pretrain"
        asked: dict[str, Any] = {
            "job_name": f"{_name(job, len(batch.names))}.{self._folder.name}",
            "time": profile.minutes,
            "nodes": profile.nodes if several else 1,
            "ntasks_per_node": profile.processes if several else 1,
            "cpus_per_task": profile.cpus,
            "mem": f"{round(profile.memory_gb * 1024)}M",
            "signal_delay_s": profile.signal_seconds,
            "setup": script(profile.setup, self._batch_folder(batch)),
            # one process that dies alone would be waited for; and a copy of the job that a node's failure left behind
            # must not take the later start with it, which is what this does when there is but one
            "srun_args": ["--kill-on-bad-exit=1"] if several and profile.nodes * profile.processes > 1 else [],
        }
        asked |= {
            "partition": profile.partition,
            "account": profile.account,
            "qos": profile.qos,
            "constraint": profile.constraint,
        }
        asked["gpus_per_node"] = 0 if job.stage == REPORT else profile.gpus if several else min(profile.gpus, 1)
        asked["array_parallelism"] = profile.at_once or len(batch.names)
        more: dict[str, Any] = {"requeue": True, "comment": batch.token, **profile.sbatch}
        if batch.after:
            more["dependency"] = ",".join(batch.after)
        return {name: value for name, value in asked.items() if value} | {"additional_parameters": more}


def _levels(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Like jobs next to each other, parents before children: one list for each stage of each model, with all its seeds
    and all variants of a sweep."""
    groups: dict[tuple[str, str], list[Job]] = {}
    for job in jobs:
        groups.setdefault((job.stage, job.model), []).append(job)
    yield from groups.values()


def _name(job: Job, size: int) -> str:
    """The job's, of an array without seed and variant."""
    return job.name if size == 1 else f"{job.stage}-{job.model}"


def _whole(ids: Sequence[str], sent: Iterable[Sent]) -> list[str]:
    """The same ids, where they are all of an array as that array's own: SLURM's lines have a limit."""
    sizes = {job.batch.number: len(job.batch.names) for job in sent}
    numbers = [name.partition("_")[0] for name in ids]
    short: dict[str, None] = {}
    for name, number in zip(ids, numbers, strict=True):
        short[number if numbers.count(number) == sizes.get(number) else name] = None
    return list(short)


def _quoted(path: str) -> str:
    return "'" + path.replace("'", "'\\''") + "'"
