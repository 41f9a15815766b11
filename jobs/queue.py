"""What SLURM says of jobs: squeue while the controller remembers them, sacct later, where there is accounting."""

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

ENDS: Final = "COMPLETING"
RUNS: Final = ("RUNNING", ENDS, "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
# All other words are of a job that is there, also those of SLURM's versions to come: no run shall have two jobs.
OVER: Final = (
    "COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY", "BOOT_FAIL", "DEADLINE",
    "REVOKED", "LAUNCH_FAILED", "RECONFIG_FAIL",
)  # fmt: skip
NEVER: Final = "DependencyNeverSatisfied"
# with their widths
FIELDS: Final = {"JobArrayID": 30, "State": 20, "Reason": 40, "RestartCnt": 10, "StartTime": 30, "Comment": 200}
_SECONDS: Final = 60  # that a command of SLURM's may take
_USERS: Final = (
    "SQUEUE_",
    "SCANCEL_",
    "SACCT_",
    "SINFO_",
    "SBATCH_",
)  # variables by which a user filters what is shown
ALREADY: Final = "pending execution"  # what SLURM says against the requeue of a job that has been requeued
REFUSALS: Final = ("Invalid job id", "disabled", "denied", "not permitted")
_LOST: Final = ("ontact", "imed out", "Unexpected message", "onnection", "ommunication", "ocket", "eceive", "rotocol")


class Away(Exception):
    """SLURM's controller gives no answer; the text is its command's own."""


@dataclass(frozen=True)
class Seen:
    """A job as SLURM sees it."""

    state: str  # SLURM's own word: PENDING, RUNNING, CANCELLED, …
    reason: str = ""  # why it waits, or why it ended
    restarts: int | None = None  # None where only accounting knows the job
    started: float | None = None  # seconds since the epoch

    @property
    def in_queue(self) -> bool:
        """Whether it waits or runs: it has not ended."""
        return self.state not in OVER


def look(wanted: Mapping[str, str]) -> dict[str, Seen]:
    """The jobs that SLURM knows of those wanted: their ids (`12`, or `12_0` in an array) -> their comments.

    A job with another comment is somebody else's: SLURM's numbers begin anew when its state is lost. Raises Away.
    """
    if not wanted:
        return {}
    listed = _squeue(wanted)
    found = {name: seen for name, (seen, comment) in listed.items() if comment == wanted.get(name)}
    gone = wanted.keys() - listed.keys()
    return found | {name: seen for name, seen in _sacct(gone).items() if name in gone and not seen.in_queue}


def cancel(ids: Iterable[str]) -> None:
    """Ends these jobs for good. Raises Away."""
    ids = sorted(ids)
    if ids:
        done = ask("scancel", *ids)
        if done.returncode and "Invalid job id" not in done.stderr:
            raise Away(done.stderr.strip())


def no_answer(said: str) -> bool:
    """Whether a command of SLURM's failed because the controller didn't answer: it may have heard it all the same."""
    return any(words in said for words in _LOST)


def refusal(said: str) -> bool:
    """Whether the controller has said no to a requeue; anything else is worth another try."""
    return any(words in said for words in REFUSALS)


def commented() -> dict[str, str]:
    """The comment of each job of the queue -> its id, of arrays that of the whole. Raises Away."""
    done = ask("squeue", "-h", "-t", "all", "-O", "ArrayJobID:20,Comment:200")
    if done.returncode:
        raise Away(done.stderr.strip())
    return {line[20:].strip(): line[:20].strip() for line in done.stdout.splitlines() if line[20:].strip()}


def _squeue(ids: Iterable[str]) -> dict[str, tuple[Seen, str]]:
    """What the controller remembers, each with its comment."""
    whole = ",".join(sorted({name.partition("_")[0] for name in ids}))
    fields = ",".join(f"{name}:{width}" for name, width in FIELDS.items())
    done = ask("squeue", "-h", "-r", "-t", "all", "-j", whole, "-O", fields)
    if done.returncode:
        if "Invalid job id" in done.stderr:  # it has forgotten them all
            return {}
        raise Away(done.stderr.strip())
    found = {}
    for line in done.stdout.splitlines():
        cells, rest = [], line
        for width in FIELDS.values():
            cells.append(rest[:width].strip())
            rest = rest[width:]
        name, state, reason, restarts, started, comment = cells
        seen = Seen(state, "" if reason == "None" else reason, int(restarts or 0), _moment(started))
        found[name] = seen, comment
    return found


def _moment(text: str) -> float | None:
    """SLURM's local time in seconds since the epoch."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _sacct(ids: Iterable[str]) -> dict[str, Seen]:
    """Nothing where there is no accounting, or where it doesn't answer."""
    ids = sorted(ids)
    if not ids:
        return {}
    try:
        done = ask("sacct", "-n", "-X", "-P", "-j", ",".join(ids), "-o", "JobID,State,Reason")
    except Away:
        return {}
    rows = [line.split("|") for line in done.stdout.splitlines() if line.count("|") == 2]
    return {name: Seen(state.split()[0], "" if reason == "None" else reason) for name, state, reason in rows if state}


def ask(*line: str) -> "subprocess.CompletedProcess[str]":
    """What one of SLURM's commands answers. Raises Away where there is none or it takes too long."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(_USERS)}
    conf = environment.get("SLURM_CONF")
    if conf and not Path(conf).exists():  # its commands would look for another one for a minute
        raise Away(f"SLURM_CONF={conf} is not there")
    try:
        return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except FileNotFoundError as error:
        raise Away(f"{line[0]} not found") from error
    except subprocess.TimeoutExpired as error:
        raise Away(f"{line[0]} gave no answer within {_SECONDS} s") from error
