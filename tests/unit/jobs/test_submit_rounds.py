"""The rounds of `submit --wait`, with a stub for the submission."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import jobs.submit_rounds
from jobs.cluster.slurm_cli import SchedulerUnavailable
from jobs.cluster.submit import SubmissionSummary
from jobs.ledger import State
from jobs.plan.graph import Job
from jobs.status.states import Row
from jobs.submit_rounds import submit_rounds

JOBS = [Job(name, "pretrain", (), (), Path(name)) for name in ("a", "b")]
LIMIT = "QOS normal allows 1 at once"


def rounds(
    monkeypatch: pytest.MonkeyPatch,
    summaries: Sequence[SubmissionSummary | SchedulerUnavailable],
    states: list[dict[str, State]],
    plan: list[Job] = JOBS,
) -> tuple[int, list[dict[str, Any]]]:
    """The exit status, and the arguments of each submission. states: of the runs after each round."""
    calls: list[dict[str, Any]] = []

    class Stub:
        def submit(self, **arguments: Any) -> SubmissionSummary:
            calls.append(arguments)
            answer = summaries[len(calls) - 1]
            if isinstance(answer, SchedulerUnavailable):
                raise answer
            return answer

    def rows(folder: Path) -> list[Row]:
        return [Row(name, state) for name, state in states[len(calls) - 1].items()]

    monkeypatch.setattr(jobs.submit_rounds, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(jobs.submit_rounds, "follow", rows)
    monkeypatch.setattr(jobs.submit_rounds, "read_rows", rows)
    stub: Any = Stub()
    return submit_rounds(stub, plan, Path("runs/demo"), "mine", wait=True, resume_command="again"), calls


def test_a_run_that_was_cancelled_before_this_call_and_left_by_a_limit_is_submitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    summaries = [
        SubmissionSummary(submitted=["a"], unsubmitted=["b"], limit=LIMIT),
        SubmissionSummary(submitted=["b"], complete=["a"]),
    ]
    states = [{"a": State.COMPLETE, "b": before} for before in (State.CANCELLED, State.COMPLETE)]
    status, calls = rounds(monkeypatch, summaries, states)
    assert (status, [call["skip"] for call in calls]) == (0, [set(), set()])
    assert [call["first"] for call in calls] == [True, False]


def test_the_cause_is_the_cancel_and_not_the_limit(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    summaries = [
        SubmissionSummary(submitted=["a"], unsubmitted=["b"], limit=LIMIT),
        SubmissionSummary(cancelled=True),
    ]
    states = [{"a": State.CANCELLED, "b": State.PENDING}] * 2
    status, _ = rounds(monkeypatch, summaries, states)
    assert status == 75
    printed = capsys.readouterr().out
    assert "\n1 run was not submitted, because the study was cancelled\n" in printed
    assert "0 runs submitted" not in printed


def test_an_outage_between_two_rounds_does_not_end_the_wait(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outage = SchedulerUnavailable("Unable to contact slurm controller")
    first = SubmissionSummary(submitted=["a"], unsubmitted=["b"], limit=LIMIT)
    last = SubmissionSummary(submitted=["b"], complete=["a"])
    states = [{"a": State.COMPLETE, "b": State.COMPLETE}] * 4
    status, calls = rounds(monkeypatch, [first, outage, outage, last], states)
    assert (status, [call["first"] for call in calls]) == (0, [True, False, False, False])
    said = "SLURM does not respond (Unable to contact slurm controller): trying again every 0 s\n"
    assert capsys.readouterr().err == said


def test_a_limit_of_no_jobs_ends_the_wait(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    none = SubmissionSummary(unsubmitted=["a", "b"], limit="QOS normal allows 0 at once", none_allowed=True)
    status, calls = rounds(monkeypatch, [none], [{"a": State.PENDING, "b": State.PENDING}])
    assert (status, len(calls)) == (75, 1)
    printed = capsys.readouterr().out
    assert "submitted 0 of 2 jobs; QOS normal allows 0 at once\n" in printed
    assert "2 runs were not submitted, because QOS normal allows 0 at once" in printed


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (State.FAILED, "which failed"),
        (State.INTERRUPTED, "which was interrupted"),  # by a dead node or the time limit
        (State.CANCELLED, "which was cancelled"),
    ],
)
def test_the_run_that_failed_is_named_and_not_those_that_slurm_cancelled_because_of_it(
    state: State, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cause = Job("finetune", "finetune", (), (), Path("finetune"))
    plan = [cause, *(Job(name, "ood", (), ("finetune",), Path(name)) for name in ("corruptions", "width"))]
    summaries = [
        SubmissionSummary(submitted=["finetune", "corruptions"], unsubmitted=["width"], limit=LIMIT),
        SubmissionSummary(unsubmitted=["width"], limit=LIMIT, none_allowed=True),
    ]
    states = [{"finetune": state, "corruptions": State.CANCELLED, "width": State.PENDING}] * 2
    status, calls = rounds(monkeypatch, summaries, states, plan)
    assert [call["skip"] for call in calls] == [set(), {job.name for job in plan}]
    assert status == (1 if state is State.FAILED else 75)
    printed = capsys.readouterr().out
    assert f"\n1 run was not submitted, because it needs finetune, {words}\n" in printed
