"""The order in which the missing runs of a study are submitted, and which of them form a job array."""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from jobs.cluster.batches import Batch, SubmittedJob
from jobs.ledger import REPORT
from jobs.plan.graph import Job


def dependents(jobs: Sequence[Job], names: Collection[str]) -> set[str]:
    """Returns `names` and the names of all runs that depend on them. `jobs` lists parents before children.

    The report depends on no run, because it also reports failures.
    """
    found = set(names)
    for job in jobs:
        if job.stage != REPORT and found.intersection(job.parents):
            found.add(job.name)
    return found


def submission_order(
    missing: Sequence[Job], failed: Collection[str], *, early_report: bool = False
) -> Iterator[list[Job]]:
    """Yields lists of similar jobs, parents before children: a list has one stage and model, all seeds and variants.

    Runs that have not failed come first, then failed runs, then the runs that depend on them, then the report.
    Otherwise a failed run could keep the others waiting where SLURM limits the number of jobs.

    early_report: the report comes before the runs that depend on failed ones, because these may never run.
    """
    waiting = dependents(missing, failed)
    groups: dict[tuple[int, str, str], list[Job]] = {}
    for job in missing:
        if job.stage == REPORT:
            rank = 2 if early_report and waiting.issuperset(each.name for each in missing if each is not job) else 4
        else:
            rank = 3 if waiting.intersection(job.parents) else 1 if job.name in failed else 0
        groups.setdefault((rank, job.stage, job.group), []).append(job)
    for _, group in sorted(groups.items(), key=lambda item: item[0][0]):  # a stable sort keeps the plan's order
        yield group


def awaited_runs(level: Iterable[Job], jobs: Iterable[Job], queued: Collection[str]) -> dict[str, list[str]]:
    """The queued parents of each job of a level, without those that another of its parents depends on.

    jobs: the whole plan. queued: the names of the runs that others can wait for.
    """
    found = {}
    for job in level:
        parents = [parent for parent in job.parents if parent in queued]
        indirect = {name for other in jobs if other.name in parents for name in other.parents}
        found[job.name] = [parent for parent in parents if parent not in indirect]
    return found


def group_into_arrays(
    jobs: Sequence[Job], awaited: Mapping[str, Sequence[str]], submitted: Mapping[str, SubmittedJob], largest: int
) -> Iterator[tuple[list[Job], str]]:
    """Yields groups of similar jobs, each with the value of sbatch's --dependency: one array for each group.

    awaited: the name of a job -> the names of the queued runs that it waits for. submitted: the job of each run.
    largest: the maximum number of tasks in an array.

    In SLURM a task can wait for its own parent only if task i of the array waits for task i of another array
    (`aftercorr`). Other dependencies hold for a whole array.
    """
    parent_ids = {name: tuple(submitted[parent].id for parent in parents) for name, parents in awaited.items()}
    children_of: dict[Batch, list[Job]] = {}
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(parent_ids[job.name], []).append(job)
        for array in {submitted[parent].batch for parent in awaited[job.name]}:
            children_of.setdefault(array, []).append(job)
    paired: set[str] = set()
    for array, children in children_of.items():
        tasks = [(f"{array.number}_{index}",) for index in range(len(array.names))]
        if len(children) > 1 and [parent_ids[job.name] for job in children] == tasks:
            yield children, f"aftercorr:{array.number}"
            paired.update(job.name for job in children)
    for ids, group in groups.items():
        kind = "afterany" if group[0].stage == REPORT else "afterok"  # the report also reports failures
        after = f"{kind}:{':'.join(_shorten_ids(ids, submitted.values()))}" if ids else ""
        rest = [job for job in group if job.name not in paired]
        for start in range(0, len(rest), largest):
            yield rest[start : start + largest], after


def _shorten_ids(ids: Sequence[str], submitted: Iterable[SubmittedJob]) -> list[str]:
    """Replaces the ids of all tasks of an array by the array's id, because SLURM limits the length of a dependency."""
    sizes = {job.batch.number: len(job.batch.names) for job in submitted}
    array_ids = [job_id.partition("_")[0] for job_id in ids]
    short: dict[str, None] = {}
    for job_id, array_id in zip(ids, array_ids, strict=True):
        short[array_id if array_ids.count(array_id) == sizes.get(array_id) else job_id] = None
    return list(short)
