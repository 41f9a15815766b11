"""What was sent to SLURM: one file a batch in RUNS/STUDY/.jobs/slurm, which a later call, also a failed one's, reads.

A batch is one sbatch: a job, or an array of like ones. Its file is written before it is sent, and again with the
number that SLURM gave it. A batch without a number is looked for in the queue by its token, which is the job's
comment and a folder in the path of its output, and taken back.
"""

import json
import os
import secrets
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

from jobs.cluster.batch_script import CANCEL_FILE, SETUP_DONE, START_LINE
from jobs.cluster.slurm_cli import find_jobs
from ssl_pkg.run.directory import write_json


@dataclass(frozen=True)
class Batch:
    """Runs that were sent together."""

    token: str  # names its file, its folder, and in the queue its comment
    cluster: str
    names: tuple[str, ...]  # the runs, in the order of the array
    after: tuple[str, ...]  # ids of the jobs that must be complete before; of arrays that of the whole
    conf: str = ""  # the cluster's SLURM_CONF, where its commands need one
    number: str | None = None  # SLURM's; None until it has answered
    folder: str = ""  # of the study, when the batch was sent
    made: float = 0.0  # seconds since the epoch: SLURM's numbers can begin anew, and then tell no order

    @classmethod
    def new(cls, cluster: str, names: tuple[str, ...], after: tuple[str, ...]) -> Self:
        """A batch that is about to be sent."""
        conf = os.environ.get("SLURM_CONF", "")
        return cls(secrets.token_hex(6), cluster, names, after, conf, made=time.time())

    def write(self, folder: Path) -> None:
        """Writes the batch's file for the study in `folder`."""
        (folder / ".jobs" / "slurm").mkdir(parents=True, exist_ok=True)
        here = replace(self, folder=self.folder or str(folder.absolute()))
        write_json(folder / ".jobs" / "slurm" / f"{self.token}.json", asdict(here))

    def with_number(self, number: str) -> Self:
        """The batch with the number that SLURM gave it."""
        return replace(self, number=number)

    def moved_from(self, folder: Path) -> str | None:
        """Where the study in `folder` was when the batch was sent; None if it is still there."""
        return self.folder if self.folder and not _same(Path(self.folder), folder) else None

    def mark_cancelled(self, folder: Path, cancelled: bool) -> None:
        """Leaves, or removes, the file by which a job that is requeued at this moment knows that it was cancelled."""
        file = folder / ".jobs" / "slurm" / self.token / CANCEL_FILE
        if cancelled and file.parent.is_dir():
            file.touch()
        elif not cancelled:
            file.unlink(missing_ok=True)

    def remove(self, folder: Path) -> None:
        """Removes the file: it was not sent."""
        (folder / ".jobs" / "slurm" / f"{self.token}.json").unlink(missing_ok=True)


@dataclass(frozen=True)
class SubmittedJob:
    """A run's newest job."""

    id: str
    batch: Batch


def batch_output(folder: Path, job: SubmittedJob) -> list[str]:
    """What the set-up lines and SLURM printed around the stage in the job's last start, on its first node."""
    lines = [line for end in ("out", "err") for line in _last_start(folder, job, end)]
    return [line for line in lines if line.strip() and not line.startswith(("submitit ", START_LINE, SETUP_DONE))]


def ended_in_setup(folder: Path, job: SubmittedJob) -> bool:
    """Whether the batch script of the job's last start has not come to the end of its set-up lines."""
    lines = _last_start(folder, job, "out")
    return bool(lines) and lines[0].startswith(START_LINE) and SETUP_DONE not in lines


def _last_start(folder: Path, job: SubmittedJob, end: str) -> list[str]:
    """The lines of the job's output (`out` or `err`) since its last start. SLURM appends all starts to one file."""
    file = folder / ".jobs" / "slurm" / job.batch.token / f"{job.id}_0_log.{end}"
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    starts = [number for number, line in enumerate(lines) if line.startswith(START_LINE)]
    return lines[starts[-1] if starts else 0 :]


def read_batches(folder: Path) -> list[Batch]:
    """All batches of the study in `folder`, in the order in which they were made.

    In a copy of a study that is still at its place, the batches are the original's and are left out.
    """
    found = []
    for file in (folder / ".jobs" / "slurm").glob("*.json"):
        with suppress(OSError, ValueError, TypeError, KeyError):
            content = json.loads(file.read_text(encoding="utf-8"))
            batch = Batch(**{**content, "names": tuple(content["names"]), "after": tuple(content["after"])})
            before = batch.moved_from(folder)
            if before is None or not (Path(before) / ".jobs" / "slurm" / file.name).exists():
                found.append(batch)
    return sorted(found, key=lambda batch: (batch.made, int(batch.number or 0)))


def with_job_ids(batches: Sequence[Batch]) -> list[Batch]:
    """The batches, also those whose call did not learn the number, if SLURM has a job with their token. Raises Away."""
    lost = [batch.token for batch in batches if batch.number is None]
    numbers = find_jobs(lost) if lost else {}
    return [batch.with_number(numbers[batch.token]) if batch.token in numbers else batch for batch in batches]


def submitted_jobs(folder: Path) -> dict[str, SubmittedJob]:
    """The newest job of each run of the study in `folder` that was sent."""
    return newest_jobs(read_batches(folder))


def unreachable_reason(conf: str) -> str | None:
    """Why a cluster can't be asked from this machine, now or later; None if it can be."""
    if conf:
        return None if Path(conf).exists() else f"whose slurm.conf ({conf}) is not there"
    if "SLURM_CONF" in os.environ or shutil.which("squeue"):
        return None
    return "and this machine has no SLURM"


@contextmanager
def batch_cluster(conf: str) -> Iterator[None]:
    """Inside, SLURM's commands reach the cluster that a batch was sent to with this SLURM_CONF, whichever cluster the
    environment names. If that slurm.conf was removed, the environment's is taken for its successor."""
    with slurm_conf(os.environ.get("SLURM_CONF", conf) if unreachable_reason(conf) else conf):
        yield


@contextmanager
def slurm_conf(conf: str) -> Iterator[None]:
    """Inside, SLURM's commands reach the cluster of this slurm.conf; "" is this machine's own."""
    before = os.environ.pop("SLURM_CONF", None)
    if conf:
        os.environ["SLURM_CONF"] = conf
    try:
        yield
    finally:
        os.environ.pop("SLURM_CONF", None)
        if before is not None:
            os.environ["SLURM_CONF"] = before


def tokens_by_id(jobs: Iterable[SubmittedJob]) -> dict[str, str]:
    """These jobs' ids -> the tokens by which SLURM shows them to be ours."""
    return {job.id: job.batch.token for job in jobs}


def newest_jobs(batches: Sequence[Batch]) -> dict[str, SubmittedJob]:
    """The newest job of each run in these batches."""
    jobs = {}
    for batch in batches:
        if batch.number is not None:
            for index, name in enumerate(batch.names):
                jobs[name] = SubmittedJob(batch.number if len(batch.names) == 1 else f"{batch.number}_{index}", batch)
    return jobs


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False
