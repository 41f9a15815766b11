"""What must hold before anything is sent or cancelled: one call at a time, and what earlier calls lost taken back."""

import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from jobs.cluster.batches import Batch, batch_cluster, newest_jobs, read_batches, tokens_by_id, unreachable_reason
from jobs.cluster.slurm_cli import COMPLETING, SlurmJobInfo, cancel_jobs, find_queued_jobs, query_jobs
from jobs.ledger import Entry, State, read_ledger, write_ledger
from jobs.study_lock import LOCK_SECONDS, study_lock
from ssl_pkg.run.directory import RunDirectory

SBATCH_SECONDS: Final = 600.0  # that the sbatch of a call that was killed may take
COMPLETING_SECONDS: Final = 120.0  # that a job may take to leave its checkpoint and the queue


def cancel_orphans(folder: Path, batches: Sequence[Batch]) -> dict[str, str]:
    """Cancels the jobs that bear the token of one of these batches but are no run's newest job.

    Returns their ids -> the tokens. Only for the one process that holds the study's lock, at the batches' cluster.
    Raises Away.

    Such a job was sent by a call that was killed before it knew the number, or a second time by a site's wrapper: it
    lacks its pickle. Or it is of the original of this study, which was copied and then deleted. The batch of a killed
    call is kept for LATE_SECONDS, because its sbatch can still be at work; without the folder its job can't run.
    """
    if not batches:
        return {}
    newest = {job.id for job in newest_jobs(batches).values()}
    found = find_queued_jobs(batch.token for batch in batches)
    strays = {name: token for name, token in found.items() if name not in newest}
    cancel_jobs(strays)
    for batch in batches:
        if batch.number is None:
            if batch.token not in strays.values():
                shutil.rmtree(folder / ".jobs" / "slurm" / batch.token, ignore_errors=True)
            if time.time() - batch.made > SBATCH_SECONDS:
                batch.remove(folder)
    return strays


def wait_for_completing(wanted: Mapping[str, str]) -> dict[str, SlurmJobInfo]:
    """What SLURM sees, once what is just ending has ended: only then it shows whether it comes back. Raises Away."""
    end = time.monotonic() + COMPLETING_SECONDS
    while True:
        seen = query_jobs(wanted)
        if time.monotonic() > end or not any(job.state == COMPLETING for job in seen.values()):
            return seen
        time.sleep(0.5)


def cancel_submitted(folder: Path) -> int:
    """Cancels what the study in `folder` has in the queue of the clusters that it was sent to; returns how many jobs.
    Waits for a call that is just sending. Raises Away."""
    if not read_batches(folder):
        return 0
    with study_lock(folder, LOCK_SECONDS):
        batches = read_batches(folder)
        missing = [job for name, job in newest_jobs(batches).items() if not RunDirectory(folder / name).complete]
        lost = [batch for batch in batches if batch.number is None]
        wanted = dict.fromkeys(batch.conf for batch in (batches[-1], *lost, *(job.batch for job in missing)))
        return sum(
            _cancel_at(conf, [batch for batch in batches if batch.conf == conf], folder)
            for conf in wanted
            if not unreachable_reason(conf) or "SLURM_CONF" in os.environ
        )


def _cancel_at(conf: str, batches: Sequence[Batch], folder: Path) -> int:
    with batch_cluster(conf):
        recalled = cancel_orphans(folder, batches)
        sent = newest_jobs(batches)
        seen = query_jobs(tokens_by_id(sent.values()))
        ended = {name: job.id for name, job in sent.items() if job.id in seen and seen[job.id].in_queue}
        for batch in {sent[name].batch for name in ended}:
            batch.mark_cancelled(folder, True)
        cancel_jobs(ended.values())
    # without accounting SLURM forgets them within minutes
    known = read_ledger(folder)
    taken = {name: replace(known.get(name, Entry()), state=State.CANCELLED) for name in ended}
    write_ledger(folder, known | taken)
    return len(recalled) + len(ended)
