"""SLURM's limits on arrays and on the number of a user's jobs."""

import pytest

from jobs.cluster.limits import SubmitLimit, calls_needed, describe_limit, limit_reached, max_array_tasks


@pytest.mark.parametrize(
    ("config", "tasks"),
    [
        ({}, 1000),
        ({"MaxArraySize": "1001"}, 1001),  # task numbers from 0 to 1000
        ({"MaxArraySize": "0"}, 1),  # no arrays
        ({"MaxArraySize": "1001", "SchedulerParameters": "bf_continue,max_array_tasks=50"}, 50),
        ({"MaxArraySize": "20", "SchedulerParameters": "max_array_tasks=50"}, 20),
    ],
)
def test_an_array_has_at_most_as_many_tasks_as_both_settings_allow(config: dict[str, str], tasks: int) -> None:
    assert max_array_tasks(config) == tasks


@pytest.mark.parametrize(("runs", "calls"), [(1, 1), (5, 1), (6, 2), (10, 2), (11, 3)])
def test_the_last_call_submits_the_rest(runs: int, calls: int) -> None:
    assert calls_needed(SubmitLimit("QOS normal", 5), runs) == calls


@pytest.mark.parametrize(
    ("error", "limit"),
    [
        ("Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)", ""),
        ("QOSMaxSubmitJobPerUserLimit; Job violates accounting/QOS policy", "QOSMaxSubmitJobPerUserLimit"),
        ("AssocGrpSubmitJobsLimit; Job violates accounting/QOS policy", "AssocGrpSubmitJobsLimit"),
        ("QOSMaxWallDurationPerJobLimit; Job violates accounting/QOS policy", None),  # waiting would not help
        ("invalid partition specified: nowhere", None),
    ],
)
def test_only_limits_on_the_number_of_jobs_end_by_waiting(error: str, limit: str | None) -> None:
    assert limit_reached(f"sbatch: error: {error}") == limit


def test_the_limit_of_the_account_is_not_taken_for_that_of_the_qos() -> None:
    limits = [SubmitLimit("QOS normal", 5), SubmitLimit("account physics", 8)]
    assert describe_limit(limits, "AssocGrpSubmitJobsLimit") == "account physics allows 8 at once"
    assert describe_limit(limits, "QOSMaxSubmitJobPerUserLimit") == "QOS normal allows 5 at once"
    assert describe_limit(limits[::-1], "") == "account physics allows 8 at once"
    assert describe_limit([], "").startswith("SLURM's limit on your jobs is reached")
