"""What must hold before anything is sent or cancelled: one call at a time, and what earlier calls lost taken back."""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from jobs.cluster.batches import Batch, cluster_of, comments, gone, jobs_of, read_batches
from jobs.cluster.slurm_cli import ENDS, Seen, cancel, in_queue, look
from jobs.ledger import Entry, State, read_ledger, write_ledger
from jobs.study_lock import OTHERS_SECONDS, alone
from ssl_pkg.run.directory import RunDirectory

LATE_SECONDS: Final = 600.0  # that the sbatch of a call that was killed may take
ENDING_SECONDS: Final = 120.0  # that a job may take to leave its checkpoint and the queue


def recall(folder: Path, batches: Sequence[Batch]) -> dict[str, str]:
    """Cancels the jobs that bear the token of one of these batches but are no run's newest job.

    Returns their ids -> the tokens. Only for the one process that holds the study's lock, at the batches' cluster.
    Raises Away.

    Such a job was sent by a call that was killed before it knew the number, or a second time by a site's wrapper: it
    lacks its pickle. Or it is of the original of this study, which was copied and then deleted. The batch of a killed
    call is kept for LATE_SECONDS, because its sbatch can still be at work; without the folder its job can't run.
    """
    if not batches:
        return {}
    newest = {job.id for job in jobs_of(batches).values()}
    found = in_queue(batch.token for batch in batches)
    strays = {name: token for name, token in found.items() if name not in newest}
    cancel(strays)
    for batch in batches:
        if batch.number is None:
            if batch.token not in strays.values():
                shutil.rmtree(folder / ".jobs" / "slurm" / batch.token, ignore_errors=True)
            if time.time() - batch.made > LATE_SECONDS:
                batch.forget(folder)
    return strays


def settled(wanted: Mapping[str, str]) -> dict[str, Seen]:
    """What SLURM sees, once what is just ending has ended: only then it shows whether it comes back. Raises Away."""
    end = time.monotonic() + ENDING_SECONDS
    while True:
        seen = look(wanted)
        if time.monotonic() > end or not any(job.state == ENDS for job in seen.values()):
            return seen
        time.sleep(0.5)


def cancel_sent(folder: Path) -> int:
    """Cancels what the study in `folder` has in the queue of the clusters that it was sent to; returns how many jobs.
    Waits for a call that is just sending. Raises Away."""
    if not read_batches(folder):
        return 0
    with alone(folder, OTHERS_SECONDS):
        batches = read_batches(folder)
        missing = [job for name, job in jobs_of(batches).items() if not RunDirectory(folder / name).complete]
        lost = [batch for batch in batches if batch.number is None]
        wanted = dict.fromkeys(batch.conf for batch in (batches[-1], *lost, *(job.batch for job in missing)))
        return sum(
            _cancel_at(conf, [batch for batch in batches if batch.conf == conf], folder)
            for conf in wanted
            if not gone(conf) or "SLURM_CONF" in os.environ
        )


def _cancel_at(conf: str, batches: Sequence[Batch], folder: Path) -> int:
    with cluster_of(conf):
        recalled = recall(folder, batches)
        sent = jobs_of(batches)
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
