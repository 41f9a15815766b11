"""`ssl-study submit`: submits the missing runs of a study to SLURM through submitit, and no run twice."""

import os
import re
import shutil
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from jobs.cluster.batches import Batch, SubmittedJob, newest_jobs, read_batches, tokens_by_id
from jobs.cluster.container import check_folders, mounted_folders
from jobs.cluster.job_arrays import awaited_runs, group_into_arrays, submission_order
from jobs.cluster.job_queries import DEPENDENCY_NEVER_SATISFIED, SlurmJobInfo, cancel_jobs
from jobs.cluster.limits import (
    cluster_config,
    describe_limit,
    limit_reached,
    max_array_tasks,
    smaller_array_may_fit,
    submit_limits,
)
from jobs.cluster.node import NodeStage
from jobs.cluster.outcomes import job_outcomes
from jobs.cluster.profile import Profile, select_cluster
from jobs.cluster.queue import (
    cancel_orphans,
    cancel_requested,
    clusters_with_runs,
    request_cancel,
    wait_for_completing,
)
from jobs.cluster.sbatch import SubmissionRefused, job_parameters, submit_batch
from jobs.cluster.slurm_cli import SchedulerUnavailable, SlurmError
from jobs.ledger import (
    REPORT,
    Entry,
    State,
    counted_runs,
    jobs_command,
    log_path,
    read_ledger,
    write_ledger,
)
from jobs.plan.graph import Job
from jobs.plan.record import record_plan
from jobs.programs import Programs
from jobs.study_lock import LOCK_SECONDS, remove_lock_holder, study_lock
from ssl_pkg.config.schema import SYNTHETIC
from ssl_pkg.errors import BadInput
from ssl_pkg.run.directory import RESULT
from ssl_pkg.run.study_plan import REPORT_FILE, PlannedRun, read_plan


@dataclass
class SubmissionSummary:
    """The names of a plan's runs, by what `submit` did with them."""

    submitted: list[str] = field(default_factory=list)
    queued: list[str] = field(default_factory=list)  # submitted by an earlier call
    complete: list[str] = field(default_factory=list)
    unsubmitted: list[str] = field(default_factory=list)  # left for a later call, because SLURM's limit was reached
    limit: str = ""  # describes that limit
    none_allowed: bool = False  # whether the limit is 0 jobs
    cancelled: bool = False  # whether nothing was submitted, because `ssl-study cancel` came after the first call


class Submission:
    """Submits the jobs of a plan to the cluster of `profile`."""

    def __init__(
        self, jobs: Sequence[Job], folder: Path, profile: Profile, *, data_root: str, programs: Programs
    ) -> None:
        self._jobs, self._folder, self._profile, self._data_root = jobs, folder.absolute(), profile, data_root
        self._programs = programs
        self._submitted: dict[str, SubmittedJob] = {}  # the newest job of each run
        self._infos: dict[str, SlurmJobInfo] = {}  # by job id
        self._queued: set[str] = set()  # the runs that others can wait for

    def submit(self, skip: Collection[str] = (), *, first: bool = True) -> SubmissionSummary:
        """Submits the missing runs except for those in `skip`, parents before children.

        first: whether an earlier `ssl-study cancel` no longer holds. Otherwise it prevents the submission.

        Raises BadInput if SLURM refuses a job or does not respond, or if the study's folder is not usable; if not
        `first`, SchedulerUnavailable if SLURM does not respond, because a later call may succeed.
        """
        if special := re.search(r"[%\\]", str(self._folder)):
            raise BadInput(
                f"SLURM replaces the {special[0]} in {self._folder} by other text: give another folder with --runs "
                "(make: RUNS=)"
            )
        select_cluster(self._profile)
        if self._profile.container:
            backend = self._profile.container.backend
            check_folders(self._profile.container.binds, backend)
            for job in self._jobs:
                words = (*((REPORT,) if job.stage == REPORT else ()), *job.overrides)
                check_folders(mounted_folders(words), backend)
        with study_lock(self._folder, LOCK_SECONDS):
            if not first and cancel_requested(self._folder):
                return SubmissionSummary(cancelled=True)
            request_cancel(self._folder, False)
            try:
                return self._submit_missing(skip)
            except SchedulerUnavailable as error:
                if not first and not isinstance(error, SlurmError):
                    raise
                raise BadInput(error.explain("run the same command again when it does")) from error

    def _submit_missing(self, skip: Collection[str]) -> SubmissionSummary:
        summary = SubmissionSummary()
        remove_lock_holder(self._folder)  # a runner that was killed left it: a living one would hold the lock
        self._read_queue()
        recorded = read_ledger(self._folder)
        missing = self._find_missing(skip, summary)
        complete = set(summary.complete)
        planned = {job.name: Entry(State.COMPLETE if job.name in complete else State.PENDING) for job in self._jobs}
        others = {
            name: entry
            for name, entry in recorded.items()
            if name not in planned and (name in self._submitted or entry.state is not State.PENDING)
        }
        outcomes, _ = job_outcomes(self._folder, summary.complete)  # reads the ledger, which then loses earlier starts
        record_plan(self._folder, self._jobs, queued=self._queued)
        write_ledger(self._folder, planned | others)
        failed = {name for name, outcome in outcomes.items() if outcome.state is State.FAILED}
        config: dict[str, str] = {}
        with suppress(SchedulerUnavailable):  # then sbatch fails with its own message
            config = cluster_config() if missing else {}
        try:
            for level in submission_order(missing, failed, early_report=REPORT not in self._submitted):
                self._submit_level(level, summary, max_array_tasks(config))
        except _RefusedJob as error:
            reached = limit_reached(error.reason)
            if reached is None or not (reached or summary.submitted or summary.queued):
                known = {*summary.submitted, *summary.queued, *summary.complete}
                write_ledger(self._folder, {name: planned[name] for name in planned if name in known} | others)
                if not summary.submitted:
                    raise
                raise BadInput(
                    f"{error}. {counted_runs(summary.submitted)}, submitted before, will run all the same: "
                    f"{jobs_command('cancel', self._folder)} removes them from the queue"
                ) from error
            summary.unsubmitted = [job.name for job in missing if job.name not in summary.submitted]
            limits = submit_limits(self._profile, config)
            summary.limit = describe_limit(limits, reached)
            summary.none_allowed = any(limit.jobs == 0 for limit in limits)
        if summary.submitted:
            with suppress(SchedulerUnavailable):  # the next call cancels them
                cancel_orphans(self._folder, self._batches_of_cluster())
        return summary

    def _read_queue(self) -> None:
        """Cancels orphans, and reads the jobs of the incomplete runs from SLURM."""
        self._refuse_queued_elsewhere()
        batches = self._batches_of_cluster()
        wait_for_completing(cancel_orphans(self._folder, batches))
        self._submitted = newest_jobs(batches)
        for batch in {job.batch for job in self._submitted.values()}:
            batch.mark_cancelled(self._folder, False)  # an earlier `cancel` no longer holds
        complete = {job.name for job in self._jobs if job.stage != REPORT and job.complete}
        open_jobs = [job for name, job in self._submitted.items() if name not in complete]
        self._infos = wait_for_completing(tokens_by_id(open_jobs))

    def _find_missing(self, skip: Collection[str], summary: SubmissionSummary) -> list[Job]:
        """Returns the runs to submit, and cancels queued jobs of theirs, which can't start. Fills in the summary."""
        earlier = read_plan(self._folder)
        missing: list[Job] = []
        useless: dict[str, SubmittedJob] = {}
        for job in self._jobs:
            # the existing report lacks the results of missing and queued runs
            outdated = job.stage == REPORT and (missing or summary.queued)
            if job.complete and not outdated:
                summary.complete.append(job.name)
            elif job.name in skip:
                continue
            elif self._will_start(job, {other.name for other in missing}):
                self._check_queued_job(job, earlier.run(job.name) if earlier else None)
                summary.queued.append(job.name)
            else:
                missing.append(job)
                useless |= {job.name: self._submitted[job.name]} if self._in_queue(job.name) else {}
        if useless:
            cancel_jobs(job.id for job in useless.values())
            wait_for_completing(tokens_by_id(useless.values()))  # two jobs of a run must not overlap
        self._queued = {name for name in self._submitted if self._in_queue(name)} - useless.keys()
        return missing

    def _batches_of_cluster(self) -> list[Batch]:
        """The batches of this SLURM_CONF."""
        current = os.environ.get("SLURM_CONF", "")
        return [batch for batch in read_batches(self._folder) if batch.conf == current]

    def _refuse_queued_elsewhere(self) -> None:
        """Raises BadInput if another cluster still has runs of the study."""
        for cluster, _, how in clusters_with_runs(self._folder, apart_from=os.environ.get("SLURM_CONF", "")):
            raise BadInput(
                f"study {self._folder.name} is in the queue of another cluster, {cluster}: wait for its end, or cancel "
                f"it there{how}"
            )

    def _check_queued_job(self, job: Job, earlier: PlannedRun | None) -> None:
        """Raises BadInput if the run's queued job was submitted with other settings, or for another folder."""
        if before := self._submitted[job.name].batch.moved_from(self._folder):
            raise BadInput(
                f"{job.name} is in the queue for {before}, from where this study was moved, and will fail: cancel it "
                f"by {jobs_command('cancel', self._folder)}, then submit again"
            )
        if difference := job.difference(earlier):
            raise BadInput(
                f"{job.name} is in the queue with other settings ({difference}): give another folder with --runs "
                f"(make: RUNS=), or cancel it by {jobs_command('cancel', self._folder)}"
            )

    def _in_queue(self, name: str) -> bool:
        info = self._infos.get(self._submitted[name].id) if name in self._submitted else None
        return info is not None and info.in_queue

    def _will_start(self, job: Job, missing: set[str]) -> bool:
        """Whether the run has a queued job that depends on the newest jobs of its parents, and on no failed job."""
        if not self._in_queue(job.name) or missing.intersection(job.parents):
            return False
        return self._infos[self._submitted[job.name].id].reason != DEPENDENCY_NEVER_SATISFIED

    def _submit_level(self, level: list[Job], summary: SubmissionSummary, largest: int) -> None:
        """Submits similar jobs, in smaller arrays where SLURM refuses large ones. Raises _RefusedJob."""
        awaited = awaited_runs(level, self._jobs, self._queued)
        for group, after in group_into_arrays(level, awaited, self._submitted, largest):
            try:
                self._submit_group(group, after)
            except _RefusedJob as error:
                if len(group) == 1 or not smaller_array_may_fit(error.reason):
                    raise
                for half in (group[: len(group) // 2], group[len(group) // 2 :]):
                    self._submit_level(half, summary, largest)
            else:
                summary.submitted += [job.name for job in group]

    def _submit_group(self, group: list[Job], after: str) -> None:
        batch = Batch.new(self._profile.name, tuple(job.name for job in group), after)
        batch.write(self._folder)
        stages, files = [self._node_stage(job) for job in group], batch.files(self._folder)
        try:
            number = submit_batch(files, batch.token, stages, job_parameters(self._profile, group[0], batch, files))
        except (SubmissionRefused, OSError) as error:
            batch.remove(self._folder)
            shutil.rmtree(files, ignore_errors=True)
            raise _RefusedJob(group[0], str(error)) from error
        batch = batch.with_number(number)
        batch.write(self._folder)
        self._submitted |= newest_jobs([batch])
        self._queued.update(batch.names)

    def _node_stage(self, job: Job) -> NodeStage:
        threads: dict[str, str | None] = {"OMP_NUM_THREADS": str(self._profile.cpus)}
        log = log_path(self._folder, job.name)
        if job.stage == REPORT:
            command = (*self._program(self._programs.report, inside=(REPORT,)), *job.overrides)
            return NodeStage(command, job.run_dir.absolute(), log, threads, REPORT_FILE, renewed=True)
        overrides = job.stage_arguments(self._profile.cpus, gpu=self._profile.gpus > 0)
        command = (*self._program(self._programs.stage), *overrides)
        copy = None if self._data_root == SYNTHETIC else self._profile.copy_data_to
        return NodeStage(command, job.run_dir, log, threads, RESULT, self._data_root, copy)

    def _program(self, program: tuple[str, ...], inside: tuple[str, ...] = ()) -> tuple[str, ...]:
        """The beginning of a command line for the node. inside: the first words in the container, if there is one."""
        if self._profile.container:
            return (*self._profile.container.client(), *inside)
        python = self._profile.python or program[0]
        if "/" in python:
            python = str(Path(python).absolute())  # a job may start in another folder
        return (python, *program[1:])


class _RefusedJob(BadInput):
    """SLURM has refused a job: for now, if a limit is the reason, else for good."""

    def __init__(self, job: Job, reason: str) -> None:
        super().__init__(f"SLURM refuses {job.name}: {reason}")
        self.reason = reason
