"""Which runs of a study a cluster's queue still holds, also another cluster's than the one at hand."""

import sys
import time
from pathlib import Path

from jobs.cluster.batches import Batch, Sent, comments, gone, jobs_of, numbered, read_batches, slurm_conf
from jobs.cluster.slurm_cli import look
from jobs.ledger import FRESH, read_ledger
from ssl_pkg.errors import BadInput
from ssl_pkg.run.directory import RunDirectory


def clusters(folder: Path) -> dict[str, str]:
    """The clusters that the study in `folder` was sent to: SLURM_CONF -> the profile's name."""
    return {batch.conf: batch.cluster for batch in read_batches(folder)}


def queued(folder: Path, conf: str) -> dict[str, Sent]:
    """The runs of the study in `folder` that are in the queue of the cluster of this slurm.conf.

    A cluster that can't be reached because its slurm.conf, or SLURM itself, is not on this machine holds none: it is
    gone, or the study was copied from another site. The user is told so. Raises BadInput where a run that was sent
    there is alive nevertheless, and Away.
    """
    batches = [batch for batch in read_batches(folder) if batch.conf == conf]
    if why := gone(conf):
        _take_over(folder, batches, why)
        return {}
    with slurm_conf(conf):
        sent = jobs_of(numbered(batches))
        seen = look(comments(sent.values()))
    return {name: job for name, job in sent.items() if job.id in seen and seen[job.id].in_queue}


def _take_over(folder: Path, batches: list[Batch], why: str) -> None:
    """Tells the user that the runs of a cluster that is gone are taken for ended. Raises BadInput if one is alive."""
    recorded = read_ledger(folder)
    ended = 0
    for batch in batches:
        for name in batch.names:
            run, entry = RunDirectory(folder / name), recorded.get(name)
            if run.complete or (entry and (entry.started or 0.0) > batch.made):  # started on this machine since
                continue
            beat = (run.status() or {}).get("heartbeat")
            if isinstance(beat, int | float) and time.time() - beat < FRESH:
                raise BadInput(
                    f"{name} was sent to {batch.cluster}, {why}, and is at work there: its last sign of life is less "
                    f"than {FRESH:.0f} s old. Let it end there, or cancel it there"
                )
            ended += 1
    if ended:
        print(
            f"study {folder.name} was sent to {batches[-1].cluster}, {why}: none of its runs there is alive, so those "
            "that are not complete are taken for ended",
            file=sys.stderr,
        )
