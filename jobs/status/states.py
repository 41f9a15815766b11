"""Where each run of a study stands, read from its run directories and the runner's ledger; needs no runner alive."""

import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from jobs.cluster.outcomes import job_outcomes
from jobs.ledger import HEARTBEAT_TIMEOUT, REPORT, Entry, State, read_ledger
from jobs.study_lock import read_lock_holder
from ssl_pkg.run.directory import RunDirectory, runs_of

NOT_SUBMITTED: Final = "not sent"  # the note of a run that waits for another call of `submit`


@dataclass(frozen=True)
class Row:
    """One run at one moment; times in seconds, None where there is nothing to tell."""

    name: str
    state: State
    phase: str | None = None
    step: int | None = None
    steps: int | None = None
    rate: float | None = None  # steps a second
    left: float | None = None
    elapsed: float | None = None
    exit_status: int | None = None
    note: str | None = None  # on a cluster: why it waits, or how it ended
    requeues: int | None = None
    job: str | None = None  # its number in the cluster's queue

    @property
    def fraction(self) -> float | None:
        """The part of the steps that is done."""
        if self.state is State.COMPLETE:
            return 1.0
        return min(1.0, self.step / self.steps) if self.step is not None and self.steps else None


def make_row(folder: Path, name: str, entry: Entry, now: float) -> Row:
    """What the run directory and the ledger's `entry` tell about a run whose state is known."""
    run = RunDirectory(folder / name)
    if entry.state is State.COMPLETE:
        known = (_number((run.result() or {}).get("seconds")), _elapsed(entry, now))  # of all starts; of the last
        return Row(name, entry.state, elapsed=max((seconds for seconds in known if seconds is not None), default=None))
    if entry.state in (State.PENDING, State.BLOCKED):
        return Row(name, entry.state)
    status = run.status() or {}
    if entry.state is State.RUNNING and (_number(status.get("heartbeat")) or 0.0) < (entry.started or 0.0):
        status = {}  # of an earlier start
    step, steps, rate = (_number(status.get(key)) for key in ("step", "steps", "rate"))
    running = entry.state is State.RUNNING
    return Row(
        name,
        entry.state,
        phase=status.get("phase") if isinstance(status.get("phase"), str) else None,
        step=None if step is None else int(step),
        steps=None if steps is None else int(steps),
        rate=rate if running else None,
        left=max(0.0, steps - step) / rate if running and rate and step is not None and steps is not None else None,
        elapsed=_elapsed(entry, now),
        exit_status=entry.exit_status,
    )


def read_rows(folder: Path) -> list[Row]:
    """All runs of the study in `folder`: the planned ones in the plan's order, then the others."""
    return read_status(folder)[0]


def read_status(folder: Path) -> tuple[list[Row], str | None]:
    """`observe`, and a sentence for the user if the cluster's scheduler doesn't answer."""
    now = time.time()
    owner = read_lock_holder(folder)
    entries = read_ledger(folder)
    names = [*entries, *(run.name for run in runs_of(folder) if run.name not in entries)]
    managed = owner is not None and owner.alive
    complete = [name for name in names if RunDirectory(folder / name).complete]
    sent, warning = (
        ({}, None)
        if managed
        else job_outcomes(folder, complete, {name: entry.started for name, entry in entries.items() if entry.started})
    )
    rows = []
    for name in names:
        entry = entries.get(name, Entry(State.INTERRUPTED))
        outcome = sent.get(name)
        if outcome is None or (warning and outcome.state is not State.COMPLETE):
            state = _state(RunDirectory(folder / name), entry.state, managed=managed, now=now)
            seen = make_row(folder, name, replace(entry, state=state), now)
            if state is State.PENDING and sent:
                seen = (
                    replace(seen, note=outcome.note, job=outcome.job) if outcome else replace(seen, note=NOT_SUBMITTED)
                )
            rows.append(seen)
        else:
            if outcome.state in (State.INTERRUPTED, State.BLOCKED) and entry.state is State.CANCELLED:  # by `cancel`
                outcome = replace(outcome, state=State.CANCELLED, note=None)
            seen = make_row(folder, name, Entry(outcome.state, outcome.started, now, outcome.exit_status), now)
            rows.append(replace(seen, note=outcome.note, requeues=outcome.requeues, job=outcome.job))
    return rows, warning


def status_json(folder: Path) -> dict[str, Any]:
    """`observe` for programs."""
    rows, warning = read_status(folder)
    owner = read_lock_holder(folder)
    return {
        "study": folder.name,
        "warning": warning,
        "runner": asdict(owner) if owner and owner.alive else None,
        "totals": {state.value: count for state, count in count_states(rows).items()},
        "runs": [asdict(entry) for entry in rows],
    }


def count_states(rows: list[Row]) -> dict[State, int]:
    """How many runs are in each state, without the states that none is in."""
    counts = Counter(entry.state for entry in rows)
    return {state: counts[state] for state in State if counts[state]}


def _state(run: RunDirectory, recorded: State, *, managed: bool, now: float) -> State:
    """The state that holds: a result outweighs what was recorded, and so does a sign of life."""
    if run.name == REPORT:
        return State.PENDING if recorded is State.RUNNING and not managed else recorded
    if run.complete:
        return State.COMPLETE
    beat = _number((run.status() or {}).get("heartbeat"))
    alive = beat is not None and now - beat < HEARTBEAT_TIMEOUT
    if recorded is State.COMPLETE:
        return State.RUNNING if alive else State.PENDING  # its result was removed
    if recorded is State.RUNNING and not managed and not alive:
        return State.INTERRUPTED
    return State.RUNNING if recorded is State.PENDING and alive and not managed else recorded


def _elapsed(entry: Entry, now: float) -> float | None:
    if entry.started is None:
        return None
    return max(0.0, (now if entry.state is State.RUNNING else entry.ended or now) - entry.started)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
