"""The estimated time that a study still needs."""

from dataclasses import replace
from pathlib import Path

import pytest

from jobs.ledger import REPORT, State
from jobs.local.estimate import TimeLeft
from jobs.plan.graph import Job
from jobs.status.states import Row
from ssl_pkg.catalogue import STAGES

PARENTS = {"probe-a": "pretrain-a", "finetune-a": "pretrain-a", "probe-b": "pretrain-b", "finetune-b": "pretrain-b"}
NAMES = ("pretrain-a", "probe-a", "finetune-a", "pretrain-b", "probe-b", "finetune-b")
JOBS = [
    *(Job(name, name.partition("-")[0], (), tuple(filter(None, [PARENTS.get(name)])), Path(name)) for name in NAMES),
    Job(REPORT, REPORT, (), NAMES, Path(REPORT)),
]
PENDING = {name: Row(name, State.PENDING) for name in (*NAMES, REPORT)}


def complete(name: str, seconds: float) -> Row:
    return Row(name, State.COMPLETE, elapsed=seconds)


def left(*rows: Row, slots: int = 1) -> float | None:
    """The estimate where all runs but these are pending."""
    return TimeLeft(JOBS, slots)([*(PENDING | {row.name: row for row in rows}).values()])


def test_there_is_no_estimate_before_a_run_of_the_costliest_missing_stage_is_measured() -> None:
    assert left() is None
    assert left(complete("probe-b", 5.0)) is None
    training = Row("pretrain-a", State.RUNNING, "train", 0, 1000, elapsed=9.0)
    assert left(training) is None
    assert left(replace(training, step=100, rate=10.0, left=90.0)) is not None
    assert left(*(complete(name, 1.0) for name in PENDING)) is None


def test_on_one_slot_the_estimate_is_the_sum_of_the_durations_of_each_stage() -> None:
    done = [complete("pretrain-a", 100.0), complete("probe-a", 10.0), complete("finetune-a", 50.0)]
    unit = (100 + 10 + 50) / (STAGES["pretrain"].cost + STAGES["probe"].cost + STAGES["finetune"].cost)
    assert left(*done) == pytest.approx(100 + 10 + 50 + unit)
    running = Row("pretrain-b", State.RUNNING, "validate", 3, 9, elapsed=30.0)
    assert left(*done, running) == pytest.approx(70 + 10 + 50 + unit)
    late = replace(running, elapsed=130.0)
    assert left(*done, late) == pytest.approx(0 + 10 + 50 + unit)


def test_a_stage_without_a_measured_run_takes_as_long_as_its_cost_says() -> None:
    unit = 160.0 / STAGES["pretrain"].cost
    rest = 160.0 + 2 * unit * (STAGES["probe"].cost + STAGES["finetune"].cost) + unit
    assert left(complete("pretrain-a", 160.0)) == pytest.approx(rest)


def test_with_many_slots_the_longest_chain_is_left() -> None:
    done = [complete("pretrain-a", 100.0), complete("probe-a", 10.0), complete("finetune-a", 50.0)]
    unit = 160.0 / (STAGES["pretrain"].cost + STAGES["probe"].cost + STAGES["finetune"].cost)
    assert left(*done, slots=8) == pytest.approx(100 + 50 + unit)


def test_a_failed_run_and_its_descendants_take_no_more_time() -> None:
    done = [complete("pretrain-a", 100.0), complete("probe-a", 10.0), complete("finetune-a", 50.0)]
    failed = [Row("pretrain-b", State.FAILED), Row("probe-b", State.BLOCKED), Row("finetune-b", State.BLOCKED)]
    assert left(*done, *failed) == pytest.approx(
        160.0 / sum(STAGES[name].cost for name in ("pretrain", "probe", "finetune"))
    )


def test_the_steps_of_a_validation_do_not_change_the_estimate() -> None:
    estimate = TimeLeft(JOBS, 8)

    def seen(row: Row) -> float:
        found = estimate([*(PENDING | {row.name: row}).values()])
        assert found is not None
        return found

    training = Row("pretrain-a", State.RUNNING, "train", 500, 1000, 10.0, left=50.0, elapsed=50.0)
    before = seen(training)
    assert seen(replace(training, phase="validate", step=1, steps=9, rate=1.0, left=8.0)) == pytest.approx(before)
    assert seen(replace(training, phase="train", rate=None, left=None)) == pytest.approx(before)
    assert seen(replace(training, step=600, left=40.0, elapsed=60.0)) <= before


def test_the_rate_of_one_phase_of_another_stage_is_no_measurement() -> None:
    """Its phases take different times, like the embedding and the trials of a fine-tuning."""
    done = [complete("pretrain-a", 100.0), complete("probe-a", 10.0)]
    before = left(*done)
    running = Row("finetune-a", State.RUNNING, "embed", 5, 10, 5.0, left=1.0, elapsed=0.0)
    assert left(*done, running) == pytest.approx(before)
