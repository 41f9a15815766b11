"""Which runs of a study a cluster's queue still holds, also another cluster's than the one at hand."""

import sys
import time
from pathlib import Path

from jobs.cluster.batches import (
    Batch,
    SubmittedJob,
    newest_jobs,
    read_batches,
    slurm_conf,
    tokens_by_id,
    unreachable_reason,
    with_job_ids,
)
from jobs.cluster.slurm_cli import query_jobs
from jobs.ledger import HEARTBEAT_TIMEOUT, read_ledger
from ssl_pkg.errors import BadInput
from ssl_pkg.run.directory import RunDirectory


def submitted_clusters(folder: Path) -> dict[str, str]:
    """The clusters that the study in `folder` was sent to: SLURM_CONF -> the profile's name."""
    return {batch.conf: batch.cluster for batch in read_batches(folder)}


def find_queued_runs(folder: Path, conf: str) -> dict[str, SubmittedJob]:
    """The runs of the study in `folder` that are in the queue of the cluster of this slurm.conf.

    A cluster that can't be reached because its slurm.conf, or SLURM itself, is not on this machine holds none: it is
    gone, or the study was copied from another site. The user is told so. Raises BadInput where a run that was sent
    there is alive nevertheless, and Away.
    """
    batches = [batch for batch in read_batches(folder) if batch.conf == conf]
    if why := unreachable_reason(conf):
        _treat_as_ended(folder, batches, why)
        return {}
    with slurm_conf(conf):
        sent = newest_jobs(with_job_ids(batches))
        seen = query_jobs(tokens_by_id(sent.values()))
    return {name: job for name, job in sent.items() if job.id in seen and seen[job.id].in_queue}


def _treat_as_ended(folder: Path, batches: list[Batch], why: str) -> None:
    """Tells the user that the runs of a cluster that is gone are taken for ended. Raises BadInput if one is alive."""
    recorded = read_ledger(folder)
    ended = 0
    for batch in batches:
        for name in batch.names:
            run, entry = RunDirectory(folder / name), recorded.get(name)
            if run.complete or (entry and (entry.started or 0.0) > batch.made):  # started on this machine since
                continue
            beat = (run.status() or {}).get("heartbeat")
            if isinstance(beat, int | float) and time.time() - beat < HEARTBEAT_TIMEOUT:
                raise BadInput(
                    f"{name} was sent to {batch.cluster}, {why}, and is at work there: its last sign of life is less "
                    f"than {HEARTBEAT_TIMEOUT:.0f} s old. Let it end there, or cancel it there"
                )
            ended += 1
    if ended:
        print(
            f"study {folder.name} was sent to {batches[-1].cluster}, {why}: none of its runs there is alive, so those "
            "that are not complete are taken for ended",
            file=sys.stderr,
        )
