"""What SLURM knows of jobs: squeue and scontrol while the controller remembers them, sacct for older ones."""

import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from jobs.cluster.slurm_cli import SchedulerUnavailable, SlurmError, is_communication_error, job_fields, run_slurm

COMPLETING: Final = "COMPLETING"
RUNNING_STATES: Final = ("RUNNING", COMPLETING, "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
# A job in any other state, also one that a later version of SLURM adds, counts as queued: no run may have two jobs.
TERMINAL_STATES: Final = (
    "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE",
    "REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL",
)  # fmt: skip
DEPENDENCY_NEVER_SATISFIED: Final = "DependencyNeverSatisfied"
# squeue's columns with their widths in bytes
SQUEUE_COLUMNS: Final = {
    "JobArrayID": 30, "State": 20, "Reason": 40, "RestartCnt": 10, "StartTime": 30, "Comment": 200, "StdOut": 1024,
    "Command": 1024,
}  # fmt: skip
_TOKEN_COLUMNS: Final = "Comment:200,StdOut:1024,Command:1024"  # the columns that can contain a batch's token
_ID: Final = re.compile(r"\d+(_\d+)?\s")  # a row about a job begins with this


@dataclass(frozen=True)
class SlurmJobInfo:
    """A job as SLURM reports it."""

    state: str  # SLURM's job state: PENDING, RUNNING, CANCELLED, …
    reason: str = ""  # why the job is pending, or why it ended
    restarts: int | None = None  # None if only sacct lists the job
    started: float | None = None  # seconds since the epoch

    @property
    def in_queue(self) -> bool:
        """Whether the job is pending or running."""
        return self.state not in TERMINAL_STATES


def query_jobs(wanted: Mapping[str, str]) -> dict[str, SlurmJobInfo]:
    """Returns those of the wanted jobs that SLURM knows, by id.

    wanted: the jobs' ids (`12`, or `12_0` in an array) -> their batches' tokens. A job without its token belongs to
    somebody else, because job ids restart when SLURM's state is lost. A site's wrapper may cut or filter squeue's rows,
    so scontrol is asked about jobs that squeue does not list. Raises SchedulerUnavailable.
    """
    if not wanted:
        return {}
    listed = _squeue(wanted)
    found = {name: info for name, (info, text) in listed.items() if name in wanted and wanted[name] in text}
    found |= _scontrol({name: token for name, token in wanted.items() if name not in found})
    missing = wanted.keys() - found.keys() - listed.keys()
    return found | {name: info for name, info in _sacct(missing).items() if name in missing and not info.in_queue}


def _scontrol(wanted: Mapping[str, str]) -> dict[str, SlurmJobInfo]:
    """The wanted jobs that scontrol shows with their tokens. Raises SchedulerUnavailable."""
    found = {}
    arrays = {array_id: show_job(array_id) for array_id in {name.partition("_")[0] for name in wanted}}
    for name, token in wanted.items():
        array_id = name.partition("_")[0]
        output = show_job(name) if arrays[array_id] and name != array_id else arrays[array_id]
        if token in output:
            cells = job_fields(output)
            reason, restarts = cells.get("Reason", ""), cells.get("Restarts", "")
            found[name] = SlurmJobInfo(
                cells["JobState"],
                "" if reason == "None" else reason,
                int(restarts) if restarts.isdecimal() else None,
                parse_time(cells.get("StartTime", "")),
            )
    return found


def show_job(job: str) -> str:
    """scontrol's output about a job; empty if there is no such job. Raises SchedulerUnavailable."""
    done = run_slurm("scontrol", "-o", "show", "job", job)
    if "JobState=" in done.stdout:
        return done.stdout
    output = f"{done.stdout} {done.stderr}".strip()
    if "Invalid job id" in output or "not found" in output:
        return ""
    raise SchedulerUnavailable(output or f"scontrol shows nothing about job {job}")


def find_queued_jobs(tokens: Iterable[str]) -> dict[str, str]:
    """The user's pending and running jobs that have one of these tokens: their ids (`12`, or `12_0`) -> the tokens.

    Raises SchedulerUnavailable.
    """
    tokens = list(tokens)
    done = run_slurm("squeue", "-h", "-r", "-O", f"JobArrayID:30,{_TOKEN_COLUMNS}", "-u", str(os.getuid()))
    if done.returncode:
        raise SchedulerUnavailable(done.stderr.strip())
    rows = [row for row in done.stdout.splitlines() if _ID.match(row)]
    return {row.split()[0]: token for row in rows for token in tokens if token in row}


def cancel_jobs(ids: Iterable[str]) -> None:
    """Cancels these jobs. Raises SchedulerUnavailable, also if SLURM refuses one."""
    ids = sorted(ids)
    if ids:
        done = run_slurm("scancel", *ids)
        errors = [line for line in done.stderr.splitlines() if "error" in line and "Invalid job id" not in line]
        if done.returncode and (errors or "Invalid job id" not in done.stderr):
            text = errors[-1] if errors else done.stderr.strip() or f"scancel ended with status {done.returncode}"
            raise (SchedulerUnavailable if is_communication_error(text) else SlurmError)(text)


def find_jobs(tokens: Iterable[str], printed: str = "") -> dict[str, str]:
    """Finds the jobs that have one of these tokens: token -> job id; for an array the id of the whole.

    A job's token is its comment. The token is also a folder in the path of the job's output, because a site's plugin
    may overwrite comments. sacct finds jobs that have left the queue. Raises SchedulerUnavailable.

    printed: sbatch's output. If a number in it is the id of a job with the token, the user's other jobs are not
    searched.
    """
    wanted = set(tokens)
    columns = ("-h", "-t", "all", "-O", f"ArrayJobID:20,{_TOKEN_COLUMNS}")
    job_ids = possible_job_ids(printed)
    # squeue fails if no job has these ids; then all jobs are searched
    rows = run_slurm("squeue", *columns, "-j", ",".join(job_ids)).stdout if job_ids else ""
    if not (found := _ids_by_token(wanted, rows)):
        listed = run_slurm("squeue", *columns, "-u", str(os.getuid()))
        if listed.returncode:
            raise SchedulerUnavailable(listed.stderr.strip())
        found = _ids_by_token(wanted, listed.stdout)
    missing = wanted - found.keys()
    if missing:
        with suppress(SchedulerUnavailable):  # there may be no accounting
            # SubmitLine, because the accounting's comments are often empty
            line = ("sacct", "-n", "-X", "-S", "now-1days", "-u", str(os.getuid()))
            rows = run_slurm(*line, "-o", "JobID%-20,Comment%-200,SubmitLine%-2000").stdout
            found |= {token: job.partition("_")[0] for token, job in _ids_by_token(missing, rows).items()}
    for number in job_ids if wanted - found.keys() else ():  # a site's squeue may have another format
        text = show_job(number)
        found |= {token: number for token in wanted - found.keys() if token in text}
    return found


def possible_job_ids(printed: str) -> list[str]:
    """The numbers in sbatch's output that can be a job id."""
    return list(dict.fromkeys(re.findall(r"(?<![\w.])[1-9]\d{0,9}(?![\w.])", printed)))


def _ids_by_token(tokens: Iterable[str], rows: str) -> dict[str, str]:
    lines = [row for row in rows.splitlines() if _ID.match(row)]
    return {token: row.split()[0] for row in lines for token in tokens if token in row}


def _squeue(ids: Iterable[str]) -> dict[str, tuple[SlurmJobInfo, str]]:
    """The jobs that the controller knows, each with the text that contains its token."""
    whole = ",".join(sorted({name.partition("_")[0] for name in ids}))
    fields = ",".join(f"{name}:{width}" for name, width in SQUEUE_COLUMNS.items())
    done = run_slurm("squeue", "-h", "-r", "-t", "all", "-j", whole, "-O", fields)
    if done.returncode:
        if "Invalid job id" in done.stderr:  # the controller has forgotten all of them
            return {}
        raise SchedulerUnavailable(done.stderr.strip())
    found = {}
    for line in done.stdout.splitlines():
        cells, rest = [], line
        for width in SQUEUE_COLUMNS.values():
            cells.append(rest[:width].strip())
            rest = rest[width:]
        name, state, reason, restarts, started, *token_columns = cells
        # any other line is a site's own message
        if _ID.match(f"{name} ") and re.fullmatch("[A-Z_]+", state) and re.fullmatch(r"\d*", restarts):
            info = SlurmJobInfo(state, "" if reason == "None" else reason, int(restarts or 0), parse_time(started))
            found[name] = info, "".join(token_columns)  # a comment may end in the next cell, because widths count bytes
    return found


def parse_time(text: str) -> float | None:
    """SLURM's local time in seconds since the epoch; None if `text` is no time."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _sacct(ids: Iterable[str]) -> dict[str, SlurmJobInfo]:
    """The jobs that sacct knows; none if there is no accounting, or if it does not answer."""
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
