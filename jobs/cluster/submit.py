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

from jobs.cluster.batch_script import BLOCK_SIGNALS, script_lines
from jobs.cluster.batches import Batch, SubmittedJob, newest_jobs, read_batches, tokens_by_id
from jobs.cluster.container import check_folders, mounted_folders
from jobs.cluster.limits import (
    cluster_config,
    describe_limit,
    limit_reached,
    max_array_tasks,
    smaller_array_may_fit,
    submit_limits,
)
from jobs.cluster.node import NodeStage
from jobs.cluster.orphans import cancel_orphans, wait_for_completing
from jobs.cluster.outcomes import job_outcomes
from jobs.cluster.profile import Profile, select_cluster
from jobs.cluster.queued_runs import find_queued_runs, submitted_clusters
from jobs.cluster.sbatch import SubmissionRefused, submit_batch
from jobs.cluster.sbatch_options import sbatch_options
from jobs.cluster.slurm_cli import DEPENDENCY_NEVER_SATISFIED, SchedulerUnavailable, cancel_jobs
from jobs.cluster.submit_order import levels
from jobs.ledger import REPORT, Entry, State, advice, log_of, read_ledger, write_ledger
from jobs.plan.graph import Job
from jobs.programs import Programs
from jobs.study_lock import LOCK_SECONDS, remove_lock_holder, study_lock
from ssl_pkg.config import SYNTHETIC
from ssl_pkg.errors import BadInput


@dataclass
class SubmissionSummary:
    """What became of each run of the plan."""

    submitted: list[str] = field(default_factory=list)
    queued: list[str] = field(default_factory=list)  # by an earlier call
    complete: list[str] = field(default_factory=list)
    unsubmitted: list[str] = field(default_factory=list)  # for another call, because SLURM takes no more jobs now
    limit: str = ""  # SLURM's, that is the cause, in words


class Submission:
    """Sends the jobs of a plan to the cluster of `profile`."""

    def __init__(
        self, jobs: Sequence[Job], folder: Path, profile: Profile, *, data_root: str, programs: Programs
    ) -> None:  # fmt: skip
        self._jobs, self._folder, self._profile, self._data_root = jobs, folder.absolute(), profile, data_root
        self._programs = programs

    def submit(self, skip: Collection[str] = ()) -> SubmissionSummary:
        """Sends what is missing except for the runs to skip, parents before children. Raises BadInput where SLURM or
        the folder refuses."""
        if special := re.search(r"[%\\]", str(self._folder)):
            raise BadInput(
                f"SLURM puts other words for the {special[0]} in {self._folder}: give another folder by --runs "
                "(make: RUNS=)"
            )
        select_cluster(self._profile)
        if self._profile.container:
            backend = self._profile.container.backend
            check_folders(self._profile.container.binds, backend)
            for job in self._jobs:
                check_folders(mounted_folders((*((REPORT,) if job.stage == REPORT else ()), *job.overrides)), backend)
        with study_lock(self._folder, LOCK_SECONDS):
            try:
                return self._submit_missing(skip)
            except SchedulerUnavailable as error:
                raise BadInput(f"SLURM does not answer ({error}): type the same line when it does") from error

    def _submit_missing(self, skip: Collection[str]) -> SubmissionSummary:
        summary = SubmissionSummary()
        remove_lock_holder(self._folder)  # who may send knows that no runner is at work
        batches = self._batches_of_cluster()
        wait_for_completing(cancel_orphans(self._folder, batches))
        self._sent = newest_jobs(batches)
        for batch in {job.batch for job in self._sent.values()}:
            batch.mark_cancelled(self._folder, False)  # what is still in the queue is wanted again
        ended = {job.name for job in self._jobs if job.stage != REPORT and job.complete}
        self._seen = wait_for_completing(tokens_by_id(job for name, job in self._sent.items() if name not in ended))
        recorded = read_ledger(self._folder)
        missing: list[Job] = []
        useless: dict[str, SubmittedJob] = {}
        for job in self._jobs:
            if job.complete and not (job.stage == REPORT and missing):  # a report tells of all
                summary.complete.append(job.name)
            elif job.name in skip:
                continue
            elif self._will_start(job, {other.name for other in missing}):
                self._check_queued_job(job, recorded.get(job.name))
                summary.queued.append(job.name)
            else:
                missing.append(job)
                useless |= {job.name: self._sent[job.name]} if self._in_queue(job.name) else {}
        if useless:
            cancel_jobs(job.id for job in useless.values())
            wait_for_completing(tokens_by_id(useless.values()))  # a run's next job must not meet the one before
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
            name
            for name, outcome in job_outcomes(self._folder, summary.complete, began)[0].items()
            if outcome.state is State.FAILED
        }
        known: dict[str, str] = {}
        with suppress(SchedulerUnavailable):  # sbatch says so, if SLURM is away
            known = cluster_config() if missing else {}
        self._largest = max_array_tasks(known)
        try:
            for level in levels(missing, failed, early_report=REPORT not in self._sent):
                self._submit_level(level, summary)
        except _RefusedJob as error:
            reached = limit_reached(error.reason)
            if reached is None or not (reached or summary.submitted or summary.queued):
                there = {*summary.submitted, *summary.queued, *summary.complete}
                write_ledger(self._folder, {name: entry for name, entry in entries.items() if name in there} | others)
                raise
            summary.unsubmitted = [job.name for job in missing if job.name not in summary.submitted]
            summary.limit = describe_limit(submit_limits(self._profile, known), reached)
        if summary.submitted:
            with suppress(SchedulerUnavailable):  # the next call does it
                cancel_orphans(self._folder, self._batches_of_cluster())
        return summary

    def _batches_of_cluster(self) -> list[Batch]:
        """Those of the cluster at hand. Raises BadInput if another one still has runs of the study."""
        here = os.environ.get("SLURM_CONF", "")
        for conf, cluster in submitted_clusters(self._folder).items():
            if conf != here and find_queued_runs(self._folder, conf):
                raise BadInput(
                    f"study {self._folder.name} is in the queue of {cluster}, another cluster: let it end there, or "
                    f"take it out, with SLURM_CONF={conf}, by {advice('cancel', self._folder)}"
                )
        return [batch for batch in read_batches(self._folder) if batch.conf == here]

    def _check_queued_job(self, job: Job, entry: Entry | None) -> None:
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

    def _will_start(self, job: Job, missing: set[str]) -> bool:
        """Whether the queue holds a job of this run that will start: it waits for its parents' jobs of now."""
        if not self._in_queue(job.name) or missing.intersection(job.parents):
            return False
        return self._seen[self._sent[job.name].id].reason != DEPENDENCY_NEVER_SATISFIED

    def _submit_level(self, level: list[Job], summary: SubmissionSummary) -> None:
        """Sends like jobs, in smaller arrays where SLURM refuses large ones. Raises _RefusedJob."""
        for group, after in self._groups(level):
            try:
                self._submit_group(group, after)
            except _RefusedJob as error:
                if len(group) == 1 or not smaller_array_may_fit(error.reason):
                    raise
                for half in (group[: len(group) // 2], group[len(group) // 2 :]):
                    self._submit_level(half, summary)
            else:
                summary.submitted += [job.name for job in group]

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
            after = (f"{ended}:{':'.join(_shorten_ids(ids, self._sent.values()))}",) if ids else ()
            rest = [job for job in group if job.name not in paired]
            for start in range(0, len(rest), self._largest):
                yield rest[start : start + self._largest], after

    def _awaited(self, job: Job) -> list[str]:
        """The job's parents in the queue, but for those that another of them waits for itself."""
        there = [parent for parent in job.parents if parent in self._open]
        inner = {name for other in self._jobs if other.name in there for name in other.parents}
        return [parent for parent in there if parent not in inner]

    def _submit_group(self, group: list[Job], after: tuple[str, ...]) -> None:
        batch = Batch.new(self._profile.name, tuple(job.name for job in group), after)
        batch.write(self._folder)
        works, parameters = [self._node_stage(job) for job in group], self._parameters(group[0], batch)
        python = f"{BLOCK_SIGNALS} {shlex.quote(sys.executable)} -P"
        try:
            number = submit_batch(self._batch_folder(batch), batch.token, works, python, parameters)
        except (SubmissionRefused, OSError) as error:
            batch.remove(self._folder)
            shutil.rmtree(self._batch_folder(batch), ignore_errors=True)
            raise _RefusedJob(group[0], str(error)) from error
        batch = batch.with_number(number)
        batch.write(self._folder)
        self._sent |= newest_jobs([batch])
        self._open.update(batch.names)

    def _batch_folder(self, batch: Batch) -> Path:
        return self._folder / ".jobs" / "slurm" / batch.token

    def _node_stage(self, job: Job) -> NodeStage:
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
            "job_name": f"{_slurm_job_name(job, len(batch.names))}.{self._folder.name}",
            "signal_delay_s": profile.signal_seconds,
            "array_parallelism": profile.at_once or len(batch.names),
            "setup": script_lines(profile.setup, self._batch_folder(batch)),
            # one process that dies alone would be waited for; and a copy of the job that a node's failure left behind
            # must not take the later start with it, which is what this does when there is but one
            "srun_args": ["--kill-on-bad-exit=1"] if several and profile.nodes * profile.processes > 1 else [],
            # submitit's defaults, which it would send where the profile drops an option
            **dict.fromkeys(("time", "nodes", "wckey")),
            "additional_parameters": {
                **({} if "comment" in profile.sbatch else {"comment": batch.token}),
                **sbatch_options(profile, job.stage),
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


def _slurm_job_name(job: Job, size: int) -> str:
    """The job's, of an array without seed and variant."""
    return job.name if size == 1 else job.group


def _shorten_ids(ids: Sequence[str], sent: Iterable[SubmittedJob]) -> list[str]:
    """The same ids, where they are all of an array as that array's own: SLURM's lines have a limit."""
    sizes = {job.batch.number: len(job.batch.names) for job in sent}
    numbers = [name.partition("_")[0] for name in ids]
    short: dict[str, None] = {}
    for name, number in zip(ids, numbers, strict=True):
        short[number if numbers.count(number) == sizes.get(number) else name] = None
    return list(short)
