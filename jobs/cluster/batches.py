"""The batches that were submitted to SLURM: one file for each in RUNS/STUDY/.jobs/slurm.

A batch is what one sbatch submits: a job, or an array of similar jobs. Its file is written before sbatch runs, and
again with the job id. A batch whose file has no job id was interrupted in between: its job, if there is one, is found
by the batch's token and cancelled. The token is the job's comment and a folder in the path of its output.
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
from jobs.cluster.job_queries import find_jobs
from jobs.ledger import batches_folder
from ssl_pkg.run.directory import write_json


@dataclass(frozen=True)
class Batch:
    """Runs that were submitted together."""

    token: str  # the name of its file and folder, and the comment of its jobs
    cluster: str
    names: tuple[str, ...]  # the runs, in the order of the array's tasks
    after: str = ""  # sbatch's --dependency, like `afterok:12`
    conf: str = ""  # the cluster's SLURM_CONF, if its commands need one
    number: str | None = None  # the job id, for an array that of the whole; None until it is known
    folder: str = ""  # the study's folder at the time of submission
    made: float = 0.0  # seconds since the epoch; job ids give no order, because they can restart

    @classmethod
    def new(cls, cluster: str, names: tuple[str, ...], after: str = "") -> Self:
        """A batch that is about to be submitted."""
        conf = os.environ.get("SLURM_CONF", "")
        return cls(secrets.token_hex(6), cluster, names, after, conf, made=time.time())

    def write(self, folder: Path) -> None:
        """Writes the batch's file for the study in `folder`."""
        batches_folder(folder).mkdir(parents=True, exist_ok=True)
        complete = replace(self, folder=self.folder or str(folder.absolute()))
        write_json(self.file(folder), asdict(complete))

    def with_number(self, number: str) -> Self:
        """The batch with its job id."""
        return replace(self, number=number)

    def moved_from(self, folder: Path) -> str | None:
        """The folder of the study when the batch was submitted; None if it is still `folder`."""
        return self.folder if self.folder and not _same(Path(self.folder), folder) else None

    def mark_cancelled(self, folder: Path, cancelled: bool) -> None:
        """Creates or removes the file by which a job that is just being requeued sees that it was cancelled."""
        file = self.files(folder) / CANCEL_FILE
        if cancelled and file.parent.is_dir():
            file.touch()
        elif not cancelled:
            file.unlink(missing_ok=True)

    def remove(self, folder: Path) -> None:
        """Removes the batch's file, because the batch was not submitted."""
        self.file(folder).unlink(missing_ok=True)

    def file(self, folder: Path) -> Path:
        """The batch's file for the study in `folder`."""
        return batches_folder(folder) / f"{self.token}.json"

    def files(self, folder: Path) -> Path:
        """The folder of the batch's script, pickle files and output, for the study in `folder`."""
        return batches_folder(folder) / self.token


@dataclass(frozen=True)
class SubmittedJob:
    """A run's newest job in SLURM."""

    id: str  # `12`, or `12_0` in an array
    batch: Batch


def batch_output(folder: Path, job: SubmittedJob) -> list[str]:
    """What SLURM and the set-up lines printed in the job's last start, on its first node."""
    lines = [line for end in ("out", "err") for line in _last_start(folder, job, end)]
    return [line for line in lines if line.strip() and not line.startswith(("submitit ", START_LINE, SETUP_DONE))]


def ended_in_setup(folder: Path, job: SubmittedJob) -> bool:
    """Whether the job's last start has not reached the end of its set-up lines."""
    lines = _last_start(folder, job, "out")
    return bool(lines) and lines[0].startswith(START_LINE) and SETUP_DONE not in lines


def _last_start(folder: Path, job: SubmittedJob, end: str) -> list[str]:
    """The lines of the job's `out` or `err` file since its last start. SLURM appends all starts to one file."""
    file = job.batch.files(folder) / f"{job.id}_0_log.{end}"
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    starts = [number for number, line in enumerate(lines) if line.startswith(START_LINE)]
    return lines[starts[-1] if starts else 0 :]


def read_batches(folder: Path) -> list[Batch]:
    """All batches of the study in `folder`, oldest first.

    If `folder` is a copy and the original still exists, the original's batches are left out.
    """
    found = []
    for file in batches_folder(folder).glob("*.json"):
        with suppress(OSError, ValueError, TypeError, KeyError):
            content = json.loads(file.read_text(encoding="utf-8"))
            # earlier versions wrote `after` as a list
            batch = Batch(**{**content, "names": tuple(content["names"]), "after": "".join(content["after"])})
            before = batch.moved_from(folder)
            if before is None or not (batches_folder(Path(before)) / file.name).exists():
                found.append(batch)
    return sorted(found, key=lambda batch: (batch.made, int(batch.number or 0)))


def with_job_ids(batches: Sequence[Batch]) -> list[Batch]:
    """The batches, with job ids from SLURM where the files have none. Raises SchedulerUnavailable."""
    unknown = [batch.token for batch in batches if batch.number is None]
    numbers = find_jobs(unknown) if unknown else {}
    return [batch.with_number(numbers[batch.token]) if batch.token in numbers else batch for batch in batches]


def unreachable_reason(conf: str) -> str | None:
    """Why the cluster with this SLURM_CONF can't be reached from this machine; None if it can. A relative clause."""
    if conf:
        return None if Path(conf).exists() else f"whose slurm.conf ({conf}) does not exist"
    if "SLURM_CONF" in os.environ or shutil.which("squeue"):
        return None
    return "and this machine has no SLURM"


@contextmanager
def batch_cluster(conf: str) -> Iterator[None]:
    """Context manager in which SLURM's commands reach the cluster that has this SLURM_CONF in a batch's file.

    If that slurm.conf no longer exists, the commands reach the environment's cluster, which counts as its successor.
    """
    with slurm_conf(os.environ.get("SLURM_CONF", conf) if unreachable_reason(conf) else conf):
        yield


@contextmanager
def slurm_conf(conf: str) -> Iterator[None]:
    """Context manager in which SLURM's commands use this slurm.conf; "" means this machine's default."""
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
    """The ids of these jobs -> their tokens, which prove that a job is this study's."""
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
