"""What a SLURM job runs on its node: one stage as a child process, and what must be said to SLURM when it ends.

submitit's own checkpoint-and-requeue is not used. It knows USR2 only, takes a short job's preemption for a time-out,
and gives up when the controller is away at that moment. Here the cause of a signal is asked for: a cancelled job stays
cancelled, every other one is requeued, as often as it takes.
"""

import hashlib
import json
import math
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jobs.cluster.batch_script import CANCEL_FILE, CONTROLLER_SECONDS, FOLDER_MISSING, REQUEUE_SECONDS, START_FILE
from jobs.cluster.slurm_cli import ALREADY_REQUEUED, SchedulerUnavailable, is_refusal, run_slurm
from jobs.stage_process import CANCELLED, END, FORWARDED, StageProcess
from ssl_pkg.distributed.launch import step_mark
from ssl_pkg.errors import BAD_INPUT, COMPLETE, FAULT, INTERRUPTED
from ssl_pkg.processes import start_time_of
from ssl_pkg.run.directory import RunDirectory, write_json
from ssl_pkg.run.file_lock import locked

MAX_KILLS: Final = 3  # kills by somebody else, one after the other without progress, that are put up with
SIGNAL_STATUS: Final = 128  # a container's client exits with this and the number of the signal that killed the stage


@dataclass(frozen=True)
class NodeStage:
    """The object that submitit pickles and calls on the node, once in each of the job's processes."""

    command: tuple[str, ...]
    run_dir: Path
    log: Path
    environment: dict[str, str | None] = field(default_factory=dict)
    result: str = ""  # a file that is in run_dir once the stage is complete
    data_root: str = ""
    copy_data_to: str | None = None  # where on the node's own disk the images are wanted

    def __call__(self) -> None:
        """Ends the process with the stage's exit status, which decides for SLURM about what depends on the job."""
        # outside the stage's own time signals wait: submitit's handlers would end the job
        signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
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

        def say(text: str) -> None:
            with log.open("a", encoding="utf-8", errors="surrogateescape") as out:
                out.write(f"{END}{text}\n")

        start = int(os.environ.get("SLURM_RESTART_COUNT", "0")) + 1
        say(f"job {job}, start {start}, on {os.environ.get('SLURMD_NODENAME', 'a node')}")
        command = (*self.command, *self._local_data_override(say))
        script = _batch_script_pid(rank)
        status, asked = StageProcess(
            command, log, {**self.environment, **step_mark(os.environ)}, script=script, alone=False
        ).run()
        if not log.parent.is_dir():  # nothing more may be written there: it would make the folder again
            print(f"{log.parent.parent} {FOLDER_MISSING}", file=sys.stderr)
            return FAULT
        if SIGNAL_STATUS < status <= SIGNAL_STATUS + signal.SIGRTMAX:
            status = SIGNAL_STATUS - status
        if status == COMPLETE and rank == 0 and self.result and not (self.run_dir / self.result).exists():
            # of podman up to 5.2, ended before its container ran
            status = FAULT if asked is None else INTERRUPTED
            say(f"exit status {status} after all, since there is no {self.result}")
        if status == COMPLETE:
            return status
        known = _job_fields(job, say)
        if int(known.get("Restarts", "0")) >= start:
            say("a later start of this job has taken over")
            return COMPLETE  # any other status, and SLURM would end the later start in this one's place
        script_killed = script is not None and start_time_of(script) is None
        final = self._final_status(status, asked, known, say, script_killed=script_killed)
        if final is None and rank == 0 and self._failed_start() == [job, start]:
            say("another process of the job has failed")
            final = FAULT
        if final is not None:
            if final not in (COMPLETE, INTERRUPTED):  # srun will end the other processes, as a preemption would
                write_json(self._record_file("faults"), {"start": [job, start]})
            return final
        if (rank == 0 or (asked is None and status < 0)) and not _requeue(job, say, script_killed=script_killed):
            return INTERRUPTED
        # Not returned from at once: SLURM counts a job that ends by itself within its grace as failed, and a process
        # that ends takes the others of its job with it, which may still be writing their checkpoint.
        time.sleep(REQUEUE_SECONDS)
        return INTERRUPTED

    def _final_status(
        self,
        status: int,
        asked: int | None,
        known: Mapping[str, str],
        say: Callable[[str], None],
        *,
        script_killed: bool,
    ) -> int | None:
        """The status with which the job ends for good; None if it is to come back."""
        if status == BAD_INPUT:
            return status
        if asked is None and status != INTERRUPTED:
            if status > 0:
                return status
            return None if self._may_retry(-status, say) else FAULT
        if known.get("JobState") in ("CANCELLED", "COMPLETING") and known.get("Reason") != "TimeLimit":
            if script_killed and known["JobState"] == "COMPLETING" and was_cancelled(known) and not _cancel_requested():
                # The script outlives a scancel. SLURM ends a job whose script has died, and does not requeue it.
                say("the batch script was killed")
                return None if self._may_retry(signal.SIGKILL, say) else FAULT
            # SLURM has decided: it brings the job back by itself, or somebody has cancelled it
            say(CANCELLED if was_cancelled(known) else "ended by SLURM")
            return INTERRUPTED
        return None

    def _record_file(self, kind: str) -> Path:
        """A file about this run for its later starts and other processes."""
        file = self.run_dir.parent / ".jobs" / kind / f"{self.run_dir.name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        return file

    def _failed_start(self) -> object:
        """The job and start that a process has failed in, if one has."""
        try:
            return json.loads(self._record_file("faults").read_text(encoding="utf-8"))["start"]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _may_retry(self, number: int, say: Callable[[str], None]) -> bool:
        """Whether a run that something killed is worth another try: it has come further since the last time."""
        file = self._record_file("deaths")
        now = RunDirectory(self.run_dir).status() or {}
        place = [now.get("phase"), now.get("step")]
        try:
            before = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            before = {}
        count = before["count"] + 1 if before.get("place") == place else 1
        write_json(file, {"place": place, "count": count})
        say(f"killed by signal {number}" + (f", {count} times at the same step" if count > 1 else ""))
        if count > MAX_KILLS:
            say("given up: is `memory` in the cluster's profile too small? `submit-all` tries again")
            file.unlink(missing_ok=True)
        return count <= MAX_KILLS

    def _local_data_override(self, say: Callable[[str], None]) -> list[str]:
        """What to add to the command line so that the images are read from the node's own disk."""
        if self.copy_data_to is None:
            return []
        target = Path(os.path.expandvars(self.copy_data_to)).expanduser()
        if "$" in str(target):
            say(f"copy_data_to={self.copy_data_to} names what the node doesn't have: {self.data_root} is read")
            return []
        try:
            return [f"data.root={copy_data(Path(self.data_root), target)}"]
        except OSError as error:
            say(f"copy_data_to: {target}: {error.strerror}: {self.data_root} is read")
            return []


def _batch_script_pid(rank: int) -> int | None:
    """The batch script's process, which is on the node of rank 0, if it can be seen.

    A node whose slurmd has died keeps the steps of the jobs that SLURM has taken from it. When it comes back, SLURM
    ends what it has kept by the job's number: also the job's next start, if that begins there at once, and the job has
    failed. So a stage stops, and leaves its checkpoint, as soon as its script is gone.
    """
    pid = os.environ.get(START_FILE, "").rpartition(".")[2]
    return int(pid) if rank == 0 and pid.isdigit() and start_time_of(int(pid)) else None


def _write_start_file(text: str = "") -> None:
    """Tells the batch script, which is `patient_srun`'s and on the node of rank 0, how far this start has come."""
    if os.environ.get("SLURM_PROCID", "0") == "0":
        with suppress(KeyError, OSError), Path(os.environ[START_FILE]).open("a", encoding="utf-8") as mark:
            mark.write(text)


def copy_data(source: Path, target: Path) -> Path:
    """Copies the image files below `source`, once, however many processes of a node want it, into a folder of their
    own below `target`, which is returned. Raises OSError."""
    copied = target / hashlib.sha256(os.fsencode(source.resolve())).hexdigest()[:12]  # one for each data set
    copied.mkdir(parents=True, exist_ok=True)
    with locked(copied / ".copying", timeout=math.inf):
        for file in sorted(source.glob("*/*")):
            copy = copied / file.relative_to(source)
            if not file.is_file() or (copy.is_file() and _size_and_mtime(copy) == _size_and_mtime(file)):
                continue
            copy.parent.mkdir(exist_ok=True)
            draft = copy.with_name(f".{copy.name}.copying")
            try:
                shutil.copy2(file, draft)
                draft.replace(copy)
            finally:
                draft.unlink(missing_ok=True)  # of a disk that is full
    return copied


def _size_and_mtime(file: Path) -> tuple[int, int]:
    """By which a file is known to be the one that was copied: its size, and the second of its last change."""
    found = file.stat()
    return found.st_size, int(found.st_mtime)


def was_cancelled(known: Mapping[str, str]) -> bool:
    """Whether a job that is completing was ended by scancel, by what SLURM tells of it, and not by a preemption."""
    preempted = known.get("PreemptTime", "None")
    now = preempted != "None" and preempted >= known.get("StartTime", "")  # not in an earlier start
    return known.get("JobState") in ("CANCELLED", "COMPLETING") and not now and known.get("Reason") != "TimeLimit"


def _job_fields(job: str, say: Callable[[str], None]) -> dict[str, str]:
    """What SLURM tells of a job. Waits for a controller that is away; nothing if it stays away."""
    shown = _retry_until_answered(("scontrol", "-o", "show", "job", job), say)
    return dict(re.findall(r"(\w+)=(\S+)", shown or ""))


def _requeue(job: str, say: Callable[[str], None], *, script_killed: bool) -> bool:
    """Requeues the job. False if the user has cancelled it.

    A requeue revives a job that SLURM has just cancelled. `jobs cancel` leaves a file, which is looked for before the
    requeue and after it. A plain scancel that SLURM handles between its last answer about the job's state and the
    requeue, some hundredths of a second, remains without effect.
    """
    requeued, cancelled = None, _cancel_requested()

    def cancelled_since() -> bool:
        nonlocal cancelled
        cancelled = _cancel_requested() or (not script_killed and was_cancelled(_job_fields(job, say)))
        return cancelled

    if not cancelled:
        requeued = _retry_until_answered(("scontrol", "requeue", job), say, unless=cancelled_since)
    if cancelled or _cancel_requested():
        _retry_until_answered(("scancel", job), say)
        say(CANCELLED)
        return False
    if requeued is None:
        say("the job could not be requeued: `submit-all` sends it again, and it goes on from its checkpoint")
    else:
        say("requeued")
    return True


def _cancel_requested() -> bool:
    """Whether `jobs cancel` has cancelled this job."""
    return START_FILE in os.environ and Path(os.environ[START_FILE]).with_name(CANCEL_FILE).exists()


def _retry_until_answered(
    line: tuple[str, ...], say: Callable[[str], None], unless: Callable[[], bool] = lambda: False
) -> str | None:
    """What the command prints. None, with the reason in the log, if SLURM refuses or stays away for CONTROLLER_SECONDS.

    unless: is asked before each further attempt; where it is true, there is none, and None is returned.
    """
    end, told = time.monotonic() + CONTROLLER_SECONDS, False
    while True:
        try:
            done = run_slurm(*line)
            if done.returncode == 0 or ALREADY_REQUEUED in done.stderr:
                return done.stdout
            refuses, text = is_refusal(done.stderr), done.stderr.strip()
        except SchedulerUnavailable as error:
            refuses, text = False, str(error)
        if not told or refuses:
            say(f"{' '.join(line[:3])}: {text}")
            told = True
        if refuses or time.monotonic() > end:
            return None
        time.sleep(2.0)
        if unless():
            return None


def _job_id() -> str:
    """The id by which SLURM's commands know this job alone: the last task of an array bears the array's own number."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]
