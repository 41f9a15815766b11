"""A study's jobs in SLURM's queue: which are there, waiting for those that are completing, and cancelling."""

import os
import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from jobs.cluster.batch_script import CANCEL_FILE
from jobs.cluster.batches import (
    Batch,
    batch_cluster,
    newest_jobs,
    read_batches,
    slurm_conf,
    tokens_by_id,
    unreachable_reason,
    with_job_ids,
)
from jobs.cluster.job_queries import COMPLETING, SlurmJobInfo, cancel_jobs, find_queued_jobs, query_jobs
from jobs.cluster.slurm_cli import SchedulerUnavailable
from jobs.ledger import Entry, State, batches_folder, jobs_command, read_ledger, write_ledger
from jobs.study_lock import LOCK_SECONDS, study_lock
from ssl_pkg.errors import BadInput
from ssl_pkg.messages.counted import counted
from ssl_pkg.run.directory import RunDirectory
from ssl_pkg.run.file_lock import STALE_SECONDS

SBATCH_SECONDS: Final = 600.0  # time after which the sbatch of a killed `submit` counts as ended
COMPLETING_SECONDS: Final = 120.0  # time within which a job writes its checkpoint and leaves the queue


def clusters_with_runs(folder: Path, apart_from: str | None = None) -> Iterator[tuple[str, list[str], str]]:
    """The clusters whose queues hold runs of the study in `folder`: the profile's name, the runs, how to cancel them.

    apart_from: the SLURM_CONF of a cluster that is left out. Raises BadInput as `_find_queued_runs` does.
    """
    for conf, cluster in {batch.conf: batch.cluster for batch in read_batches(folder)}.items():
        if conf != apart_from and (queued := _find_queued_runs(folder, conf)):
            reach = f", with SLURM_CONF={conf}," if conf else ""
            yield cluster, queued, f"{reach} by {jobs_command('cancel', folder)}"


def _find_queued_runs(folder: Path, conf: str) -> list[str]:
    """Returns the runs of the study in `folder` that are in the queue of the cluster with this slurm.conf.

    A cluster is unreachable if its slurm.conf, or SLURM itself, is not on this machine: the cluster no longer exists,
    or the study was copied from another site. Its queue counts as empty, and a line on stderr says so.

    Raises BadInput if a run of an unreachable cluster still has a heartbeat, or if a cluster does not respond.
    """
    batches = [batch for batch in read_batches(folder) if batch.conf == conf]
    if reason := unreachable_reason(conf):
        _treat_as_ended(folder, batches, reason)
        return []
    try:
        with slurm_conf(conf):
            jobs = newest_jobs(with_job_ids(batches))
            infos = query_jobs(tokens_by_id(jobs.values()))
    except SchedulerUnavailable as error:
        remedy = f"try again when it does, or, {_if_cluster_gone(folder, batches)}"
        raise BadInput(
            f"the queue of {batches[-1].cluster}, to which study {folder.name} was submitted, can't be read. "
            f"{error.explain(remedy)}"
        ) from error
    return [name for name, job in jobs.items() if job.id in infos and infos[job.id].in_queue]


def _if_cluster_gone(folder: Path, batches: Sequence[Batch]) -> str:
    """What to do about the batches of a cluster that no longer exists, for messages."""
    line = shlex.join(["rm", *(str(batch.file(folder)) for batch in batches)])
    return f"if that cluster no longer exists, remove its batches by `{line}`"


def _treat_as_ended(folder: Path, batches: Sequence[Batch], reason: str) -> None:
    """Reports that the incomplete runs of an unreachable cluster count as ended. Raises BadInput if one is alive."""
    recorded = read_ledger(folder)
    ended = 0
    for batch in batches:
        for name in batch.names:
            run, entry = RunDirectory(folder / name), recorded.get(name)
            if run.complete or (entry and (entry.started or 0.0) > batch.made):  # since started on this machine
                continue
            heartbeat = (run.status() or {}).get("heartbeat")
            if isinstance(heartbeat, int | float) and time.time() - heartbeat < STALE_SECONDS:
                raise BadInput(
                    f"{name} was submitted to {batch.cluster}, {reason}, and is still running: its last heartbeat is "
                    f"less than {STALE_SECONDS:.0f} s old. Wait for its end, or cancel it on that cluster"
                )
            ended += 1
    if ended:
        print(
            f"study {folder.name} was submitted to {batches[-1].cluster}, {reason}: its incomplete runs there count as "
            "ended, because none has a recent heartbeat",
            file=sys.stderr,
        )


def wait_for_completing(tokens: Mapping[str, str]) -> dict[str, SlurmJobInfo]:
    """`query_jobs`, once no job is COMPLETING any more: only then SLURM shows whether it requeues a job.

    Waits COMPLETING_SECONDS at most. Raises SchedulerUnavailable.
    """
    end = time.monotonic() + COMPLETING_SECONDS
    while True:
        infos = query_jobs(tokens)
        if time.monotonic() > end or not any(info.state == COMPLETING for info in infos.values()):
            return infos
        time.sleep(0.5)


def cancel_orphans(folder: Path, batches: Sequence[Batch]) -> dict[str, str]:
    """Cancels the queued jobs that have the token of one of these batches, but are not the newest job of a run.

    Returns their ids -> the tokens. The caller holds the study's lock, and SLURM's commands reach the batches' cluster.
    Raises SchedulerUnavailable.

    An orphan lacks its pickle file, because the `submit` that created it was killed before it knew the job's id, or
    because a site's wrapper around sbatch submitted the batch twice. Or it belongs to the original of this study, which
    was copied and then deleted.

    The file of a killed `submit`'s batch is kept for SBATCH_SECONDS, because its sbatch may still be running. If the
    queue has no job of the batch yet, the batch's folder is removed, so that a later job can't start.
    """
    if not batches:
        return {}
    newest = {job.id for job in newest_jobs(batches).values()}
    found = find_queued_jobs(batch.token for batch in batches)
    orphans = {job_id: token for job_id, token in found.items() if job_id not in newest}
    cancel_jobs(orphans)
    for batch in batches:
        if batch.number is None:
            if batch.token not in orphans.values():
                shutil.rmtree(batch.files(folder), ignore_errors=True)
            if time.time() - batch.made > SBATCH_SECONDS:
                batch.remove(folder)
    return orphans


def request_cancel(folder: Path, cancel: bool) -> None:
    """Creates or removes the file by which a `submit --wait` sees that the study in `folder` was cancelled.

    Without it, a cancel at a moment at which no job is in the queue would not stop the submission of the rest.
    """
    file = batches_folder(folder) / CANCEL_FILE
    if cancel:
        file.touch()
    else:
        file.unlink(missing_ok=True)


def cancel_requested(folder: Path) -> bool:
    """Whether the study in `folder` was cancelled since the last `submit` began."""
    return (batches_folder(folder) / CANCEL_FILE).exists()


def cancel_submitted(folder: Path) -> int:
    """Cancels the queued jobs of the study in `folder`, on every cluster it was submitted to. Returns their number.

    Waits for a `submit` that is running. Raises BadInput if that takes too long, if this machine reaches none of the
    clusters, or, after the jobs of the others are cancelled, if a cluster does not respond.
    """
    if not batches_folder(folder).is_dir():
        return 0
    with study_lock(folder, LOCK_SECONDS):
        request_cancel(folder, True)
        batches = read_batches(folder)
        if not batches:
            return 0
        missing = [job for name, job in newest_jobs(batches).items() if not RunDirectory(folder / name).complete]
        without_id = [batch for batch in batches if batch.number is None]
        clusters = {batch.conf: batch.cluster for batch in (*without_id, *(job.batch for job in missing))}
        confs = dict.fromkeys([batches[-1].conf, *clusters])
        reached = [conf for conf in confs if not unreachable_reason(conf) or "SLURM_CONF" in os.environ]
        if not reached and (missing or without_id):
            raise BadInput(
                f"study {folder.name} was submitted to {batches[-1].cluster}, {unreachable_reason(batches[-1].conf)}: "
                "cancel it on a machine that reaches that cluster; if that cluster no longer exists, no job is left"
            )
        for conf, cluster in clusters.items():
            if conf not in reached:
                print(
                    f"study {folder.name} was also submitted to {cluster}, {unreachable_reason(conf)}: its jobs there "
                    "are not cancelled",
                    file=sys.stderr,
                )
        return _cancel_at_clusters(reached, batches, folder)


def _cancel_at_clusters(confs: Sequence[str], batches: Sequence[Batch], folder: Path) -> int:
    cancelled, errors = 0, []
    for conf in confs:
        at_cluster = [batch for batch in batches if batch.conf == conf]
        try:
            cancelled += _cancel_at(conf, at_cluster, folder)
        except SchedulerUnavailable as error:
            remedy = f"cancel again when it does, or, {_if_cluster_gone(folder, at_cluster)}"
            errors.append(
                f"jobs of study {folder.name} on {at_cluster[-1].cluster} may still be in the queue. "
                f"{error.explain(remedy)}"
            )
    if errors:
        done = [f"{counted(cancelled, 'job is', 'jobs are')} cancelled"] if cancelled else []
        raise BadInput("; ".join([*done, *errors]))
    return cancelled


def _cancel_at(conf: str, batches: Sequence[Batch], folder: Path) -> int:
    with batch_cluster(conf):
        orphans = cancel_orphans(folder, batches)
        jobs = newest_jobs(batches)
        infos = query_jobs(tokens_by_id(jobs.values()))
        queued = {name: job.id for name, job in jobs.items() if job.id in infos and infos[job.id].in_queue}
        for batch in {jobs[name].batch for name in queued}:
            batch.mark_cancelled(folder, True)
        cancel_jobs(queued.values())
    # without accounting, SLURM forgets cancelled jobs within minutes
    recorded = read_ledger(folder)
    cancelled = {name: replace(recorded.get(name, Entry()), state=State.CANCELLED) for name in queued}
    write_ledger(folder, recorded | cancelled)
    return len(orphans) + len(queued)
