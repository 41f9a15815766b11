"""`ssl-study submit --dry-run`: prints what would be submitted, and what it would cost. Asks SLURM nothing."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Column, Table
from submitit.slurm.slurm import _make_sbatch_string

from jobs.cluster.batches import Batch, SubmittedJob, newest_jobs
from jobs.cluster.job_arrays import awaited_runs, group_into_arrays, submission_order
from jobs.cluster.limits import max_array_tasks
from jobs.cluster.profile import LOCAL, Profile, load_profile, profiles
from jobs.cluster.sbatch import job_parameters
from jobs.ledger import REPORT, counted_runs
from jobs.plan.estimate import (
    GPU,
    MEASURED_RESOLUTION,
    PAIRS_PER_SECOND,
    THIRD_CHECKPOINT_MB,
    Estimate,
    estimate,
)
from jobs.plan.graph import Job, remaining_cost
from ssl_pkg.errors import BadInput
from ssl_pkg.messages.counted import counted

# Options that are the same for every profile, or that have another value in each submission.
_HIDDEN: Final = ("--comment", "--dependency", "--error", "--job-name", "--open-mode", "--output")


def print_dry_run(
    jobs: Sequence[Job], folder: Path, chosen: Sequence[Profile | BadInput], images: Mapping[str, int]
) -> None:
    """Prints the jobs of the missing runs, their GPU hours and disk space, and what each profile would send.

    folder: of the study. chosen: the error of a profile that can't be used takes its place. images: the number of
    images of each split. Jobs that are already in a queue count as missing.
    """
    incomplete = {job for job in jobs if not job.complete}
    if not incomplete:
        print(f"{folder.name} is complete: nothing would be submitted.")
        return
    missing = [job for job in jobs if job in incomplete or job.stage == REPORT]
    batches = list(_batches(missing))
    estimates = {job.name: estimate(job, images) for job in missing}
    complete = len(jobs) - len(missing)
    print(
        f"{folder.name}: {counted_runs({job.name for job in missing})} in {counted(len(batches), 'job')} "
        "(an array counts as one)"
        f"{f'; {complete} complete' if complete else ''}. Nothing is submitted.\n"
    )
    console = Console(highlight=False, soft_wrap=True)
    console.print(_table(batches, estimates))
    print("\n".join(_totals(missing, estimates)))
    for profile in chosen:
        print("\n".join(["", *([str(profile)] if isinstance(profile, BadInput) else _sent(profile, batches, folder))]))


def every_profile() -> list[Profile | BadInput]:
    """The profiles in slurm/profiles. The error of one that can't be used takes its place."""
    found: list[Profile | BadInput] = []
    for name in profiles():
        try:
            found.append(load_profile(name))
        except BadInput as error:
            found.append(error)
    return found


def _batches(missing: Sequence[Job]) -> Iterator[tuple[Batch, list[Job]]]:
    """The batches that `submit` would make, in its order. Their job ids count from 1."""
    submitted: dict[str, SubmittedJob] = {}
    number = 0
    for level in submission_order(missing, ()):
        awaited = awaited_runs(level, missing, submitted)
        for group, after in list(group_into_arrays(level, awaited, submitted, max_array_tasks({}))):
            number += 1
            batch = Batch.new(LOCAL, tuple(job.name for job in group), after).with_number(str(number))
            submitted |= newest_jobs([batch])
            yield batch, group


def _table(batches: Sequence[tuple[Batch, list[Job]]], estimates: Mapping[str, Estimate]) -> Table:
    tasks, hours = (Column(name, justify="right") for name in ("tasks", "GPU hours"))
    table = Table("", "job", tasks, "waits for", hours, box=None, pad_edge=False)
    for batch, group in batches:
        seconds = sum(estimates[job.name].gpu_seconds for job in group)
        name = group[0].name if len(group) == 1 else group[0].group
        table.add_row(
            batch.number, name, str(len(group)), _waits_for(batch), f"{seconds / 3600:.2f}" if seconds else ""
        )
    return table


def _waits_for(batch: Batch) -> str:
    """sbatch's --dependency in words."""
    kind, _, ids = batch.after.partition(":")
    numbers = ids.replace(":", ", ")
    words = {"": "", "aftercorr": f"its task of {numbers}", "afterok": numbers, "afterany": "all, also failed ones"}
    return words[kind]


def _totals(missing: Sequence[Job], estimates: Mapping[str, Estimate]) -> list[str]:
    """Sentences about GPU hours and disk space."""
    hours = {job.name: estimates[job.name].gpu_seconds / 3600 for job in missing}
    total, measured = sum(hours.values()), sum(hours[name] for name in hours if estimates[name].measured)
    rates = ", ".join(f"{name} {rate:,}" for name, rate in PAIRS_PER_SECOND.items())
    chain = max(remaining_cost(missing, lambda job: hours[job.name]).values())
    disk = sum(estimates[job.name].disk_mb for job in missing) / 1000
    trainings = Counter(job.stage for job in missing)
    peak = (trainings["pretrain"] + trainings["finetune"]) * THIRD_CHECKPOINT_MB / 1000
    return [
        "",
        f"GPU time: {measured:.1f} hours of an {GPU} for pretraining, from measured rates ({rates} pairs per second at "
        f"{MEASURED_RESOLUTION} px), and about {total - measured:.1f} hours for the other runs, which are guessed, "
        "because their rates have not been measured.",
        f"Duration: about {chain:.1f} hours if every job starts at once, on a GPU of its own.",
        f"Disk: at most {disk:.1f} GB, and up to {peak:.1f} GB more while all trainings run.",
    ]


def _sent(profile: Profile, batches: Sequence[tuple[Batch, list[Job]]], folder: Path) -> list[str]:
    """The options that the profile sends with a pretraining, with the other stages and with the report."""
    if profile.name == LOCAL:
        return [f"{profile.name}: the runs are started on this machine, without SLURM"]
    found: dict[str, list[str]] = {}
    for batch, group in sorted(batches, key=lambda each: not each[0].after):  # one with a dependency, if there is one
        stage = group[0].stage
        kind = {"pretrain": "pretraining", REPORT: "report"}.get(stage, "other stages")
        found.setdefault(kind, _options(profile, batch, group, folder))
    lines = [f"{profile.name} sends to SLURM, besides the dependencies:"]
    lines += [
        f"  {kind}: {' '.join(found[kind])}" for kind in ("pretraining", "other stages", "report") if kind in found
    ]
    if not profile.gpus:
        lines.append("  The profile has no GPU, so the GPU time above does not apply to it.")
    return lines


def _options(profile: Profile, batch: Batch, group: Sequence[Job], folder: Path) -> list[str]:
    """The options in the #SBATCH lines of the batch's script."""
    files = batch.files(folder.absolute())
    tasks = len(group) if len(group) > 1 else None
    script = _make_sbatch_string("", files, map_count=tasks, **job_parameters(profile, group[0], batch, files))
    options = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
    return [option for option in options if not option.startswith(_HIDDEN)]
