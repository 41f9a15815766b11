"""What SLURM says of jobs: squeue while the controller remembers them, sacct later, where there is accounting."""

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

WAITS: Final = ("PENDING", "REQUEUED", "CONFIGURING")
RUNS: Final = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
NEVER: Final = "DependencyNeverSatisfied"
FIELDS: Final = {"JobArrayID": 30, "State": 20, "Reason": 40, "RestartCnt": 10, "StartTime": 30}  # with their widths
_SECONDS: Final = 60  # that a command of SLURM's may take


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
        return self.state in WAITS or self.state in RUNS


def look(ids: Iterable[str]) -> dict[str, Seen]:
    """The jobs with these ids (`12`, or `12_0` in an array) that SLURM knows. Raises Away."""
    wanted = set(ids)
    if not wanted:
        return {}
    found = {name: seen for name, seen in _squeue(wanted).items() if name in wanted}
    gone = wanted - found.keys()
    return found | {name: seen for name, seen in _sacct(gone).items() if name in gone}


def cancel(ids: Iterable[str]) -> None:
    """Ends these jobs for good. Raises Away."""
    ids = sorted(ids)
    if ids:
        done = _ask("scancel", *ids)
        if done.returncode and "Invalid job id" not in done.stderr:
            raise Away(done.stderr.strip())


def commented() -> dict[str, str]:
    """The comment of each job of the queue -> its id, of arrays that of the whole. Raises Away."""
    done = _ask("squeue", "-h", "-t", "all", "-O", "ArrayJobID:20,Comment:200")
    if done.returncode:
        raise Away(done.stderr.strip())
    return {line[20:].strip(): line[:20].strip() for line in done.stdout.splitlines() if line[20:].strip()}


def _squeue(ids: set[str]) -> dict[str, Seen]:
    whole = ",".join(sorted({name.partition("_")[0] for name in ids}))
    fields = ",".join(f"{name}:{width}" for name, width in FIELDS.items())
    done = _ask("squeue", "-h", "-r", "-t", "all", "-j", whole, "-O", fields)
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
        name, state, reason, restarts, started = cells
        found[name] = Seen(state, "" if reason == "None" else reason, int(restarts or 0), _moment(started))
    return found


def _moment(text: str) -> float | None:
    """SLURM's local time in seconds since the epoch."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None


def _sacct(ids: set[str]) -> dict[str, Seen]:
    """Nothing where there is no accounting, or where it doesn't answer."""
    if not ids:
        return {}
    try:
        done = _ask("sacct", "-n", "-X", "-P", "-j", ",".join(sorted(ids)), "-o", "JobID,State,Reason")
    except Away:
        return {}
    rows = [line.split("|") for line in done.stdout.splitlines() if line.count("|") == 2]
    return {name: Seen(state.split()[0], "" if reason == "None" else reason) for name, state, reason in rows if state}


def _ask(*line: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(line, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except FileNotFoundError as error:
        raise Away(f"{line[0]} not found") from error
    except subprocess.TimeoutExpired as error:
        raise Away(f"{line[0]} gave no answer within {_SECONDS} s") from error
