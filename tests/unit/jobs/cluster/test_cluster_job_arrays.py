"""The order in which missing runs are submitted, which matters if a limit on jobs is reached."""

from itertools import chain
from pathlib import Path

from jobs.cluster.batches import Batch, SubmittedJob, newest_jobs
from jobs.cluster.job_arrays import awaited_runs, dependents, group_into_arrays, submission_order
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


def batch(number: str, *names: str) -> dict[str, SubmittedJob]:
    return newest_jobs([Batch(number, "test", names, number=number)])


def grouped(jobs: list[Job], submitted: dict[str, SubmittedJob], largest: int = 9) -> list[tuple[list[str], str]]:
    """The names and the dependency of each array, where jobs wait for those of their parents that are submitted."""
    awaited = {job.name: [parent for parent in job.parents if parent in submitted] for job in jobs}
    found = group_into_arrays(jobs, awaited, submitted, largest)
    return [([job.name for job in group], after) for group, after in found]


def job(name: str, *parents: str, stage: str = "probe") -> Job:
    return Job(name, stage, (), parents, Path(name), seed=0)


def test_each_task_waits_for_its_own_parent_if_the_tasks_correspond() -> None:
    parents = batch("5", "a0", "a1", "a2")
    children = [job(f"b{seed}", f"a{seed}") for seed in range(3)]
    assert grouped(children, parents) == [(["b0", "b1", "b2"], "aftercorr:5")]
    assert grouped(children[::-1], parents) == [([f"b{seed}"], f"afterok:5_{seed}") for seed in (2, 1, 0)]
    assert grouped(children[1:], parents) == [(["b1"], "afterok:5_1"), (["b2"], "afterok:5_2")]
    assert grouped(children[:1], batch("6", "a0")) == [(["b0"], "afterok:6")]


def test_a_report_waits_for_the_end_of_the_jobs_that_are_queued_and_of_no_others() -> None:
    report = [job(REPORT, "a0", "a1", "a2", "b", stage=REPORT)]
    jobs = batch("5", "a0", "a1", "a2") | batch("6", "b")
    assert grouped(report, jobs) == [([REPORT], "afterany:5:6")]
    del jobs["a1"]  # is complete, or has a later job
    assert grouped(report, jobs) == [([REPORT], "afterany:5_0:5_2:6")]
    assert grouped([job("c", "a0", "b")], jobs) == [(["c"], "afterok:5_0:6")]


def test_arrays_have_the_largest_number_of_tasks_at_most() -> None:
    found = grouped([job(f"a{seed}") for seed in range(7)], {}, largest=3)
    assert found == [(["a0", "a1", "a2"], ""), (["a3", "a4", "a5"], ""), (["a6"], "")]


def test_a_run_waits_for_no_job_that_its_other_parents_wait_for() -> None:
    plan = [job("a"), job("b", "a"), job("c", "b"), job(REPORT, "a", "b", "c", stage=REPORT)]
    assert awaited_runs(plan[-1:], plan, {"a", "b", "c"}) == {REPORT: ["c"]}
    assert awaited_runs(plan[-1:], plan, {"a", "b"}) == {REPORT: ["b"]}
    assert awaited_runs(plan[:3], plan, {"a"}) == {"a": [], "b": ["a"], "c": []}
