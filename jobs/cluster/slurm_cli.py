"""What SLURM says of jobs: squeue while the controller remembers them, sacct later, where there is accounting."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

COMPLETING: Final = "COMPLETING"
RUNNING_STATES: Final = ("RUNNING", COMPLETING, "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
# All other words are of a job that is there, also those of SLURM's versions to come: no run shall have two jobs.
TERMINAL_STATES: Final = (
    "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE",
    "REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL",
)  # fmt: skip
DEPENDENCY_NEVER_SATISFIED: Final = "DependencyNeverSatisfied"
# with their widths
SQUEUE_COLUMNS: Final = {
    "JobArrayID": 30, "State": 20, "Reason": 40, "RestartCnt": 10, "StartTime": 30, "Comment": 200, "StdOut": 1024,
    "Command": 1024,
}  # fmt: skip
_TOKEN_COLUMNS: Final = "Comment:200,StdOut:1024,Command:1024"  # the columns that can hold a batch's token
_ID: Final = re.compile(r"\d+(_\d+)?\s")  # begins a row that is about a job
_TIMEOUT_SECONDS: Final = 60.0  # that a command of SLURM's may take
_NOTICE_SECONDS: Final = 5.0  # seconds after which the user is told that SLURM has not answered yet
# Options of SLURM's commands can be set by the environment, where they override a batch script's own, filter what is
# listed and change the format of times. Jobs are numbered and timed by what these commands print, so no such variable
# reaches a command. profile.py reads the few that choose where a job goes. A job's own variables are among them,
# because a study can be sent from inside a job.
_OPTION_PREFIXES: Final = (
    "SACCT_", "SALLOC_", "SBATCH_", "SCANCEL_", "SCONTROL_", "SINFO_", "SLURM_", "SLURMD_", "SQUEUE_", "SRUN_",
    "SUBMITIT_",
)  # fmt: skip
_RANK_VARIABLES: Final = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_CLUSTER_VARIABLES: Final = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT")  # which cluster, and who asks
ALREADY_REQUEUED: Final = "pending execution"  # what SLURM says against the requeue of a job that has been requeued
REQUEUE_REFUSALS: Final = ("Invalid job id", "disabled", "denied", "not permitted")
_COMMUNICATION_ERRORS: Final = (
    "ontact",
    "imed out",
    "Unexpected message",
    "onnection",
    "ommunication",
    "ocket",
    "eceive",
    "rotocol",
)


class SchedulerUnavailable(Exception):
    """SLURM's controller gives no answer; the text is its command's own."""


@dataclass(frozen=True)
class SlurmJobInfo:
    """A job as SLURM sees it."""

    state: str  # SLURM's own word: PENDING, RUNNING, CANCELLED, …
    reason: str = ""  # why it waits, or why it ended
    restarts: int | None = None  # None where only accounting knows the job
    started: float | None = None  # seconds since the epoch

    @property
    def in_queue(self) -> bool:
        """Whether it waits or runs: it has not ended."""
        return self.state not in TERMINAL_STATES


def query_jobs(wanted: Mapping[str, str]) -> dict[str, SlurmJobInfo]:
    """The jobs that SLURM knows of those wanted: their ids (`12`, or `12_0` in an array) -> their batches' tokens.

    A job without the token is somebody else's: SLURM's numbers begin anew when its state is lost. A site's wrapper can
    cut or filter squeue's rows, so scontrol is asked for what squeue does not show. Raises Away.
    """
    if not wanted:
        return {}
    listed = _squeue(wanted)
    found = {name: seen for name, (seen, marks) in listed.items() if name in wanted and wanted[name] in marks}
    found |= _scontrol({name: token for name, token in wanted.items() if name not in found})
    gone = wanted.keys() - found.keys() - listed.keys()
    return found | {name: seen for name, seen in _sacct(gone).items() if name in gone and not seen.in_queue}


def _scontrol(wanted: Mapping[str, str]) -> dict[str, SlurmJobInfo]:
    """Those of these jobs that scontrol knows with their tokens. Raises Away."""
    found = {}
    whole = {number: show_job(number) for number in {name.partition("_")[0] for name in wanted}}
    for name, token in wanted.items():
        number = name.partition("_")[0]
        said = show_job(name) if whole[number] and name != number else whole[number]
        if token in said:
            cells = dict(reversed(re.findall(r"\b(\w+)=(\S*)", said)))  # the first one counts
            reason, restarts = cells.get("Reason", ""), cells.get("Restarts", "")
            found[name] = SlurmJobInfo(
                cells["JobState"],
                "" if reason == "None" else reason,
                int(restarts) if restarts.isdecimal() else None,
                parse_time(cells.get("StartTime", "")),
            )
    return found


def show_job(job: str) -> str:
    """What scontrol shows of a job; empty if there is no such job. Raises Away."""
    done = run_slurm("scontrol", "-o", "show", "job", job)
    if "JobState=" in done.stdout:
        return done.stdout
    said = f"{done.stdout} {done.stderr}".strip()
    if "Invalid job id" in said or "not found" in said:
        return ""
    raise SchedulerUnavailable(said or f"scontrol shows nothing of job {job}")


def find_queued_jobs(tokens: Iterable[str]) -> dict[str, str]:
    """The user's jobs that wait or run and bear one of these tokens: their ids (`12`, or `12_0`) -> the tokens.

    Raises Away.
    """
    tokens = list(tokens)
    done = run_slurm("squeue", "-h", "-r", "-O", f"JobArrayID:30,{_TOKEN_COLUMNS}", "-u", str(os.getuid()))
    if done.returncode:
        raise SchedulerUnavailable(done.stderr.strip())
    rows = [row for row in done.stdout.splitlines() if _ID.match(row)]
    return {row.split()[0]: token for row in rows for token in tokens if token in row}


def cancel_jobs(ids: Iterable[str]) -> None:
    """Ends these jobs for good. Raises Away."""
    ids = sorted(ids)
    if ids:
        done = run_slurm("scancel", *ids)
        if done.returncode and "Invalid job id" not in done.stderr:
            raise SchedulerUnavailable(done.stderr.strip())


def is_communication_error(said: str) -> bool:
    """Whether a command of SLURM's failed because the controller didn't answer: it may have heard it all the same."""
    return any(words in said for words in _COMMUNICATION_ERRORS)


def is_refusal(said: str) -> bool:
    """Whether the controller has said no to a requeue; anything else is worth another try."""
    return any(words in said for words in REQUEUE_REFUSALS)


def find_jobs(tokens: Iterable[str], said: str = "") -> dict[str, str]:
    """The jobs with one of these tokens: token -> id, of an array that of the whole.

    A job's token is its comment. It is also a folder in the path of its output, because a site's plugin may overwrite
    comments. said: what sbatch printed; a number in it that belongs to a job with the token saves the search through
    all jobs of the user. Jobs that have left the queue are looked for in the accounting. Raises Away.
    """
    wanted = set(tokens)
    columns = ("-h", "-t", "all", "-O", f"ArrayJobID:20,{_TOKEN_COLUMNS}")
    numbers = possible_job_ids(said)
    # without a job of these numbers squeue refuses, which is no answer to the question
    rows = run_slurm("squeue", *columns, "-j", ",".join(numbers)).stdout if numbers else ""
    if not (found := _ids_by_token(wanted, rows)):
        listed = run_slurm("squeue", *columns, "-u", str(os.getuid()))
        if listed.returncode:
            raise SchedulerUnavailable(listed.stderr.strip())
        found = _ids_by_token(wanted, listed.stdout)
    missing = wanted - found.keys()
    if missing:
        with suppress(
            SchedulerUnavailable
        ):  # there may be no accounting; its comments are often empty, but the script's path is not
            line = ("sacct", "-n", "-X", "-S", "now-1days", "-u", str(os.getuid()))
            rows = run_slurm(*line, "-o", "JobID%-20,Comment%-200,SubmitLine%-2000").stdout
            found |= {token: job.partition("_")[0] for token, job in _ids_by_token(missing, rows).items()}
    for number in numbers if wanted - found.keys() else ():  # a site's squeue may print something else
        text = show_job(number)
        found |= {token: number for token in wanted - found.keys() if token in text}
    return found


def possible_job_ids(said: str) -> list[str]:
    """What can be a job's number in the text that sbatch printed."""
    return list(dict.fromkeys(re.findall(r"(?<![\w.])[1-9]\d{0,9}(?![\w.])", said)))


def _ids_by_token(tokens: Iterable[str], rows: str) -> dict[str, str]:
    lines = [row for row in rows.splitlines() if _ID.match(row)]
    return {token: row.split()[0] for row in lines for token in tokens if token in row}


def _squeue(ids: Iterable[str]) -> dict[str, tuple[SlurmJobInfo, str]]:
    """What the controller remembers, each with the text that holds its token."""
    whole = ",".join(sorted({name.partition("_")[0] for name in ids}))
    fields = ",".join(f"{name}:{width}" for name, width in SQUEUE_COLUMNS.items())
    done = run_slurm("squeue", "-h", "-r", "-t", "all", "-j", whole, "-O", fields)
    if done.returncode:
        if "Invalid job id" in done.stderr:  # it has forgotten them all
            return {}
        raise SchedulerUnavailable(done.stderr.strip())
    found = {}
    for line in done.stdout.splitlines():
        cells, rest = [], line
        for width in SQUEUE_COLUMNS.values():
            cells.append(rest[:width].strip())
            rest = rest[width:]
        name, state, reason, restarts, started, *marks = cells
        if (
            _ID.match(f"{name} ") and re.fullmatch("[A-Z_]+", state) and re.fullmatch(r"\d*", restarts)
        ):  # else a site's own line
            seen = SlurmJobInfo(state, "" if reason == "None" else reason, int(restarts or 0), parse_time(started))
            found[name] = seen, "".join(marks)  # widths are of bytes: the end of a comment may be in the next cell
    return found


def parse_time(text: str) -> float | None:
    """SLURM's local time in seconds since the epoch."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _sacct(ids: Iterable[str]) -> dict[str, SlurmJobInfo]:
    """Nothing where there is no accounting, or where it doesn't answer."""
    ids = sorted(ids)
    if not ids:
        return {}
    try:
        done = run_slurm("sacct", "-n", "-X", "-P", "-j", ",".join(ids), "-o", "JobID,State,Reason")
    except SchedulerUnavailable:
        return {}
    rows = [line.split("|") for line in done.stdout.splitlines() if line.count("|") == 2]
    return {
        name: SlurmJobInfo(state.split()[0], "" if reason == "None" else reason)
        for name, state, reason in rows
        if state
    }


def run_slurm(*line: str) -> "subprocess.CompletedProcess[str]":
    """What one of SLURM's commands answers; every call of one goes through here. Raises Away where there is no answer
    or it takes too long; after 5 s a line on stderr says that it is awaited."""
    conf = os.environ.get("SLURM_CONF")
    if conf and not Path(conf).exists():  # its commands would look for another one for a minute
        raise SchedulerUnavailable(f"SLURM_CONF={conf} is not there")
    try:
        process = subprocess.Popen(
            line,
            env=command_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # a site's wrapper has children, which must end with it
        )
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        raise SchedulerUnavailable(f"{line[0]} not found" if missing else f"{line[0]}: {error.strerror}") from error
    with process:
        try:
            out, err = _communicate(process, line[0])
        except BaseException as error:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            if isinstance(error, subprocess.TimeoutExpired):
                raise SchedulerUnavailable(
                    f"{line[0]} gave no answer within {_TIMEOUT_SECONDS:.0f} s{_last_line(error)}"
                ) from error
            raise
    return subprocess.CompletedProcess(line, process.returncode, out, err)


def command_environment() -> dict[str, str]:
    """This process's, without what would change the options or the output of SLURM's commands."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _CLUSTER_VARIABLES or not (name.startswith(_OPTION_PREFIXES) or name in _RANK_VARIABLES)
    }


def _communicate(process: "subprocess.Popen[str]", name: str) -> tuple[str, str]:
    try:
        return process.communicate(timeout=_NOTICE_SECONDS)
    except subprocess.TimeoutExpired:
        print(
            f"{name} has not answered for {_NOTICE_SECONDS:.0f} s; waiting up to {_TIMEOUT_SECONDS:.0f} s",
            file=sys.stderr,
            flush=True,
        )
        return process.communicate(timeout=_TIMEOUT_SECONDS - _NOTICE_SECONDS)


def _last_line(error: subprocess.TimeoutExpired) -> str:
    """What a command that was ended had printed, like that it tries again."""
    said = (error.stderr or b"").decode(errors="replace").strip().splitlines()
    return f": {said[-1]}" if said else ""
