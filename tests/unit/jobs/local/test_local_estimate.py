"""The estimated time that a study still needs."""

from dataclasses import replace
from pathlib import Path

import pytest
from packed_sizes import photographs

from jobs.ledger import REPORT, State
from jobs.local.estimate import ERROR_FACTORS, REPORT_SECONDS, TimeLeft
from jobs.plan.estimate import workloads
from jobs.plan.graph import Job, plan, starting_order
from jobs.status.states import Row
from jobs.status.table import SecondsLeft
from ssl_pkg.config.compose import load_config

PARENTS = {"probe-a": "pretrain-a", "finetune-a": "pretrain-a", "probe-b": "pretrain-b", "finetune-b": "pretrain-b"}
NAMES = ("pretrain-a", "probe-a", "finetune-a", "pretrain-b", "probe-b", "finetune-b")
JOBS = [
    *(Job(name, name.partition("-")[0], (), tuple(filter(None, [PARENTS.get(name)])), Path(name)) for name in NAMES),
    Job(REPORT, REPORT, (), NAMES, Path(REPORT)),
]
WORK = {job.name: {"pretrain": 1000.0, "probe": 90.0, "finetune": 400.0, REPORT: 0.0}[job.stage] for job in JOBS}
PENDING = {name: Row(name, State.PENDING) for name in (*NAMES, REPORT)}
TRAINED = [Row("pretrain-a", State.COMPLETE, elapsed=100.0), Row("finetune-a", State.COMPLETE, elapsed=50.0)]


def complete(name: str, seconds: float) -> Row:
    return Row(name, State.COMPLETE, elapsed=seconds)


def left(*rows: Row, slots: int = 1) -> SecondsLeft:
    """The estimate where all runs but these are pending."""
    return TimeLeft(JOBS, slots, WORK)([*(PENDING | {row.name: row for row in rows}).values()])


def bounds(known: float, unsure: float = 0.0) -> object:
    """What the estimate equals before the report, if runs of unmeasured stages take `unsure` seconds by their work."""
    return pytest.approx(tuple(REPORT_SECONDS + known + factor * unsure for factor in ERROR_FACTORS))


def test_there_is_no_estimate_before_a_training_is_measured() -> None:
    assert left() is None
    assert left(complete("probe-b", 5.0)) is None
    training = Row("pretrain-a", State.RUNNING, "train", 0, 1000, elapsed=29.0)
    assert left(training) is None
    assert left(replace(training, step=100, rate=10.0, left=90.0)) is None  # its first steps are slow
    measured = replace(training, step=110, rate=10.0, left=89.0, elapsed=30.0)
    assert left(measured) is not None
    assert left(replace(measured, earlier=20.0)) is None  # its first steps after a resume
    assert left(*(complete(name, 1.0) for name in PENDING)) is None


def test_on_one_slot_the_estimate_is_the_sum_of_the_durations_of_each_stage() -> None:
    done = [*TRAINED, complete("probe-a", 10.0)]
    assert left(*done) == bounds(100 + 10 + 50)
    running = Row("pretrain-b", State.RUNNING, "validate", 3, 9, elapsed=30.0)
    assert left(*done, running) == bounds(70 + 10 + 50)
    late = replace(running, elapsed=130.0)
    assert left(*done, late) == bounds(0 + 10 + 50)


def test_a_stage_without_a_measured_run_takes_as_long_as_its_work_says() -> None:
    rest = 0.1 * (2 * 90.0 + 2 * 400.0)
    assert left(complete("pretrain-a", 100.0)) == bounds(100.0, rest)


def test_with_many_slots_the_longest_chain_is_left() -> None:
    assert left(*TRAINED, complete("probe-a", 10.0), slots=8) == bounds(100 + 50)


def test_a_failed_run_and_its_descendants_take_no_more_time() -> None:
    failed = [Row("pretrain-b", State.FAILED), Row("probe-b", State.BLOCKED), Row("finetune-b", State.BLOCKED)]
    assert left(*TRAINED, complete("probe-a", 10.0), *failed) == bounds(0.0)


def test_the_steps_of_a_validation_do_not_change_the_estimate() -> None:
    estimate = TimeLeft(JOBS, 8, WORK)

    def seen(row: Row) -> tuple[float, float]:
        found = estimate([*(PENDING | {row.name: row}).values()])
        assert found is not None
        return found

    training = Row("pretrain-a", State.RUNNING, "train", 500, 1000, 10.0, left=50.0, elapsed=50.0)
    before = seen(training)
    assert seen(replace(training, phase="validate", step=8, steps=9, rate=1.0, left=1.0)) == pytest.approx(before)
    assert seen(replace(training, phase="train", rate=None, left=None)) == pytest.approx(before)
    assert seen(replace(training, step=600, left=40.0, elapsed=60.0)) <= before


def test_a_resumed_pretraining_counts_as_long_as_a_whole_one_for_the_others() -> None:
    resumed = Row("pretrain-a", State.RUNNING, "train", 900, 1000, 10.0, left=10.0, elapsed=35.0)
    assert left(resumed) == bounds(10.0 + 100.0, 0.1 * (2 * 90.0 + 2 * 400.0))


def test_the_rate_of_one_phase_of_another_stage_is_no_measurement() -> None:
    """Its phases take different times, like the embedding and the trials of a fine-tuning."""
    done = [complete("pretrain-a", 100.0), complete("probe-a", 10.0)]
    running = Row("finetune-a", State.RUNNING, "embed", 5, 10, 5.0, left=1.0, elapsed=0.0)
    assert left(*done, running) == pytest.approx(left(*done))


# Seconds of the stages of two studies on two cores, measured; the means of pretrainings.
QUICK = {
    REPORT: 22,
    "pretrain": 110,
    "probe": 1,
    "finetune": 150,
    "few_labels": 142,
    "width": 39,
    "embed": 0.6,
    "corruptions": 2,
}
DEMO = {
    REPORT: 13,
    "ood": 0.7,
    "pretrain": 55,
    "probe": 6,
    "finetune": 13,
    "few_labels": 23,
    "width": 8,
    "embed": 4,
    "corruptions": 1.5,
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "seconds"), [("photos-quick", QUICK), ("demo", DEMO)])
def test_the_estimate_holds_for_measured_studies(name: str, seconds: dict[str, float], tmp_path: Path) -> None:
    """At each moment of their course, as the starting order gives it, once a pretraining is measured."""
    study = load_config([f"study={name}", "stage=probe", "source=random", "run_dir=-", "data.root=-"]).study
    jobs = plan(study, runs=Path("-"), reports=Path("-"), data_root="-", ood="ood" in seconds)
    spans = course(jobs, seconds)
    root = "synthetic" if name == "demo" else str(photographs(tmp_path))
    estimate, end = TimeLeft(jobs, 2, workloads(jobs, root)), max(last for _, last in spans.values())
    moments = range(round(seconds["pretrain"]) + 1, round(end) - 30)
    assert len(moments) > 100
    for now in moments:
        found = estimate([row(job, *spans[job.name], now) for job in jobs])
        assert found is not None
        low, high = found
        assert 0.75 * low - 30 <= end - now <= 1.35 * high + 30, (now, low, end - now, high)


def course(jobs: list[Job], seconds: dict[str, float]) -> dict[str, tuple[float, float]]:
    """When each job begins and ends on two slots."""
    spans: dict[str, tuple[float, float]] = {}
    free, waiting = [0.0, 0.0], starting_order(jobs)
    while waiting:
        slot = min((0, 1), key=lambda number: free[number])
        ready = [job for job in waiting if all(spans.get(p, (0, 1e9))[1] <= free[slot] for p in job.parents)]
        if not ready:
            free[slot] = min(last for _, last in spans.values() if last > free[slot])
            continue
        waiting.remove(ready[0])
        spans[ready[0].name] = (free[slot], free[slot] + seconds[ready[0].stage])
        free[slot] += seconds[ready[0].stage]
    return spans


def row(job: Job, begin: float, end: float, now: float) -> Row:
    if now >= end:
        return complete(job.name, end - begin)
    return Row(job.name, State.RUNNING, elapsed=now - begin) if now >= begin else Row(job.name, State.PENDING)
