"""In which order the missing runs of a study are sent, where SLURM may not take all of them at once."""

from collections.abc import Collection, Iterator, Sequence

from jobs.ledger import REPORT
from jobs.plan.graph import Job


def dependents(jobs: Sequence[Job], names: Collection[str]) -> set[str]:
    """The names of these runs and of all runs that need them. The report needs none: it says what failed."""
    found = set(names)
    for job in jobs:  # parents come before their children
        if job.stage != REPORT and found.intersection(job.parents):
            found.add(job.name)
    return found


def levels(missing: Sequence[Job], failed: Collection[str], *, early_report: bool = False) -> Iterator[list[Job]]:
    """Lists of like jobs, parents before children: one list for each stage of each model, with all seeds and variants.

    Runs that have not failed come first, then failed ones, then the runs that need these, then the report. A limit on
    jobs would otherwise let one failed run keep the others waiting. early_report: the report comes before the runs that
    need failed ones, because these may never run.
    """
    needing = dependents(missing, failed)
    groups: dict[tuple[int, str, str], list[Job]] = {}
    for job in missing:
        if job.stage == REPORT:
            rank = 2 if early_report and needing.issuperset(each.name for each in missing if each is not job) else 4
        else:
            rank = 3 if needing.intersection(job.parents) else 1 if job.name in failed else 0
        groups.setdefault((rank, job.stage, job.group), []).append(job)
    for _, group in sorted(groups.items(), key=lambda item: item[0][0]):  # stable: else in the order of the plan
        yield group
