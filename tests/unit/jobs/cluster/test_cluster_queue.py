"""Which jobs are queued and which are cancelled, on which cluster.

Some tests have scripts in place of SLURM's commands (conftest.py). Others have a cluster that this machine can't reach.
"""

import json
import os
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from jobs.__main__ import main
from jobs.cluster.batches import Batch, read_batches
from jobs.cluster.job_queries import cancel_jobs
from jobs.cluster.profile import Profile
from jobs.cluster.queue import cancel_orphans
from jobs.cluster.slurm_cli import SlurmError
from jobs.cluster.submit import Submission
from jobs.ledger import Entry, State, read_ledger, write_ledger
from jobs.local.study import _refuse_queued
from jobs.plan.graph import Job
from jobs.programs import Programs
from jobs.status.states import read_status
from ssl_pkg.errors import BadInput
from ssl_pkg.run.directory import write_json


def submitted(
    folder: Path, token: str, number: str | None, *names: str, age: float = 5.0, cluster: str = "test"
) -> Batch:
    batch = replace(Batch.new(cluster, names), token=token, number=number, made=time.time() - age)
    batch.write(folder)
    (folder / ".jobs" / "slurm" / token).mkdir()
    return batch


def test_a_dependency_that_an_earlier_version_wrote_as_a_list_is_read(folder: Path) -> None:
    batch = replace(submitted(folder, "aaa", "7", "a"), after="afterok:6")
    for written in ("afterok:6", ["afterok:6"]):
        write_json(batch.file(folder), asdict(batch) | {"after": written, "folder": str(folder)})
        assert read_batches(folder) == [replace(batch, folder=str(folder))]


def test_status_and_cancel_ask_the_cluster_to_which_the_study_was_submitted(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    submitted(folder, "aaa", "7", "a")
    write_ledger(folder, {"a": Entry()})
    jobs, other = tmp_path / "one.conf", tmp_path / "two.conf"
    jobs.write_text("7 aaa\n")
    other.write_text("")
    monkeypatch.setenv("SLURM_CONF", str(other))
    assert [(row.state, row.note) for row in read_status(folder)[0]] == [(State.PENDING, None)]
    assert main(["cancel", "small", "--runs", str(folder.parent)]) == 0
    assert "1 job of study small is cancelled" in capsys.readouterr().out
    assert jobs.read_text() == ""


def test_a_cancel_that_slurm_refuses_fails(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    submitted(folder, "aaa", "7", "a")
    (tmp_path / "one.conf").write_text("7 aaa\n")
    (tmp_path / "bin" / "scancel").write_text("#!/bin/sh\necho Access denied >&2\nexit 1\n")
    assert main(["cancel", "small", "--runs", str(folder.parent)]) == 2
    assert "SLURM answers with an error: Access denied" in capsys.readouterr().err


def test_an_unknown_job_does_not_hide_that_slurm_refuses_another(folder: Path, tmp_path: Path) -> None:
    scancel, line = tmp_path / "bin" / "scancel", "scancel: error: Kill job error on job id"
    unknown, denied = f"{line} 7: Invalid job id specified", f"{line} 8: Access/permission denied"
    scancel.write_text(f"#!/bin/sh\nprintf '%s\\n' '{unknown}' >&2\nexit 1\n")
    cancel_jobs(["7", "8"])
    scancel.write_text(f"#!/bin/sh\nprintf '%s\\n' '{denied}' '{unknown}' >&2\nexit 1\n")
    with pytest.raises(SlurmError, match=denied):
        cancel_jobs(["7", "8"])
    scancel.write_text("#!/bin/sh\nexit 3\n")
    with pytest.raises(SlurmError, match="scancel ended with status 3"):
        cancel_jobs(["7", "8"])


def test_a_second_job_of_a_batch_is_cancelled(folder: Path, tmp_path: Path) -> None:
    """A site's wrapper calls sbatch twice."""
    submitted(folder, "aaa", "7", "a")
    submitted(folder, "bbb", "9", "b", "c")
    (tmp_path / "one.conf").write_text("7 aaa\n8 aaa\n9_0 bbb\n9_1 bbb\n10_0 bbb\n10_1 bbb\n11 other\n")
    assert cancel_orphans(folder, read_batches(folder)) == {"8": "aaa", "10_0": "bbb", "10_1": "bbb"}
    assert (tmp_path / "one.conf").read_text() == "7 aaa\n9_0 bbb\n9_1 bbb\n11 other\n"


def test_the_job_of_a_killed_submit_is_cancelled_and_can_not_run(folder: Path, tmp_path: Path) -> None:
    submitted(folder, "aaa", None, "a")
    assert cancel_orphans(folder, read_batches(folder)) == {}
    assert not (folder / ".jobs" / "slurm" / "aaa").exists(), (
        "sbatch can't read the script, and the job's output has no folder"
    )
    (tmp_path / "one.conf").write_text("7 aaa\n")
    assert cancel_orphans(folder, read_batches(folder)) == {"7": "aaa"}
    submitted(folder, "old", None, "b", age=900)
    cancel_orphans(folder, read_batches(folder))
    assert [batch.token for batch in read_batches(folder)] == ["aaa"]


def test_cancel_in_a_copy_reaches_the_jobs_of_an_original_that_was_deleted(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = submitted(folder, "aaa", "7", "a", "b", age=60)
    file = folder / ".jobs" / "slurm" / "aaa.json"
    write_json(file, json.loads(file.read_text()) | {"folder": str(tmp_path / "original")})
    submitted(folder, "bbb", "9", "a")
    assert batch.token in {each.token for each in read_batches(folder)}
    (tmp_path / "one.conf").write_text("7_0 aaa\n7_1 aaa\n9 bbb\n")
    assert main(["cancel", "small", "--runs", str(folder.parent)]) == 0
    assert (tmp_path / "one.conf").read_text() == ""
    assert "3 jobs of study small are cancelled" in capsys.readouterr().out


@pytest.fixture
def two_clusters(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study with a job on `old`, whose controller does not answer, and one on `new`, the environment's cluster."""
    squeue = tmp_path / "bin" / "squeue"
    dead = 'case "$SLURM_CONF" in *old.conf) echo "Unable to contact slurm controller" >&2; exit 1 ;; esac'
    squeue.write_text(squeue.read_text().replace("#!/bin/sh\n", f"#!/bin/sh\n{dead}\n"))
    for cluster, token, job_id, name in (("old", "aaa", "3", "a"), ("new", "bbb", "7", "b")):
        conf = tmp_path / f"{cluster}.conf"
        conf.write_text(f"{job_id} {token}\n")
        monkeypatch.setenv("SLURM_CONF", str(conf))
        submitted(folder, token, job_id, name, cluster=cluster)
    return folder


def advice(folder: Path, again: str) -> str:
    return (
        f"SLURM does not respond (Unable to contact slurm controller): {again} again when it does, or, if that cluster "
        f"no longer exists, remove its batches by `rm {folder}/.jobs/slurm/aaa.json`"
    )


def test_submit_names_another_cluster_that_does_not_respond_and_how_to_forget_it(two_clusters: Path) -> None:
    job, profile = Job("b", "probe", (), (), two_clusters / "b", seed=0), Profile(name="new", cpus=1, minutes=10)
    submission = Submission([job], two_clusters, profile, data_root="synthetic", programs=Programs())
    with pytest.raises(BadInput) as raised:
        submission.submit()
    beginning = "the queue of old, to which study small was submitted, can't be read. "
    assert str(raised.value) == f"{beginning}{advice(two_clusters, 'try')}"
    (two_clusters / ".jobs" / "slurm" / "aaa.json").unlink()
    assert submission.submit().queued == ["b"]


def test_cancel_also_reaches_the_other_clusters_if_one_does_not_respond(
    two_clusters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("SLURM_CONF")
    assert main(["cancel", "small", "--runs", str(two_clusters.parent)]) == 2
    rest = f"jobs of study small on old may still be in the queue. {advice(two_clusters, 'cancel')}"
    assert capsys.readouterr().err == f"1 job is cancelled; {rest}\n"
    assert (tmp_path / "new.conf").read_text() == ""
    (tmp_path / "new.conf").write_text("7 bbb\n")
    (tmp_path / "old.conf").unlink()
    assert main(["cancel", "small", "--runs", str(two_clusters.parent)]) == 0
    out, err = capsys.readouterr()
    assert "1 job of study small is cancelled" in out
    why = f"whose slurm.conf ({tmp_path}/old.conf) does not exist"
    assert err == f"study small was also submitted to old, {why}: its jobs there are not cancelled\n"


SUBMITTED = Batch("0123456789ab", "oldcluster", ("a",), number="7", made=time.time() - 900)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study that was submitted to a cluster whose slurm.conf does not exist, on a machine without SLURM."""
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    folder = tmp_path / "runs" / "small"
    folder.mkdir(parents=True)
    replace(SUBMITTED, conf="/etc/oldcluster/slurm.conf").write(folder)
    return folder


def write_heartbeat(folder: Path, seconds_ago: float) -> None:
    (folder / "a").mkdir()
    write_json(folder / "a" / "status", {"heartbeat": time.time() - seconds_ago})


@pytest.mark.parametrize(
    ("conf", "why"),
    [
        ("/etc/oldcluster/slurm.conf", "whose slurm.conf (/etc/oldcluster/slurm.conf) does not exist"),
        ("", "and this machine has no SLURM"),
    ],
)
def test_runs_of_an_unreachable_cluster_count_as_ended_on_this_machine(
    study: Path, capsys: pytest.CaptureFixture[str], conf: str, why: str
) -> None:
    replace(SUBMITTED, conf=conf).write(study)
    write_heartbeat(study, seconds_ago=3600)
    _refuse_queued(study)
    assert f"study small was submitted to oldcluster, {why}: its incomplete runs" in capsys.readouterr().err


def test_runs_of_an_unreachable_cluster_count_as_ended_for_submit(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is complete, so that `submit` does not ask the new cluster."""
    (tmp_path / "new.conf").touch()
    monkeypatch.setenv("SLURM_CONF", str(tmp_path / "new.conf"))
    (study / "b").mkdir()
    write_json(study / "b" / "result.json", {})
    job = Job("b", "probe", (), (), study / "b", seed=0)
    profile = Profile(name="new", cpus=1, minutes=10)
    submission = Submission([job], study, profile, data_root="synthetic", programs=Programs())
    assert submission.submit().complete == ["b"]
    assert "study small was submitted to oldcluster" in capsys.readouterr().err
    write_heartbeat(study, seconds_ago=5)
    with pytest.raises(BadInput, match=r"a was submitted to oldcluster.* is still running"):
        submission.submit()


def test_a_run_with_a_heartbeat_on_an_unreachable_cluster_is_an_error(study: Path) -> None:
    write_heartbeat(study, seconds_ago=5)
    with pytest.raises(BadInput, match=r"a was submitted to oldcluster, whose slurm.conf .* and is still running"):
        _refuse_queued(study)


def test_the_heartbeat_of_a_run_that_was_since_started_here_does_not_count(study: Path) -> None:
    write_heartbeat(study, seconds_ago=5)
    write_ledger(study, {"a": Entry(State.INTERRUPTED, started=time.time() - 20)})
    _refuse_queued(study)


def test_the_error_names_a_cluster_that_does_not_respond_and_the_remedy(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    squeue = tmp_path / "squeue"
    squeue.write_text("#!/bin/sh\necho Unable to contact slurm controller >&2\nexit 1\n")
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.defpath}")
    replace(SUBMITTED, conf="").write(study)
    with pytest.raises(
        BadInput, match=r"queue of oldcluster.* SLURM does not respond .*no longer exists, remove .*/.jobs/slurm/0123"
    ):
        _refuse_queued(study)


def test_cancel_refuses_an_unreachable_cluster_on_which_jobs_may_be_queued(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cancel", "small", "--runs", str(study.parent)]) == 2
    said = "study small was submitted to oldcluster, whose slurm.conf (/etc/oldcluster/slurm.conf) does not exist: "
    remedy = "cancel it on a machine that reaches that cluster; if that cluster no longer exists, no job is left"
    assert capsys.readouterr() == ("", f"{said}{remedy}\n")
    (study / "a").mkdir()
    write_json(study / "a" / "result.json", {})
    assert main(["cancel", "small", "--runs", str(study.parent)]) == 0
    assert "no job of study small is in the cluster's queue" in capsys.readouterr().out


def test_cancel_changes_the_states_of_queued_runs_only(folder: Path, tmp_path: Path) -> None:
    """Job 9 has ended."""
    submitted(folder, "aaa", "7", "a")
    submitted(folder, "bbb", "9", "b")
    failed = Entry(State.FAILED, started=1.0, ended=2.0, exit_status=1)
    write_ledger(folder, {"a": Entry(started=3.0), "b": failed, "report": Entry()})
    (tmp_path / "one.conf").write_text("7 aaa\n")
    assert main(["cancel", "small", "--runs", str(folder.parent)]) == 0
    assert read_ledger(folder) == {"a": Entry(State.CANCELLED, started=3.0), "b": failed, "report": Entry()}
