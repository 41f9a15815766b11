"""What must hold before anything is sent or cancelled: one call at a time, and what earlier calls lost taken back."""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from jobs.batches import comments, jobs_of, numbered, reach_again, read_batches
from jobs.ledger import Entry, State, read_ledger, write_ledger
from jobs.local import alone
from jobs.queue import ENDS, Seen, cancel, look
from jobs.waiting import gone

OTHERS_SECONDS: Final = 120.0  # that another one who types the same may take
ENDING_SECONDS: Final = 120.0  # that a job may take to leave its checkpoint and the queue


def recall(folder: Path) -> dict[str, str]:
    """Takes back what was sent by calls that didn't live to know its number: such a job lacks its object, which
    submitit puts in its place only then. Returns the jobs' ids -> their tokens. To be called only where no other call
    is sending, and only for the cluster at hand: it alone can say that no job has a batch's token. Raises Away."""
    here = os.environ.get("SLURM_CONF", "")
    lost = [batch for batch in read_batches(folder) if batch.number is None and batch.conf == here]
    if not lost:
        return {}
    wanted = comments(job for batch in numbered(lost) for job in jobs_of([batch]).values())
    waiting = {name: wanted[name] for name, job in look(wanted).items() if job.in_queue}
    cancel(waiting)
    for batch in lost:
        batch.forget(folder)
    return waiting


def settled(wanted: Mapping[str, str]) -> dict[str, Seen]:
    """What SLURM sees, once what is just ending has ended: only then it shows whether it comes back. Raises Away."""
    end = time.monotonic() + ENDING_SECONDS
    while True:
        seen = look(wanted)
        if time.monotonic() > end or not any(job.state == ENDS for job in seen.values()):
            return seen
        time.sleep(0.5)


def cancel_sent(folder: Path) -> int:
    """Cancels what the study in `folder` has in a cluster's queue; returns how many jobs. Waits for a call that is just
    sending. Raises Away."""
    batches = read_batches(folder)
    if not batches:
        return 0
    if gone(batches[-1].conf) and "SLURM_CONF" not in os.environ:
        return 0
    reach_again(batches)
    with alone(folder, OTHERS_SECONDS):
        recalled = recall(folder)
        sent = jobs_of(read_batches(folder))
        seen = look(comments(sent.values()))
        ended = {name: job.id for name, job in sent.items() if job.id in seen and seen[job.id].in_queue}
        for batch in {sent[name].batch for name in ended}:
            batch.note_cancelled(folder, True)
        cancel(ended.values())
        # without accounting SLURM forgets them within minutes
        known = read_ledger(folder)
        taken = {name: replace(known.get(name, Entry()), state=State.CANCELLED) for name in ended}
        write_ledger(folder, known | taken)
    return len(recalled) + len(ended)
