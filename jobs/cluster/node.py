"""Runs on the node of a SLURM job: supervises one stage as a child process, and requeues the job after an interrupt.

submitit's own checkpoint-and-requeue is not used. It handles only USR2, takes the preemption of a short job for a
time-out, and gives up if the controller does not respond at that moment. This module asks SLURM for the cause of a
signal. A cancelled job stays cancelled; every other job is requeued, without a limit on the number of requeues.
"""

import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jobs.cluster.batch_script import CANCEL_FILE, CONTROLLER_SECONDS, FOLDER_MISSING, REQUEUE_SECONDS, START_FILE
from jobs.cluster.data_copy import copy_data
from jobs.cluster.slurm_cli import ALREADY_REQUEUED, SchedulerUnavailable, is_refusal, job_fields, run_slurm
from jobs.stage_process import CANCELLED, StageProcess
from ssl_pkg.distributed.launch import step_mark
from ssl_pkg.errors import BAD_INPUT, COMPLETE, FAULT, INTERRUPTED
from ssl_pkg.processes import start_time_of
from ssl_pkg.run.directory import RunDirectory, read_json, write_json
from ssl_pkg.run.run_log import EVENT_PREFIX
from ssl_pkg.run.signals import SIGNALS

MAX_KILLS: Final = 3  # a job is requeued after at most this many consecutive kills without progress
SIGNAL_STATUS: Final = 128  # a container's client exits with 128 plus the number of the signal that killed the stage


@dataclass(frozen=True)
class NodeStage:
    """The object that submitit pickles, and calls on the nodes, once in each process of the job."""

    command: tuple[str, ...]
    run_dir: Path
    log: Path  # RUNS/STUDY/logs/JOB.log
    environment: dict[str, str | None] = field(default_factory=dict)
    result: str = ""  # the file in run_dir that exists once the stage is complete
    data_root: str = ""
    copy_data_to: str | None = None  # a folder on the node's own disk, into which the images are copied
    renewed: bool = False  # whether each start writes `result` again, so that an earlier one proves nothing

    def __call__(self) -> None:
        """Runs the stage, and ends the process with its exit status, by which SLURM decides about dependent jobs."""
        # signals stay pending before and after the stage, because submitit's handlers would end the job
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        _write_start_file()
        status = FAULT
        try:
            status = self._run()
        finally:
            _write_start_file(f"{status}\n")
        raise SystemExit(status)

    def _run(self) -> int:
        job, rank = _job_id(), int(os.environ.get("SLURM_PROCID", "0"))
        log = self.log.with_suffix(f".rank{rank}.log") if rank else self.log
        log.parent.mkdir(parents=True, exist_ok=True)

        def log_event(text: str) -> None:
            with log.open("a", encoding="utf-8", errors="surrogateescape") as out:
                out.write(f"{EVENT_PREFIX}{text}\n")

        start = int(os.environ.get("SLURM_RESTART_COUNT", "0")) + 1
        log_event(f"job {job}, start {start}, on {os.environ.get('SLURMD_NODENAME', 'a node')}")
        command = (*self.command, *self._local_data_override(log_event))
        script, earlier = _batch_script_pid(rank), self._result_identity()
        status, received = StageProcess(
            command, log, {**self.environment, **step_mark(os.environ)}, script=script, exclusive=False
        ).run()
        if not log.parent.is_dir():  # writing to the log would create the folder again
            print(f"{log.parent.parent} {FOLDER_MISSING}", file=sys.stderr)
            return FAULT
        if SIGNAL_STATUS < status <= SIGNAL_STATUS + signal.SIGRTMAX:
            status = SIGNAL_STATUS - status
        if status == COMPLETE and rank == 0 and self.result and not self._has_result(earlier):
            # podman up to 5.2 exits with 0 if a signal ends it before its container runs
            status = FAULT if received is None else INTERRUPTED
            new = "new " if self.renewed else ""
            log_event(f"exit status {status} instead of 0, because there is no {new}{self.result}")
        if status == COMPLETE:
            return status
        fields = _job_fields(job, log_event)
        if int(fields.get("Restarts", "0")) >= start:
            log_event("a later start of this job has taken over")
            return COMPLETE  # with another status SLURM would end the later start
        script_killed = script is not None and start_time_of(script) is None
        final = self._final_status(status, received, fields, log_event, script_killed=script_killed)
        if final is None and rank == 0 and self._failed_start() == [job, start]:
            log_event("another process of the job has failed")
            final = FAULT
        if final is not None:
            if final not in (COMPLETE, INTERRUPTED):
                # for the job's other processes, which get the same signal from srun as from a preemption
                write_json(self._record_file("faults"), {"start": [job, start]})
            return final
        if (rank == 0 or (received is None and status < 0)) and not _requeue(
            job, log_event, script_killed=script_killed
        ):
            return INTERRUPTED
        # Waits for SLURM to end the process. A job that ends by itself during its grace time counts as failed, and the
        # end of one process ends the job's other processes, which may still be writing their checkpoints.
        time.sleep(REQUEUE_SECONDS)
        return INTERRUPTED

    def _has_result(self, earlier: tuple[int, int] | None) -> bool:
        """Whether the stage has its result. earlier: the identity of the result before the start."""
        found = self._result_identity()
        return found is not None and not (self.renewed and found == earlier)

    def _result_identity(self) -> tuple[int, int] | None:
        """The inode of the result's file and the time of its last change in nanoseconds; None if there is no file.

        Not its modification time, which is the same for two reports of the same results.
        """
        try:
            found = (self.run_dir / self.result).stat()
        except OSError:
            return None
        return found.st_ino, found.st_ctime_ns

    def _final_status(
        self,
        status: int,
        received: int | None,
        fields: Mapping[str, str],
        log_event: Callable[[str], None],
        *,
        script_killed: bool,
    ) -> int | None:
        """The exit status with which the job ends for good; None if it is to be requeued."""
        if status == BAD_INPUT:
            return status
        if received is None and status != INTERRUPTED:
            if status > 0:
                return status
            return None if self._may_retry(-status, log_event) else FAULT
        if fields.get("JobState") in ("CANCELLED", "COMPLETING") and fields.get("Reason") != "TimeLimit":
            if (
                script_killed
                and fields["JobState"] == "COMPLETING"
                and was_cancelled(fields)
                and not _cancel_requested()
            ):
                # Not by scancel, which the script survives. SLURM does not requeue a job whose script has died.
                log_event("the batch script was killed")
                return None if self._may_retry(signal.SIGKILL, log_event) else FAULT
            # either SLURM requeues the job itself, or a user has cancelled it
            log_event(CANCELLED if was_cancelled(fields) else "ended by SLURM")
            return INTERRUPTED
        return None

    def _record_file(self, kind: str) -> Path:
        """A file for the later starts and the other processes of this run."""
        # not beside run_dir, which for the report is the folder of the reports
        file = self.log.parent.parent / ".jobs" / kind / f"{self.log.stem}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def _failed_start(self) -> object:
        """The [job id, start] in which a process of the run has failed; None if none has."""
        return (read_json(self._record_file("faults")) or {}).get("start")

    def _may_retry(self, number: int, log_event: Callable[[str], None]) -> bool:
        """Whether to requeue after a kill: at most MAX_KILLS times without progress in between."""
        file = self._record_file("kills")
        run_status = RunDirectory(self.run_dir).status() or {}
        progress = [run_status.get("phase"), run_status.get("step")]
        before = read_json(file) or {}
        earlier = before.get("count") if before.get("place") == progress else None
        count = earlier + 1 if isinstance(earlier, int) else 1
        write_json(file, {"place": progress, "count": count})
        log_event(f"killed by signal {number}" + (f", {count} times at the same step" if count > 1 else ""))
        if count > MAX_KILLS:
            log_event(
                "not requeued again: is `memory` in the profile too small? Submitting the study again starts it again"
            )
            file.unlink(missing_ok=True)
        return count <= MAX_KILLS

    def _local_data_override(self, log_event: Callable[[str], None]) -> list[str]:
        """The override of data.root after copying the images to the node's own disk; empty without a copy."""
        if self.copy_data_to is None:
            return []
        target = Path(os.path.expandvars(self.copy_data_to)).expanduser()
        if "$" in str(target):
            log_event(f"copy_data_to={self.copy_data_to}: a variable is not set on the node; reading {self.data_root}")
            return []
        try:
            return [f"data.root={copy_data(Path(self.data_root), target)}"]
        except OSError as error:
            log_event(f"copy_data_to: {target}: {error.strerror}; reading {self.data_root}")
            return []


def _batch_script_pid(rank: int) -> int | None:
    """The process id of the batch script, for rank 0, on whose node the script runs; None if there is none.

    A node whose slurmd has died keeps running its steps, although SLURM has requeued their jobs elsewhere. When slurmd
    returns, SLURM ends these steps by job id. That would also end the job's next start if it has begun on this node.
    Therefore a stage stops, and writes a checkpoint, as soon as its batch script is gone.
    """
    pid = os.environ.get(START_FILE, "").rpartition(".")[2]
    return int(pid) if rank == 0 and pid.isdigit() and start_time_of(int(pid)) else None


def _write_start_file(text: str = "") -> None:
    """Creates the start file, or appends to it, for `srun_function` in the batch script; on rank 0."""
    if os.environ.get("SLURM_PROCID", "0") == "0":
        with suppress(KeyError, OSError), Path(os.environ[START_FILE]).open("a", encoding="utf-8") as file:
            file.write(text)


def was_cancelled(fields: Mapping[str, str]) -> bool:
    """Whether scancel ended a completing job, and not a preemption or the time limit.

    fields: of `scontrol show job`.
    """
    preemption = fields.get("PreemptTime", "None")
    # a preemption of an earlier start does not count
    preempted = preemption != "None" and preemption >= fields.get("StartTime", "")
    ending = fields.get("JobState") in ("CANCELLED", "COMPLETING")
    return ending and not preempted and fields.get("Reason") != "TimeLimit"


def _job_fields(job: str, log_event: Callable[[str], None]) -> dict[str, str]:
    """The fields of `scontrol show job`. Retries for CONTROLLER_SECONDS; then empty."""
    output = _retry_until_answered(("scontrol", "-o", "show", "job", job), log_event)
    return job_fields(output or "")


def _requeue(job: str, log_event: Callable[[str], None], *, script_killed: bool) -> bool:
    """Requeues the job. Returns False if the user has cancelled it.

    A requeue revives a job that SLURM has just cancelled. Therefore `ssl-study cancel` creates a file, which is checked
    before the requeue and after it. A scancel by hand is lost if SLURM handles it between the last query of the job's
    state and the requeue, which takes some 0.01 s.
    """
    requeued, cancelled = None, _cancel_requested()

    def cancelled_since() -> bool:
        nonlocal cancelled
        cancelled = _cancel_requested() or (not script_killed and was_cancelled(_job_fields(job, log_event)))
        return cancelled

    if not cancelled:
        requeued = _retry_until_answered(("scontrol", "requeue", job), log_event, unless=cancelled_since)
    if cancelled or _cancel_requested():
        _retry_until_answered(("scancel", job), log_event)
        log_event(CANCELLED)
        return False
    if requeued is None:
        log_event("the job could not be requeued: submit the study again, and the run resumes from its checkpoint")
    else:
        log_event("requeued")
    return True


def _cancel_requested() -> bool:
    """Whether `ssl-study cancel` has cancelled this job."""
    return START_FILE in os.environ and Path(os.environ[START_FILE]).with_name(CANCEL_FILE).exists()


def _retry_until_answered(
    line: tuple[str, ...], log_event: Callable[[str], None], unless: Callable[[], bool] = lambda: False
) -> str | None:
    """The command's output. None, with the reason in the log, if SLURM refuses, or does not respond in time.

    Retries for CONTROLLER_SECONDS. unless: called before each retry; if it returns true, the result is None.
    """
    end, logged = time.monotonic() + CONTROLLER_SECONDS, False
    while True:
        try:
            done = run_slurm(*line)
            if done.returncode == 0 or ALREADY_REQUEUED in done.stderr:
                return done.stdout
            refused, text = is_refusal(done.stderr), done.stderr.strip()
        except SchedulerUnavailable as error:
            refused, text = False, str(error)
        if not logged or refused:
            log_event(f"{' '.join(line[:3])}: {text}")
            logged = True
        if refused or time.monotonic() > end:
            return None
        time.sleep(2.0)
        if unless():
            return None


def _job_id() -> str:
    """This job's id. For an array ARRAY_TASK, because SLURM_JOB_ID of its last task is the id of the whole array."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
