"""Submits one batch by sbatch: the options of its jobs, its script, and its job id.

submitit writes the batch script and the pickle files. The job id comes from SLURM's list of jobs, because wrappers
around sbatch at some sites print other text, other numbers, or nothing.
"""

import os
import shlex
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, Final

from submitit import SlurmExecutor
from submitit.core.utils import DelayedSubmission, JobPaths

from jobs.cluster.batch_script import BLOCK_SIGNALS, script_lines
from jobs.cluster.batches import Batch
from jobs.cluster.job_queries import find_jobs, parse_time, possible_job_ids, show_job
from jobs.cluster.node import NodeStage
from jobs.cluster.profile import Profile
from jobs.cluster.slurm_cli import (
    SchedulerUnavailable,
    SlurmError,
    SlurmMissing,
    is_communication_error,
    job_fields,
    run_slurm,
)
from jobs.ledger import REPORT
from jobs.plan.graph import Job

MEMORY_OPTIONS: Final = ("mem", "mem_per_cpu", "mem_per_gpu")
LISTING_SECONDS: Final = 15.0  # time within which squeue or sacct lists a job that sbatch has accepted
CLOCK_SKEW_SECONDS: Final = 5.0  # maximum difference between the controller's clock and this machine's


class SubmissionRefused(Exception):
    """SLURM has not accepted a batch: no job has its token. The text is sbatch's."""


def sbatch_options(profile: Profile, stage: str) -> dict[str, Any]:
    """sbatch's options for a job of `stage`, their names with underscores; for `submit` and `profile --check`.

    The profile's `sbatch:` section overrides the other fields; None there removes an option.
    """
    several = stage == "pretrain"
    gpus = 0 if stage == REPORT else profile.gpus if several else min(profile.gpus, 1)
    options: dict[str, Any] = {
        "partition": profile.partition,
        "account": profile.account,
        "qos": profile.qos,
        "constraint": profile.constraint,
        "time": profile.minutes,
        "nodes": profile.nodes if several else 1,
        "ntasks_per_node": profile.processes if several else 1,
        "cpus_per_task": profile.cpus,
        "gpus_per_node": gpus or None,
        "requeue": True,
    }
    overrides = {name.replace("-", "_"): value for name, value in profile.sbatch.items()}
    if profile.memory and not overrides.keys() & set(MEMORY_OPTIONS):
        options |= profile.memory.options(gpus)
    return {name: value for name, value in (options | overrides).items() if value is not None}


def job_parameters(profile: Profile, job: Job, batch: Batch, folder: Path) -> dict[str, Any]:
    """submitit's parameters for a batch of jobs like `job`. folder: gets the batch's files, in the study's folder."""
    several, study = job.stage == "pretrain", folder.parents[2].name
    name = job.name if len(batch.names) == 1 else job.group  # that of an array is without seed and variant
    return {
        "job_name": f"{name}.{study}",
        "signal_delay_s": profile.signal_seconds,
        "array_parallelism": profile.at_once or len(batch.names),
        "setup": script_lines(profile.setup, folder),
        # Without --kill-on-bad-exit srun would wait for the other processes after one has died. A job of a single
        # process must not have it, because a copy of the job, left on a failed node, would end the later start.
        "srun_args": ["--kill-on-bad-exit=1"] if several and profile.nodes * profile.processes > 1 else [],
        # submitit would pass its own defaults for options that the profile removes
        **dict.fromkeys(("time", "nodes", "wckey")),
        "additional_parameters": {
            **({} if "comment" in profile.sbatch else {"comment": batch.token}),
            **sbatch_options(profile, job.stage),
            **({"dependency": batch.after} if batch.after else {}),
            # the report would wait forever for a job that can never start
            **({"kill-on-invalid-dep": "yes"} if batch.after and job.stage != REPORT else {}),
        },
    }


def submit_batch(folder: Path, token: str, stages: Sequence[NodeStage], parameters: dict[str, Any]) -> str:
    """Submits a job, or an array if there are several stages. Returns the job id, for an array that of the whole.

    folder: gets the batch's files; its name is the token.

    Raises SubmissionRefused, and SchedulerUnavailable if it is unknown whether SLURM has accepted the batch.
    """
    if SlurmExecutor.affinity() < 0:
        raise SlurmMissing("srun not found")
    executor = SlurmExecutor(folder, python=f"{BLOCK_SIGNALS} {shlex.quote(sys.executable)} -P")
    executor.update_parameters(**parameters)
    if len(stages) > 1:
        executor.parameters["map_count"] = len(stages)
    folder.mkdir(parents=True, exist_ok=True)
    script = folder / "batch.sh"
    script.write_text(executor._make_submission_file_text(executor._submitit_command_str, token), encoding="utf-8")
    pickles = [folder / f"{index}.pkl" for index in range(len(stages))]
    for pickle, stage in zip(pickles, stages, strict=True):
        DelayedSubmission(stage).dump(pickle)
    began = time.time() - CLOCK_SKEW_SECONDS
    number = _find_job_id(run_slurm("sbatch", "--parsable", str(script)), token, began)
    for index, pickle in enumerate(pickles):  # a job waits one minute for its pickle, and fails without it
        job_id = number if len(stages) == 1 else f"{number}_{index}"
        JobPaths(folder, job_id=job_id).move_temporary_file(pickle, "submitted_pickle")
    return number


def _find_job_id(done: "CompletedProcess[str]", token: str, began: float) -> str:
    """The id of the job with the token, whatever sbatch has printed and whatever its exit status was."""
    output = " ".join((done.stderr.strip() or done.stdout).split())[-400:]  # the end, because a banner comes first
    errors = " ".join(line for line in done.stderr.splitlines() if "error" in line)
    end = time.monotonic() + (LISTING_SECONDS if done.returncode == 0 else 0.0)
    while True:
        try:
            number = find_jobs([token], f"{done.stdout}\n{done.stderr}").get(token)
        except SchedulerUnavailable as error:
            raise SchedulerUnavailable(f"{output}; {error}" if done.returncode else str(error)) from error
        if number:
            return number
        if time.monotonic() > end:
            break
        time.sleep(0.5)
    if done.returncode == 0:
        printed = possible_job_ids(f"{done.stdout}\n{done.stderr}")
        if number := next((number for number in printed if _is_new_job(number, began)), None):
            raise SlurmError(
                f"sbatch printed {number}, but neither the comment nor the script nor the output of that job has the "
                f"batch's token {token}: a wrapper around sbatch removes it. If job {number} is this batch, cancel it"
            )
        raise SubmissionRefused(
            f"sbatch ended without an error, but SLURM lists no such job; sbatch printed: {output or 'nothing'}"
        )
    if is_communication_error(errors):
        raise SchedulerUnavailable(output)
    raise SubmissionRefused(output or f"sbatch ended with status {done.returncode} and printed nothing")


def _is_new_job(job_id: str, began: float) -> bool:
    """Whether this user has submitted the job since `began`."""
    fields = job_fields(show_job(job_id))
    submitted = parse_time(fields.get("SubmitTime", ""))
    return f"({os.getuid()})" in fields.get("UserId", "") and submitted is not None and submitted >= began
