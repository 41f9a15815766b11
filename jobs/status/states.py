"""The state of each run of a study, from its run directories, the ledger and SLURM. Needs no running process."""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from jobs.cluster.outcomes import JobOutcome, job_outcomes
from jobs.ledger import BASELINE, REPORT, SUPERVISED, Entry, State, batches_folder, log_path, read_ledger
from jobs.study_lock import read_lock_holder
from ssl_pkg.run.directory import RESULT, RunDirectory, runs_of
from ssl_pkg.run.file_lock import STALE_SECONDS

NOT_SUBMITTED: Final = "not submitted"  # the note of a run that a limit has left for another call of `submit`


@dataclass(frozen=True)
class Row:
    """The state of one run. Times are in seconds; None means unknown."""

    name: str
    state: State
    phase: str | None = None
    step: int | None = None
    steps: int | None = None
    rate: float | None = None  # steps per second
    left: float | None = None
    elapsed: float | None = None  # of all starts
    earlier: float = 0.0  # the part of `elapsed` that earlier starts took
    exit_status: int | None = None
    note: str | None = None  # on a cluster: why the job is pending, or how it ended
    requeues: int | None = None
    job: str | None = None  # SLURM's job id
    result: str | None = None  # the headline of a complete run, for people, like `88.1 % test`
    part: int | None = None  # of `parts`, from 1: the piece of the stage's work to which phase and step belong
    parts: int | None = None
    ended: float | None = None  # seconds since the epoch, of a run that is complete

    @property
    def title(self) -> str:
        """The name for people. The report calls the training from random weights the supervised baseline."""
        return f"{self.name} ({SUPERVISED})" if self.name.startswith(f"{BASELINE}-") else self.name

    @property
    def fraction(self) -> float | None:
        """The completed fraction of the run, or of its phase if it has no parts, from 0 to 1; None if unknown."""
        if self.state is State.COMPLETE:
            return 1.0
        if self.part and self.parts:
            return min(1.0, (self.part - 1) / self.parts)
        return min(1.0, self.step / self.steps) if self.step is not None and self.steps else None


def make_row(folder: Path, name: str, entry: Entry, now: float) -> Row:
    """The row of run `name`, whose state is that of `entry`. `now` is in seconds since the epoch."""
    run = RunDirectory(folder / name)
    if entry.state is State.COMPLETE:
        result = run.result() or {}
        seconds = _number(result.get("seconds"))  # of all starts; a report has no result
        elapsed = _elapsed(entry, now) if seconds is None else seconds
        return Row(name, entry.state, elapsed=elapsed, result=_headline(result), ended=_completed(run))
    if entry.state in (State.PENDING, State.BLOCKED):
        return Row(name, entry.state)
    status = run.status() or {}
    running, heartbeat = entry.state is State.RUNNING, _number(status.get("heartbeat"))
    outdated = running and (heartbeat or 0.0) < (entry.started or 0.0)
    if outdated:
        status = {}  # was written by an earlier start
    step, steps, rate, part, parts = (_number(status.get(key)) for key in ("step", "steps", "rate", "part", "parts"))
    if parts is not None and parts <= 1:
        part = parts = None  # the phases of a single part show the progress
    # the time of earlier starts is unknown until the run has loaded its checkpoint and writes its status
    elapsed = None if outdated and heartbeat else _elapsed(entry, now)
    earlier = _number(status.get("earlier_seconds")) or 0.0
    return Row(
        name,
        entry.state,
        phase=status.get("phase") if isinstance(status.get("phase"), str) else None,
        step=None if step is None else int(step),
        steps=None if steps is None else int(steps),
        rate=rate if running else None,
        left=None if part or not running else _left(step, steps, rate),
        elapsed=None if elapsed is None else earlier + elapsed,
        earlier=earlier,
        exit_status=entry.exit_status,
        part=None if part is None else int(part),
        parts=None if parts is None else int(parts),
    )


def read_rows(folder: Path) -> list[Row]:
    """The rows of all runs of the study in `folder`: the planned ones in the plan's order, then the others."""
    return read_status(folder)[0]


def read_status(folder: Path) -> tuple[list[Row], str | None]:
    """`read_rows`, and a warning if SLURM does not respond, else None."""
    now = time.time()
    holder = read_lock_holder(folder)
    entries = read_ledger(folder)
    names = [*entries, *(run.name for run in runs_of(folder) if run.name not in entries)]
    managed = holder is not None and holder.alive
    outcomes: dict[str, JobOutcome] = {}
    warning = None
    if not managed:
        complete = [name for name in names if RunDirectory(folder / name).complete]
        outcomes, warning = job_outcomes(folder, complete)
    rows = []
    for name in names:
        entry, outcome = entries.get(name, Entry(State.INTERRUPTED)), outcomes.get(name)
        if outcome is None or (warning and outcome.state is not State.COMPLETE):
            state = _state(RunDirectory(folder / name), entry.state, managed=managed, now=now)
            row = make_row(folder, name, replace(entry, state=state), now)
            # the folder also exists if a limit allowed no job at all
            if state is State.PENDING and (outcomes or (not managed and batches_folder(folder).is_dir())):
                note, job = (outcome.note, outcome.job) if outcome else (NOT_SUBMITTED, None)
                row = replace(row, note=note, job=job)
        else:
            if outcome.state in (State.INTERRUPTED, State.BLOCKED) and entry.state is State.CANCELLED:  # by `cancel`
                outcome = replace(outcome, state=State.CANCELLED, note=None)
            row = make_row(folder, name, Entry(outcome.state, outcome.started, None, outcome.exit_status), now)
            row = replace(row, note=outcome.note, requeues=outcome.requeues, job=outcome.job)
        rows.append(row)
    return rows, warning


def status_json(folder: Path) -> dict[str, Any]:
    """The study's status as a JSON object."""
    rows, warning = read_status(folder)
    holder = read_lock_holder(folder)
    return {
        "study": folder.name,
        "warning": warning,
        "runner": asdict(holder) if holder and holder.alive else None,
        "totals": {state.value: count for state, count in count_states(rows).items()},
        "runs": [asdict(entry) for entry in rows],
    }


def count_states(rows: Sequence[Row]) -> dict[State, int]:
    """The number of runs in each state, without states that no run is in. The report is no run."""
    counts = Counter(entry.state for entry in rows if entry.name != REPORT)
    return {state: counts[state] for state in State if counts[state]}


def _state(run: RunDirectory, recorded: State, *, managed: bool, now: float) -> State:
    """The state of a run. Its result and its heartbeat override the recorded state."""
    if run.name == REPORT:
        return State.PENDING if recorded is State.RUNNING and not managed else recorded
    if run.complete:
        return State.COMPLETE
    heartbeat = _number((run.status() or {}).get("heartbeat"))
    alive = heartbeat is not None and now - heartbeat < STALE_SECONDS
    if recorded is State.COMPLETE:
        return State.RUNNING if alive else State.PENDING  # its result was removed
    if recorded is State.RUNNING and not managed and not alive:
        return State.INTERRUPTED
    return State.RUNNING if recorded is State.PENDING and alive and not managed else recorded


def _headline(result: Mapping[str, Any]) -> str | None:
    """The headline of a result as a short text; None if it has none."""
    match result.get("headline"):
        case {"label": label, "value": float(value)}:
            return f"{100 * value:.1f} % {label}"
        case _:
            return None


def _left(step: float | None, steps: float | None, rate: float | None) -> float | None:
    """Seconds until all steps of the phase are done."""
    return max(0.0, steps - step) / rate if rate and step is not None and steps is not None else None


def _completed(run: RunDirectory) -> float | None:
    """When a complete run was completed, by its last file, which a ledger may not know; None if there is no file."""
    file = log_path(run.path.parent, REPORT) if run.name == REPORT else run.path / RESULT
    try:
        return file.stat().st_mtime
    except OSError:
        return None


def _elapsed(entry: Entry, now: float) -> float | None:
    ended = now if entry.state is State.RUNNING else entry.ended
    return None if entry.started is None or ended is None else max(0.0, ended - entry.started)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
