"""Runs a plan on this machine, one job per slot at a time.

Each job has a supervisor, a fork of this process (`supervisor.py`). Stages are forks of another process, which has
imported PyTorch (`jobs/forked_stage.py`, `ssl_pkg/fork_server.py`).
"""

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import wait
from pathlib import Path
from types import FrameType
from typing import Final

from jobs.forked_stage import Fork, fork_server
from jobs.ledger import REPORT, Entry, State, log_path, read_ledger, write_ledger
from jobs.local.slots import Slot
from jobs.local.supervisor import Supervisor
from jobs.local.synthetic import generate
from jobs.plan.graph import Job, starting_order
from jobs.programs import Programs
from jobs.stage_process import StageProcess
from jobs.status.display import Display
from jobs.status.states import Row, make_row
from jobs.status.table import format_progress
from ssl_pkg.catalogue import ADAPTATIONS, RANDOM
from ssl_pkg.distributed.launch import launch_variables
from ssl_pkg.errors import COMPLETE, FAULT, INTERRUPTED
from ssl_pkg.run.directory import RESULT, RunDirectory
from ssl_pkg.run.signals import SIGNALS, handled
from ssl_pkg.run.study_plan import REPORT_FILE

POLL_SECONDS: Final = 0.1  # at most, between two ticks of the display, and until a signal is noticed
GRACE_SECONDS: Final = 60.0  # time for a stage to finish its step and write a checkpoint


@dataclass(frozen=True)
class _Running:
    job: Job
    slot: Slot
    supervisor: Supervisor
    first_report: bool = False  # the report of the runs that are complete by then; it has no entry in the ledger


class Runner:
    """Holds the states of a plan's jobs, and starts and stops their processes."""

    def __init__(
        self,
        jobs: Sequence[Job],
        folder: Path,
        slots: Sequence[Slot],
        display: Display,
        programs: Programs,
        *,
        synthetic: bool = False,
    ) -> None:
        self._jobs = jobs
        self._folder = folder
        self._free = list(slots)
        self._display = display
        self._programs = programs
        self._synthetic = synthetic
        self._running: list[_Running] = []
        self._server: Path | None = None
        self._stopping = False
        self._signalled = False
        self._recorded = read_ledger(folder)
        self._queue = starting_order(jobs)
        self._first_report = next((job for job in jobs if job.stage == REPORT), None)
        self.entries = {job.name: self._entry_at_start(job) for job in jobs}
        self._said_first = any(job.complete for job in jobs if job.stage in ADAPTATIONS)
        if any(entry.state is State.PENDING for entry in self.entries.values()):
            self.entries |= {job.name: Entry() for job in jobs if job.stage == REPORT}  # it must cover the new results

    def _entry_at_start(self, job: Job) -> Entry:
        recorded = self._recorded.get(job.name, Entry())
        if not job.complete:
            return Entry()
        return recorded if recorded.state is State.COMPLETE else Entry(State.COMPLETE)

    def run(self) -> None:
        """Runs the missing jobs until none is left that can run, or until a signal stops the study."""
        self._write()
        with self._signals_handled(), self._fork_server(), self._supervised():
            if self._synthetic:  # while the fork server imports PyTorch
                generate(self._display.say, self._waited)
            if not self._stopping:
                self._start_ready()
            while self._running:
                wait([running.supervisor.fileno() for running in self._running], POLL_SECONDS)
                self._collect()
                if self._stopping:
                    self._stop_children()
                else:
                    self._start_ready()
                self._display.tick(self.rows)

    @contextmanager
    def _supervised(self) -> Iterator[None]:
        """Context manager after which no supervisor is running. After an exception the runs write checkpoints."""
        try:
            yield
        finally:
            for running in self._running:
                running.supervisor.stop()
            for running in self._running:
                running.supervisor.status()

    @contextmanager
    def _fork_server(self) -> Iterator[None]:
        """Context manager in which a fork server starts the stages, if any are missing and no programs replace them."""
        missing = any(job.stage != REPORT and not job.complete for job in self._jobs)
        if not missing or self._programs.stage != Programs().stage:
            yield
            return
        variables = dict.fromkeys(launch_variables(os.environ)) | {"OMP_NUM_THREADS": str(self._free[0].threads)}
        with fork_server(variables, self._folder / ".jobs" / "fork_server.log") as self._server:
            yield

    def _waited(self) -> bool:
        """Waits; returns whether the study is to continue."""
        time.sleep(POLL_SECONDS)
        self._display.tick(self.rows)
        return not self._stopping

    def rows(self) -> list[Row]:
        """The current row of each job."""
        now = time.time()
        return [make_row(self._folder, name, entry, now) for name, entry in self.entries.items()]

    def _start_ready(self) -> None:
        if self._first_report and self._free and self._first_report_due(self._first_report.run_dir / REPORT_FILE):
            self._start(self._first_report, first_report=True)
            self._first_report = None
        for job in self._queue:
            if not self._free:
                return
            if self.entries[job.name].state is State.PENDING and self._may_start(job):
                self._start(job)

    def _first_report_due(self, report: Path) -> bool:
        """Whether a final model is complete that an earlier report lacks, and other runs are not complete."""
        complete = [job for job in self._jobs if self.entries[job.name].state is State.COMPLETE]
        results = [job.run_dir / RESULT for job in complete if job.stage in ADAPTATIONS]
        waits = any(self.entries[job.name].state is State.PENDING for job in self._jobs if job.stage != REPORT)
        return waits and any(_modified(result) > _modified(report) for result in results)

    def _may_start(self, job: Job) -> bool:
        """Whether the job's parents are complete. A report starts when all other jobs have ended, failed or not."""
        if job.stage != REPORT:
            return all(self.entries[parent].state is State.COMPLETE for parent in job.parents)
        others = [entry.state for name, entry in self.entries.items() if name != job.name]
        ended = all(state in (State.COMPLETE, State.FAILED, State.BLOCKED) for state in others)
        return ended and not any(running.first_report for running in self._running)

    def _start(self, job: Job, *, first_report: bool = False) -> None:
        slot, resumed = self._free.pop(), "" if first_report else self._resumed(job)
        try:
            supervisor = Supervisor(self._process(job, slot))
        except OSError as error:
            self._free.append(slot)
            self._display.say(f"{job.name} can't be started: {error}")
            if not first_report:
                self._set(job, State.FAILED, exit_status=FAULT)
            return
        self._running.append(_Running(job, slot, supervisor, first_report))
        if resumed:
            self._display.say(resumed)
        if not first_report:
            self._set(job, State.RUNNING)

    def _resumed(self, job: Job) -> str:
        """The sentence that says where a run with a checkpoint was interrupted; empty for other runs."""
        row = make_row(self._folder, job.name, Entry(State.INTERRUPTED), time.time())
        place = format_progress(row) if RunDirectory(job.run_dir).has_checkpoint else ""
        return place and f"{row.title} resumes from its checkpoint; it was interrupted at {place}"

    def _process(self, job: Job, slot: Slot) -> StageProcess:
        fork = None
        if job.stage == REPORT:
            command = (*self._programs.report, *job.overrides)
        else:
            arguments = tuple(job.stage_arguments(slot.threads))
            command = (*self._programs.stage, *arguments)
            fork = Fork(self._server, arguments) if self._server else None
        log = log_path(self._folder, job.name).absolute()
        # without launch variables, because a stage would wait for the other ranks of an outer srun or torchrun
        environment = dict.fromkeys(launch_variables(os.environ)) | slot.environment
        return StageProcess(command, log, environment, runner=os.getpid(), grace=GRACE_SECONDS, fork=fork)

    def _collect(self) -> None:
        for running in [entry for entry in self._running if entry.supervisor.ended]:
            self._running.remove(running)
            self._free.append(running.slot)
            status = self._exit_status(running)
            if running.first_report:
                if status == COMPLETE and (made := running.job.run_dir / REPORT_FILE).exists():
                    self._display.say(f"a first report, of the complete runs: {made}")
                continue
            finished = running.job.complete and (status == COMPLETE or running.job.stage != REPORT)
            if finished:  # also if the process was killed after it had written its result
                self._set(running.job, State.COMPLETE, exit_status=status)
            elif status == INTERRUPTED or (status is None and self._stopping):
                self._set(running.job, State.INTERRUPTED, exit_status=INTERRUPTED)
            else:
                self._set(running.job, State.FAILED, exit_status=status)

    def _exit_status(self, running: _Running) -> int | None:
        """The stage's exit status. If the supervisor ended without one: None, and the reason in the run's log."""
        status = running.supervisor.status()
        # a first report may be older than the result of a run that has ended meanwhile
        made = running.job.complete or (running.first_report and (running.job.run_dir / REPORT_FILE).exists())
        if status is not None and (status != COMPLETE or made):
            return status
        reason = f"exit status 0, but no {REPORT_FILE if running.job.stage == REPORT else RESULT}"
        if status is None:
            reason = "the process that supervised the run was killed"
        log_file = log_path(self._folder, running.job.name)
        with suppress(OSError):  # the disk may be full
            log_file.parent.mkdir(parents=True, exist_ok=True)  # the process that creates it may have died before
            with log_file.open("a", encoding="utf-8") as log:
                log.write(f"{reason}\n")
        return status

    def _set(self, job: Job, state: State, exit_status: int | None = None) -> None:
        now = time.time()
        entry = self.entries[job.name]
        if state is State.RUNNING:
            entry = replace(entry, state=state, started=now)
        else:
            entry = replace(entry, state=state, ended=now, exit_status=exit_status)
        self.entries[job.name] = entry
        row = make_row(self._folder, job.name, entry, now)
        self._display.changed(row)
        self._say_first_number(job, row)
        if state is State.FAILED:
            self._block_descendants()
        self._write()

    def _say_first_number(self, job: Job, row: Row) -> None:
        """Prints the first test accuracy above the table, because a full table drops its row."""
        if self._said_first or job.stage not in ADAPTATIONS or row.state is not State.COMPLETE or row.result is None:
            return
        self._said_first = True
        what = " (a random network, the reference for all others)" if job.method == RANDOM else ""
        self._display.say(f"the first number: {row.result} accuracy of {job.name}{what}")

    def _write(self) -> None:
        """Writes the ledger. Entries of runs outside this plan, of other seeds or methods, are kept."""
        write_ledger(
            self._folder,
            self.entries | {name: entry for name, entry in self._recorded.items() if name not in self.entries},
        )

    def _block_descendants(self) -> None:
        for job in self._jobs:  # parents come before children
            entry = self.entries[job.name]
            failed = [self.entries[parent].state in (State.FAILED, State.BLOCKED) for parent in job.parents]
            blocked = all(failed) if job.stage == REPORT else any(failed)  # a report needs at least one complete run
            if blocked and entry.state is State.PENDING:
                self.entries[job.name] = replace(entry, state=State.BLOCKED)
                self._display.changed(Row(job.name, State.BLOCKED))

    def _stop_children(self) -> None:
        if self._signalled:
            return
        self._signalled = True
        self._display.say(
            f"stopping: the running stages write their checkpoints, which takes {GRACE_SECONDS:.0f} s at most"
        )
        for running in self._running:
            running.supervisor.stop()

    @contextmanager
    def _signals_handled(self) -> Iterator[None]:
        """Context manager in which SIGNALS stop the study, unless ignored."""

        def stop(number: int, frame: FrameType | None) -> None:
            self._stopping = True

        with handled(stop):
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # delivers those that were pending
            yield


def _modified(file: Path) -> float:
    """The file's modification time; 0 if there is no such file."""
    try:
        return file.stat().st_mtime
    except OSError:
        return 0.0
