"""Writes the plan of a study to plan.json (`ssl_pkg/run/study_plan.py`)."""

from collections.abc import Collection, Sequence
from pathlib import Path

from jobs.ledger import REPORT
from jobs.plan.graph import Job
from ssl_pkg.errors import NO_ROOM, BadInput
from ssl_pkg.run.study_plan import PLAN, StudyPlan, read_plan, write_plan


def record_plan(folder: Path, jobs: Sequence[Job], *, queued: Collection[str] = ()) -> None:
    """Merges the runs of `jobs` into the plan in `folder`; the caller holds the study's lock.

    A run of an earlier plan stays if its run directory exists or if it is one of `queued`. Raises BadInput if the file
    can't be written.
    """
    earlier = read_plan(folder)
    runs = {job.name: job.planned() for job in jobs if job.stage != REPORT}
    for run in earlier.runs if earlier else ():
        if run.name in queued or (folder / run.name).is_dir():
            runs.setdefault(run.name, run)
    merged = StudyPlan(study=folder.name, runs=tuple(runs.values()))
    if merged == earlier:
        return
    try:
        write_plan(folder, merged)
    except OSError as error:
        advice = "free some space, or give" if error.errno in NO_ROOM else "give"
        raise BadInput(
            f"{folder / PLAN} can't be written: {error.strerror}; {advice} another folder with --runs (make: RUNS=)"
        ) from error
