"""Sends one batch to SLURM. submitit makes the batch script and what it runs; the job's number comes from SLURM's list
of jobs, because sites put wrappers around sbatch that print other text, other numbers, or nothing."""

import os
import re
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Final

from submitit import SlurmExecutor
from submitit.core.utils import DelayedSubmission, JobPaths

from jobs.cluster.node import NodeStage
from jobs.cluster.slurm_cli import (
    SchedulerUnavailable,
    find_jobs,
    is_communication_error,
    parse_time,
    possible_job_ids,
    run_slurm,
    show_job,
)

LISTING_SECONDS: Final = 15.0  # within which SLURM's queue or its accounting lists a job that was taken
CLOCK_SKEW_SECONDS: Final = 5.0  # by which the controller's clock may differ from this machine's


class SubmissionRefused(Exception):
    """SLURM has not taken a batch: none of its jobs has the batch's token. The text is sbatch's own."""


def submit_batch(folder: Path, token: str, works: Sequence[NodeStage], python: str, parameters: dict[str, Any]) -> str:
    """Sends a job, or an array where there are several works; returns SLURM's number of it. `folder`, which is named
    after the token, gets its files.

    Raises Refused, and Away where it is not known whether SLURM has taken it.
    """
    if SlurmExecutor.affinity() < 0:
        raise SchedulerUnavailable(
            "srun not found: this is no login node of a SLURM cluster, or its module is not loaded"
        )
    executor = SlurmExecutor(folder, python=python)
    executor.update_parameters(**parameters)
    if len(works) > 1:
        executor.parameters["map_count"] = len(works)
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "batch.sh"
    script.write_text(executor._make_submission_file_text(executor._submitit_command_str, token), encoding="utf-8")
    drafts = [folder / f"{index}.pkl" for index in range(len(works))]
    for draft, work in zip(drafts, works, strict=True):
        DelayedSubmission(work).dump(draft)
    began = time.time() - CLOCK_SKEW_SECONDS
    number = _find_job_id(run_slurm("sbatch", "--parsable", str(script)), token, began)
    for index, draft in enumerate(drafts):  # the job waits a minute for it, and fails without it
        job = number if len(works) == 1 else f"{number}_{index}"
        JobPaths(folder, job_id=job).move_temporary_file(draft, "submitted_pickle")
    return number


def _find_job_id(done: "CompletedProcess[str]", token: str, began: float) -> str:
    """The number of the job that bears the token, whatever sbatch has printed and with whatever status it ended."""
    said = " ".join((done.stderr.strip() or done.stdout).split())[-400:]  # a site's banner comes first
    errors = " ".join(line for line in done.stderr.splitlines() if "error" in line)
    end = time.monotonic() + (LISTING_SECONDS if done.returncode == 0 else 0.0)
    while True:
        try:
            number = find_jobs([token], f"{done.stdout}\n{done.stderr}").get(token)
        except SchedulerUnavailable as error:
            raise SchedulerUnavailable(f"{said}; {error}" if done.returncode else str(error)) from error
        if number:
            return number
        if time.monotonic() > end:
            break
        time.sleep(0.5)
    if done.returncode == 0:
        if number := next(
            (number for number in possible_job_ids(f"{done.stdout}\n{done.stderr}") if _is_new_job(number, began)), None
        ):
            raise SchedulerUnavailable(
                f"sbatch printed {number}, and neither the comment nor the script nor the output of that job bears the "
                f"batch's token {token}: a wrapper around sbatch drops them; if job {number} is this batch, cancel it"
            )
        raise SubmissionRefused(
            f"sbatch ended without an error, but SLURM has no such job; it printed: {said or 'nothing'}"
        )
    if is_communication_error(errors):
        raise SchedulerUnavailable(said)
    raise SubmissionRefused(said or f"sbatch ended with status {done.returncode} and printed nothing")


def _is_new_job(number: str, began: float) -> bool:
    """Whether SLURM has a job of this number that this user has submitted since `began`."""
    fields = dict(re.findall(r"\b(\w+)=(\S+)", show_job(number)))
    submitted = parse_time(fields.get("SubmitTime", ""))
    return f"({os.getuid()})" in fields.get("UserId", "") and submitted is not None and submitted >= began
