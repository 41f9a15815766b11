"""The order in which missing runs are submitted, which matters if a limit on jobs is reached."""

from itertools import chain
from pathlib import Path

from jobs.cluster.job_arrays import dependents, submission_order
from jobs.ledger import REPORT
from jobs.plan.graph import Job, plan
from ssl_pkg.config.schema import StudyConfig

FAILED = "finetune-random-s0"


def jobs() -> list[Job]:
    study = StudyConfig(name="small", methods=("supervised", "simclr"), seeds=(0, 1), cpus=1)
    return plan(study, runs=Path("runs"), reports=Path("reports"), data_root="synthetic")


def test_a_failed_run_and_its_dependents_are_submitted_after_the_others() -> None:
    planned = jobs()
    order = [job.name for job in chain.from_iterable(submission_order(planned, {FAILED}))]
    needing = {job.name for job in planned if FAILED in job.parents and job.stage != REPORT}
    assert sorted(order) == sorted(job.name for job in planned)
    assert order[-1] == REPORT and set(order[-1 - len(needing) : -1]) == needing
    assert order[-2 - len(needing)] == FAILED
    place = {name: order.index(name) for name in order}
    assert all(place[parent] < place[job.name] for job in planned for parent in job.parents)


def test_an_early_report_is_submitted_before_the_dependents_of_a_failed_run() -> None:
    names = dependents(jobs(), {FAILED}) | {REPORT}
    missing = [job for job in jobs() if job.name in names]
    order = [job.name for job in chain.from_iterable(submission_order(missing, {FAILED}, early_report=True))]
    assert order[:2] == [FAILED, REPORT] and set(order) == names
    assert [level[0].name for level in submission_order(missing, {FAILED})][-1] == REPORT


def test_without_a_failed_run_the_order_is_that_of_the_plan() -> None:
    planned = jobs()
    order = [(job.stage, job.model) for job in chain.from_iterable(submission_order(planned, set()))]
    assert list(dict.fromkeys(order)) == list(dict.fromkeys((job.stage, job.model) for job in planned))
