"""Cancelling a study that runs on this machine."""

import os
from pathlib import Path

import pytest

from jobs.__main__ import main
from jobs.study_lock import write_lock_holder


def failing_kill(monkeypatch: pytest.MonkeyPatch, error: OSError) -> None:
    def fail(pid: int, number: int) -> None:
        raise error

    monkeypatch.setattr(os, "kill", fail)


def test_the_runner_of_another_user_can_not_be_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "demo").mkdir()
    write_lock_holder(tmp_path / "demo")
    failing_kill(monkeypatch, PermissionError(1, "Operation not permitted"))
    assert main(["cancel", "demo", "--runs", str(tmp_path)]) == 2
    assert capsys.readouterr().err == (
        f"the runner of study demo, process {os.getpid()}, belongs to another user: ask that user to cancel it\n"
    )


def test_a_runner_that_has_just_ended_needs_no_cancelling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "demo").mkdir()
    write_lock_holder(tmp_path / "demo")
    failing_kill(monkeypatch, ProcessLookupError(3, "No such process"))
    assert main(["cancel", "demo", "--runs", str(tmp_path)]) == 0
    assert capsys.readouterr().out == "study demo is not being run on this machine: nothing to cancel\n"
