"""A study whose cluster can't be reached from this machine: gone, or at the site from which the study was copied."""

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from jobs.__main__ import main
from jobs.cluster.batches import Batch
from jobs.cluster.profile import Profile
from jobs.cluster.submit import Submission
from jobs.ledger import Entry, State, write_ledger
from jobs.local.study import _refuse_queued
from jobs.plan.graph import Job
from jobs.programs import Programs
from ssl_pkg.errors import BadInput
from ssl_pkg.run.directory import write_json

SENT = Batch("0123456789ab", "oldcluster", ("a",), (), number="7", made=time.time() - 900)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study that was sent to a cluster whose slurm.conf is not there, on a machine without SLURM."""
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = tmp_path / "runs" / "small"
    folder.mkdir(parents=True)
    replace(SENT, conf="/etc/oldcluster/slurm.conf").write(folder)
    return folder


def beats(folder: Path, seconds_ago: float) -> None:
    (folder / "a").mkdir()
    write_json(folder / "a" / "status", {"heartbeat": time.time() - seconds_ago})


@pytest.mark.parametrize(
    ("conf", "why"),
    [
        ("/etc/oldcluster/slurm.conf", "whose slurm.conf (/etc/oldcluster/slurm.conf) is not there"),
        ("", "and this machine has no SLURM"),
    ],
)
def test_a_study_on_this_machine_takes_over_from_a_cluster_that_is_no_more(
    study: Path, capsys: pytest.CaptureFixture[str], conf: str, why: str
) -> None:
    replace(SENT, conf=conf).write(study)
    beats(study, seconds_ago=3600)
    _refuse_queued(study)
    assert f"study small was sent to oldcluster, {why}: none of its runs" in capsys.readouterr().err


def test_submit_takes_over_by_the_same_rule(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is complete, so that the new cluster needs not be asked."""
    (tmp_path / "new.conf").touch()
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "new.conf"))
    (study / "b").mkdir()
    write_json(study / "b" / "result.json", {})
    job = Job("b", "probe", (), (), study / "b")
    profile = Profile(name="new", cpus=1, minutes=10)
    submission = Submission([job], study, profile, data_root="synthetic", programs=Programs())
    assert submission.submit().complete == ["b"]
    assert "study small was sent to oldcluster" in capsys.readouterr().err
    beats(study, seconds_ago=5)
    with pytest.raises(BadInput, match=r"a was sent to oldcluster.* is at work there"):
        submission.submit()


def test_a_run_that_is_alive_there_is_not_taken_over(study: Path) -> None:
    beats(study, seconds_ago=5)
    with pytest.raises(BadInput, match=r"a was sent to oldcluster, whose slurm.conf .* and is at work there"):
        _refuse_queued(study)


def test_a_run_that_was_started_on_this_machine_since_is_no_sign_of_life_there(study: Path) -> None:
    beats(study, seconds_ago=5)
    write_ledger(study, {"a": Entry(State.INTERRUPTED, started=time.time() - 20)})
    _refuse_queued(study)


def test_a_cluster_that_does_not_answer_is_named_with_the_remedy(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\necho Unable to contact slurm controller >&2\nexit 1\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    replace(SENT, conf="").write(study)
    with pytest.raises(BadInput, match=r"sent to oldcluster, which does not answer .*no more, remove .*/.jobs/slurm"):
        _refuse_queued(study)


def test_cancel_has_nothing_to_do_where_the_cluster_is_no_more(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cancel", "small", "--runs", str(study.parent)]) == 0
    assert "nothing of study small is in the cluster's queue" in capsys.readouterr().out
