"""`python -m jobs submit`: what is missing of a study goes to SLURM, by submitit, and never twice."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobs.cluster.batch_script import SHIELD, script
from jobs.cluster.batches import Batch, Sent, comments, jobs_of, read_batches
from jobs.cluster.container import check, folders
from jobs.cluster.limits import config, largest_array, limit_reached, said_of, submit_limits, too_large
from jobs.cluster.node import NodeStage
from jobs.cluster.orphans import recall, settled
from jobs.cluster.outcomes import fates
from jobs.cluster.profile import Profile, reach
from jobs.cluster.queued_runs import clusters, queued
from jobs.cluster.sbatch import Refused, send
from jobs.cluster.sbatch_options import options
from jobs.cluster.slurm_cli import NEVER, Away, cancel
from jobs.cluster.submit_order import levels
from jobs.ledger import REPORT, Entry, State, advice, log_of, read_ledger, write_ledger
from jobs.plan.graph import Job
from jobs.programs import Programs
from jobs.study_lock import OTHERS_SECONDS, alone, forget_owner
from ssl_pkg.config import SYNTHETIC
from ssl_pkg.errors import BadInput


@dataclass
class Outcome:
    """What became of each run of the plan."""

    sent: list[str] = field(default_factory=list)
    queued: list[str] = field(default_factory=list)  # by an earlier call
    complete: list[str] = field(default_factory=list)
    unsent: list[str] = field(default_factory=list)  # for another call, because SLURM takes no more jobs now
    limit: str = ""  # SLURM's, that is the cause, in words


class Submission:
    """Sends the jobs of a plan to the cluster of `profile`."""

    def __init__(
        self, jobs: Sequence[Job], folder: Path, profile: Profile, *, data_root: str, programs: Programs
    ) -> None:  # fmt: skip
        self._jobs, self._folder, self._profile, self._data_root = jobs, folder.absolute(), profile, data_root
        self._programs = programs

    def send(self, skip: Collection[str] = ()) -> Outcome:
        """Sends what is missing except for the runs to skip, parents before children. Raises BadInput where SLURM or
        the folder refuses."""
        if special := re.search(r"[%\\]", str(self._folder)):
            raise BadInput(
                f"SLURM puts other words for the {special[0]} in {self._folder}: give another folder by --runs "
                "(make: RUNS=)"
            )
        reach(self._profile)
        if self._profile.container:
            backend = self._profile.container.backend
            check(self._profile.container.binds, backend)
            for job in self._jobs:
                check(folders((*((REPORT,) if job.stage == REPORT else ()), *job.overrides)), backend)
        with alone(self._folder, OTHERS_SECONDS):
            try:
                return self._send(skip)
            except Away as error:
                raise BadInput(f"SLURM does not answer ({error}): type the same line when it does") from error

    def _send(self, skip: Collection[str]) -> Outcome:
        outcome = Outcome()
        forget_owner(self._folder)  # who may send knows that no runner is at work
        batches = self._batches_here()
        settled(recall(self._folder, batches))
        self._sent = jobs_of(batches)
        for batch in {job.batch for job in self._sent.values()}:
            batch.note_cancelled(self._folder, False)  # what is still in the queue is wanted again
        ended = {job.name for job in self._jobs if job.stage != REPORT and job.complete}
        self._seen = settled(comments(job for name, job in self._sent.items() if name not in ended))
        recorded = read_ledger(self._folder)
        missing: list[Job] = []
        useless: dict[str, Sent] = {}
        for job in self._jobs:
            if job.complete and not (job.stage == REPORT and missing):  # a report tells of all
                outcome.complete.append(job.name)
            elif job.name in skip:
                continue
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
        began = {name: entry.started for name, entry in recorded.items() if entry.started}
        failed = {
            name for name, fate in fates(self._folder, outcome.complete, began)[0].items() if fate.state is State.FAILED
        }
        known: dict[str, str] = {}
        with suppress(Away):  # sbatch says so, if SLURM is away
            known = config() if missing else {}
        self._largest = largest_array(known)
        try:
            for level in levels(missing, failed, early_report=REPORT not in self._sent):
                self._submit_level(level, outcome)
        except _RefusedJob as error:
            reached = limit_reached(error.reason)
            if reached is None or not (reached or outcome.sent or outcome.queued):
                there = {*outcome.sent, *outcome.queued, *outcome.complete}
                write_ledger(self._folder, {name: entry for name, entry in entries.items() if name in there} | others)
                raise
            outcome.unsent = [job.name for job in missing if job.name not in outcome.sent]
            outcome.limit = said_of(submit_limits(self._profile, known), reached)
        if outcome.sent:
            with suppress(Away):  # the next call does it
                recall(self._folder, self._batches_here())
        return outcome

    def _batches_here(self) -> list[Batch]:
        """Those of the cluster at hand. Raises BadInput if another one still has runs of the study."""
        here = os.environ.get("SLURM_CONF", "")
        for conf, cluster in clusters(self._folder).items():
            if conf != here and queued(self._folder, conf):
                raise BadInput(
                    f"study {self._folder.name} is in the queue of {cluster}, another cluster: let it end there, or "
                    f"take it out, with SLURM_CONF={conf}, by {advice('cancel', self._folder)}"
                )
        return [batch for batch in read_batches(self._folder) if batch.conf == here]

    def _refuse_others(self, job: Job, entry: Entry | None) -> None:
        """Raises BadInput if the queue's job of this run was sent with other settings, or for another folder."""
        if before := self._sent[job.name].batch.moved_from(self._folder):
            raise BadInput(
                f"{job.name} is in the queue for {before}, from where this study was moved, and will fail: take it out "
                f"by {advice('cancel', self._folder)}, then submit again"
            )
        difference = entry.differs(job.settings) if entry else None
        if difference:
            raise BadInput(
                f"{job.name} is in the queue with other settings ({difference}): give another folder by --runs "
                f"(make: RUNS=), or take it out by {advice('cancel', self._folder)}"
            )

    def _in_queue(self, name: str) -> bool:
        seen = self._seen.get(self._sent[name].id) if name in self._sent else None
        return seen is not None and seen.in_queue

    def _stands(self, job: Job, missing: set[str]) -> bool:
        """Whether the queue holds a job of this run that will start: it waits for its parents' jobs of now."""
        if not self._in_queue(job.name) or missing.intersection(job.parents):
            return False
        return self._seen[self._sent[job.name].id].reason != NEVER

    def _submit_level(self, level: list[Job], outcome: Outcome) -> None:
        """Sends like jobs, in smaller arrays where SLURM refuses large ones. Raises _RefusedJob."""
        for group, after in self._groups(level):
            try:
                self._submit(group, after)
            except _RefusedJob as error:
                if len(group) == 1 or not too_large(error.reason):
                    raise
                for half in (group[: len(group) // 2], group[len(group) // 2 :]):
                    self._submit_level(half, outcome)
            else:
                outcome.sent += [job.name for job in group]

    def _groups(self, level: list[Job]) -> Iterator[tuple[list[Job], tuple[str, ...]]]:
        """Like jobs together, each group, an array, with the dependency that holds for all of it.

        SLURM lets each task of an array wait for its own parent only where the parents are the same tasks of another.
        """
        awaited = {job.name: self._awaited(job) for job in level}
        waiting = {name: tuple(self._sent[parent].id for parent in parents) for name, parents in awaited.items()}
        of_array: dict[Batch, list[Job]] = {}
        groups: dict[tuple[str, ...], list[Job]] = {}
        for job in level:
            groups.setdefault(waiting[job.name], []).append(job)
            for array in {self._sent[parent].batch for parent in awaited[job.name]}:
                of_array.setdefault(array, []).append(job)
        paired: set[str] = set()
        for array, children in of_array.items():
            tasks = [(f"{array.number}_{index}",) for index in range(len(array.names))]
            if len(children) > 1 and [waiting[job.name] for job in children] == tasks:
                yield children, (f"aftercorr:{array.number}",)
                paired.update(job.name for job in children)
        for ids, group in groups.items():
            ended = "afterany" if group[0].stage == REPORT else "afterok"  # the report says what failed
            after = (f"{ended}:{':'.join(_whole(ids, self._sent.values()))}",) if ids else ()
            rest = [job for job in group if job.name not in paired]
            for start in range(0, len(rest), self._largest):
                yield rest[start : start + self._largest], after

    def _awaited(self, job: Job) -> list[str]:
        """The job's parents in the queue, but for those that another of them waits for itself."""
        there = [parent for parent in job.parents if parent in self._open]
        inner = {name for other in self._jobs if other.name in there for name in other.parents}
        return [parent for parent in there if parent not in inner]

    def _submit(self, group: list[Job], after: tuple[str, ...]) -> None:
        batch = Batch.new(self._profile.name, tuple(job.name for job in group), after)
        batch.write(self._folder)
        works, parameters = [self._work(job) for job in group], self._parameters(group[0], batch)
        python = f"{SHIELD} {shlex.quote(sys.executable)} -P"
        try:
            number = send(self._batch_folder(batch), batch.token, works, python, parameters)
        except (Refused, OSError) as error:
            batch.forget(self._folder)
            shutil.rmtree(self._batch_folder(batch), ignore_errors=True)
            raise _RefusedJob(group[0], str(error)) from error
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
        return {
            "job_name": f"{_name(job, len(batch.names))}.{self._folder.name}",
            "signal_delay_s": profile.signal_seconds,
            "array_parallelism": profile.at_once or len(batch.names),
            "setup": script(profile.setup, self._batch_folder(batch)),
            # one process that dies alone would be waited for; and a copy of the job that a node's failure left behind
            # must not take the later start with it, which is what this does when there is but one
            "srun_args": ["--kill-on-bad-exit=1"] if several and profile.nodes * profile.processes > 1 else [],
            # submitit's defaults, which it would send where the profile drops an option
            **dict.fromkeys(("time", "nodes", "wckey")),
            "additional_parameters": {
                **({} if "comment" in profile.sbatch else {"comment": batch.token}),
                **options(profile, job.stage),
                **({"dependency": ",".join(batch.after)} if batch.after else {}),
                # a job that can never start would keep the report waiting for ever
                **({"kill-on-invalid-dep": "yes"} if batch.after and job.stage != REPORT else {}),
            },
        }


class _RefusedJob(BadInput):
    """SLURM takes a job neither now nor, unless it is for a limit, later."""

    def __init__(self, job: Job, reason: str) -> None:
        super().__init__(f"SLURM refuses {job.name}: {reason}")
        self.reason = reason


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
