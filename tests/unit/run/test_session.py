import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssl_pkg.config.compose import load_config
from ssl_pkg.errors import BadInput, Busy, Done
from ssl_pkg.hardware.prepare import Hardware
from ssl_pkg.run.checkpoint import load_checkpoint, save_checkpoint
from ssl_pkg.run.directory import RunDirectory, metrics_sha256, write_json
from ssl_pkg.run.session import Session
from ssl_pkg.run.signals import InterruptFlag

DATA: dict[str, Any] = {"name": "stand-in", "root": "-", "files": {}}
CPU = Hardware(torch.device("cpu"), torch.float32, threads=1, compiles=False)
LINE = {"epoch": 1.0, "phase": "train", "seconds": 0.0, "lr": 0.1, "loss": 2.5}


def session(folder: Path) -> Session:
    line = ["stage=pretrain", "method=simclr", "budget=tiny", f"run_dir={folder}"]
    return Session(load_config(line), CPU, InterruptFlag(), DATA)


def make_step(folder: Path, step: int, *, save: bool = True) -> dict[str, Any]:
    """Starts or resumes the run for one step. Returns its provenance."""
    with session(folder) as started:
        started.log(LINE | {"step": step})
        if save:
            started.save(step, {"step": step})
    provenance = RunDirectory(folder).provenance()
    assert provenance is not None
    return provenance


def test_a_resume_with_other_code_or_another_cpu_is_reported_and_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ssl_pkg.run.provenance.commit_at_start", lambda: "aaaa")
    first = make_step(tmp_path / "run", 1)
    assert first["starts"] == [{key: value for key, value in first.items() if key not in ("data", "resumes", "starts")}]
    assert make_step(tmp_path / "run", 2) == first | {"resumes": 1}
    assert "resumes with" not in capsys.readouterr().err

    monkeypatch.setattr("ssl_pkg.run.provenance.commit_at_start", lambda: "bbbb")
    monkeypatch.setattr("ssl_pkg.hardware.prepare.name_of", lambda device: "Z80")
    second = make_step(tmp_path / "run", 3)
    stderr = capsys.readouterr().err
    cpu = first["hardware"]["name"]
    assert stderr.count("resumes with") == 1
    assert f"run: resumes with commit bbbb instead of aaaa, name Z80 instead of {cpu}: the result may not be" in stderr
    assert (second["commit"], second["hardware"]["name"]) == ("bbbb", "Z80")
    assert [start["commit"] for start in second["starts"]] == ["aaaa", "bbbb"]

    monkeypatch.setattr("ssl_pkg.run.provenance.commit_at_start", lambda: "aaaa")
    monkeypatch.setattr("ssl_pkg.hardware.prepare.name_of", lambda device: cpu)
    third = make_step(tmp_path / "run", 4)
    assert [start["commit"] for start in third["starts"]] == ["bbbb", "aaaa"]
    assert "commit aaaa instead of bbbb" in capsys.readouterr().err


@pytest.mark.slow
def test_the_resumes_of_a_run_are_counted_over_all_its_starts(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    resumes = [make_step(folder, step, save=step > 1)["resumes"] for step in (1, 1, 2, 3)]
    assert resumes == [0, 0, 0, 1]  # the second and the third start found no checkpoint
    content = RunDirectory(folder).provenance() or {}
    write_json(folder / "provenance.json", content | {"resumes": "many"})
    assert make_step(folder, 4)["resumes"] == 1
    assert make_step(folder, 5)["resumes"] == 2


def test_a_start_that_left_no_checkpoint_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("ssl_pkg.run.provenance.commit_at_start", lambda: "aaaa")
    make_step(tmp_path / "run", 1, save=False)
    monkeypatch.setattr("ssl_pkg.run.provenance.commit_at_start", lambda: "bbbb")
    assert [start["commit"] for start in make_step(tmp_path / "run", 1)["starts"]] == ["bbbb"]
    assert "resumes with" not in capsys.readouterr().err


def test_a_run_reports_the_step_that_it_resumes_from_or_that_it_starts_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def earlier_seconds() -> float:
        return float((RunDirectory(tmp_path / "run").status() or {})["earlier_seconds"])

    make_step(tmp_path / "run", 1)
    assert earlier_seconds() == 0
    stderr = capsys.readouterr().err
    assert "resumes" not in stderr and "starts again" not in stderr
    make_step(tmp_path / "run", 2)
    assert "run: resumes from the checkpoint of step 1\n" in capsys.readouterr().err
    assert earlier_seconds() > 0
    newest = tmp_path / "run" / "checkpoints" / "step-000000002.ckpt"
    newest.write_bytes(newest.read_bytes()[:-1])
    make_step(tmp_path / "run", 2)
    stderr = capsys.readouterr().err
    assert f"{newest} is damaged (its checksum does not match): skipped\n" in stderr
    assert "run: resumes from the checkpoint of step 1\n" in stderr
    for file in newest.parent.glob("*.ckpt"):
        file.write_bytes(b"")
    make_step(tmp_path / "run", 1)
    assert (
        "run: none of the run's checkpoints is intact: the run starts again from the beginning\n"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("damage", ["", "[]", '{"starts": 1}', '{"starts": [{"commit": NaN}]}', '{"starts": [[]]}'])
def test_a_damaged_provenance_is_written_again(tmp_path: Path, damage: str) -> None:
    first = make_step(tmp_path / "run", 1)
    (tmp_path / "run/provenance.json").write_text(damage)
    assert make_step(tmp_path / "run", 2) == first | {"resumes": 1}


def test_the_time_of_earlier_starts_counts_in_the_checkpoint_and_the_result(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    make_step(folder, 1)
    digest = metrics_sha256(RunDirectory(folder).metrics())
    save_checkpoint(folder / "checkpoints", 1, {"metrics_step": 1, "metrics_sha256": digest, "seconds": 5000.0})
    make_step(folder, 2)
    content = load_checkpoint(folder / "checkpoints")
    assert content is not None
    assert 5000 < content["seconds"] < 6000
    with session(folder) as started:
        started.finish(method="simclr", adaptation=None, classes=["cat"], resolution=32, rows=[])
    assert content["seconds"] < (RunDirectory(folder).result() or {})["seconds"] < 6000


def test_a_run_that_another_process_has_just_completed_is_not_changed(tmp_path: Path) -> None:
    make_step(tmp_path / "run", 1)
    (tmp_path / "run/result.json").write_text("{}")
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*") if file.is_file()}
    with pytest.raises(Done), session(tmp_path / "run"):
        pass
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*") if file.is_file()} == before


def test_all_metrics_are_in_their_files_before_the_run_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []

    def look(path: Path, content: dict[str, Any], **more: Any) -> None:
        if path.name == "result.json":
            events = EventAccumulator(str(path.parent / "tensorboard"))
            events.Reload()
            found.append([event.step for event in events.Scalars("loss")])
            lines = (path.parent / "metrics.jsonl").read_text().splitlines()
            found.append([json.loads(line)["step"] for line in lines])
        write_json(path, content, **more)

    monkeypatch.setattr("ssl_pkg.run.session.write_json", look)
    with session(tmp_path / "run") as started:
        started.log(LINE | {"step": 1})
        started.log(LINE | {"step": 2})
        started.finish(method="simclr", adaptation=None, classes=["cat"], resolution=32, rows=[])
    assert found == [[1, 2], [1, 2]]


def test_the_result_names_the_images_of_its_source_only_if_they_are_others(tmp_path: Path) -> None:
    source, file = tmp_path / "source", tmp_path / "data/file"
    for folder in (source, file.parent):
        folder.mkdir()
    file.write_bytes(b"12345")
    write_json(source / "result.json", {"weights_sha256": "aaaa"})
    for size, other in ((5, None), (6, "/elsewhere")):
        used = {"name": "stand-in", "root": "/elsewhere", "files": {"file": {"bytes": size, "md5": None}}}
        write_json(source / "provenance.json", {"data": used})
        folder = tmp_path / f"run-{size}"
        config = load_config(["stage=probe", f"source={source}", f"run_dir={folder}", f"data.root={file.parent}"])
        with Session(config, CPU, InterruptFlag(), DATA) as started:
            started.finish(method="simclr", adaptation="probe", classes=["cat"], resolution=32, rows=[])
        result = RunDirectory(folder).result()
        assert result is not None
        assert result.get("source_data") == other


def test_the_temporary_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    make_step(tmp_path / "run", 1)
    unfinished = [tmp_path / "run" / name for name in (".status.abc.tmp", "checkpoints/.step-000000002.ckpt.abc.tmp")]
    for file in unfinished:
        file.write_bytes(b"part")
    make_step(tmp_path / "run", 2)
    assert not [file for file in unfinished if file.exists()]


def flushed_files(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A list to which the name of each file is added that is flushed to the disk from now on."""
    flushed: list[str] = []
    fsync = os.fsync

    def record(descriptor: int) -> None:
        flushed.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", record)
    return flushed


def test_metrics_reach_the_disk_before_the_checkpoint_that_has_their_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power failure, a checkpoint with a digest of lost lines would be useless."""
    with session(tmp_path / "run") as started:
        started.log(LINE | {"step": 1})
        flushed = flushed_files(monkeypatch)
        started.save(1, {"step": 1})
    files = [name for name in flushed if name == "metrics.jsonl" or name.startswith(".step-")]
    assert len(files) == 2 and files[0] == "metrics.jsonl"


def test_metrics_reach_the_disk_before_the_result_after_which_nothing_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with session(tmp_path / "run") as started:
        started.log(LINE | {"step": 1})
        flushed = flushed_files(monkeypatch)
        started.finish(method="simclr", adaptation=None, classes=["cat"], resolution=32, rows=[])
    files = [name for name in flushed if name == "metrics.jsonl" or name.startswith(".result.json")]
    assert len(files) == 2 and files[0] == "metrics.jsonl"


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_a_process_that_loses_the_lock_while_it_reads_the_checkpoint_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_step(tmp_path / "run", 1)
    before: dict[str, bytes] = {}

    def load_slowly(folder: Path, fits: Callable[[dict[str, Any]], bool]) -> dict[str, Any] | None:
        state = load_checkpoint(folder, fits)
        write_json(tmp_path / "run/lock", {"host": "elsewhere", "pid": 7, "token": "new"})
        with (tmp_path / "run/metrics.jsonl").open("a") as out:
            out.write(json.dumps(LINE | {"step": 2}) + "\n")
        before.update(files_of(tmp_path / "run"))
        return state

    monkeypatch.setattr("ssl_pkg.run.resume.load_checkpoint", load_slowly)
    with pytest.raises(Busy, match="taken over by process 7 on elsewhere"), session(tmp_path / "run"):
        pass
    assert files_of(tmp_path / "run") == before


def test_a_process_that_lost_the_lock_writes_no_metrics_no_artifact_and_no_result(tmp_path: Path) -> None:
    with session(tmp_path / "run") as started:
        started.log(LINE | {"step": 1})
        write_json(tmp_path / "run/lock", {"host": "elsewhere", "pid": 7, "token": "new"})
        before = files_of(tmp_path / "run")
        with pytest.raises(Busy):
            started.log(LINE | {"step": 2})
        with pytest.raises(Busy):
            started.file("predictions.npz")
        with pytest.raises(Busy):
            started.finish(method="simclr", adaptation=None, classes=["cat"], resolution=32, rows=[])
    after = files_of(tmp_path / "run")
    assert after.keys() == before.keys()
    assert [name for name in after if after[name] != before[name] and name != "status"] == []


@pytest.mark.parametrize("worked", [False, True])
def test_wrong_input_removes_the_directory_only_if_nothing_was_logged(tmp_path: Path, worked: bool) -> None:
    """A source that disappears after hours of training must not remove the run."""
    with pytest.raises(BadInput), session(tmp_path / "run") as started:
        if worked:
            started.log(LINE | {"step": 1})
        raise BadInput("the source is gone")
    assert (tmp_path / "run/metrics.jsonl").exists() is worked
