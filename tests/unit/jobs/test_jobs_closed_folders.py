"""Folders and files for which the user has no permission, and paths that can't be read."""

import errno
import os
from pathlib import Path

import pytest

import jobs.cluster.queue  # these are imported here because the tests' user may lack permission for them
import jobs.local.study
import jobs.status.states
import jobs.status.watch  # noqa: F401
from jobs.__main__ import main

COMMANDS = (
    ["status", "demo"],
    ["status", "demo", "--json"],
    ["cancel", "demo"],
    ["logs", "demo"],
    ["logs", "a", "demo"],
)


@pytest.mark.parametrize("mode", [0o000, 0o600])
@pytest.mark.parametrize("closed", [".", "runs", "runs/demo"])
@pytest.mark.parametrize("line", COMMANDS, ids=" ".join)
def test_a_closed_folder_of_runs_is_named(
    user_folder: Path, capsys: pytest.CaptureFixture[str], line: list[str], closed: str, mode: int
) -> None:
    runs = user_folder / "outer" / "runs"
    (runs / "demo" / "logs").mkdir(parents=True)
    (runs / "demo" / "logs" / "a.log").touch()
    (user_folder / "outer" / closed).chmod(mode)
    assert main([*line, "--runs", str(runs)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert said.startswith(f"user {os.geteuid()} has no permission for {runs / 'demo'}")
    assert said.endswith(": ask its owner, or give another folder with --runs (make: RUNS=)\n")


def test_a_closed_log_and_a_folder_that_can_not_be_listed_are_named(
    user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = user_folder / "demo"
    log = study / "logs" / "a.log"
    log.parent.mkdir(parents=True)
    log.touch(mode=0o000)
    study.chmod(0o300)
    for closed, line in ((log, ["logs", "a", "demo"]), (study, ["status", "demo"])):
        assert main([*line, "--runs", str(user_folder)]) == 2
        assert capsys.readouterr().err.startswith(f"user {os.geteuid()} has no permission for {closed}: ")


@pytest.mark.parametrize("line", [["status"], ["cancel"], ["logs"], ["logs", "a"]], ids=" ".join)
@pytest.mark.parametrize("which", ["runs", "study"])
@pytest.mark.parametrize(("name", "why"), [("loop", "symbolic links"), ("a" * 300, "name too long")])
def test_a_path_that_can_not_be_read_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], *, line: list[str], which: str, name: str, why: str
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    runs, study = (tmp_path / name, "demo") if which == "runs" else (tmp_path, name)
    assert main([*line, study, "--runs", str(runs)]) == 2
    said = capsys.readouterr().err
    assert len(said.splitlines()) == 1
    assert why in said or "too long for a path" in said


def test_the_parent_folder_is_no_study(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "..", "--runs", str(tmp_path)]) == 2
    assert "STUDY='..' is a path, not the name of a study: give 'demo'" in capsys.readouterr().err


def test_images_below_a_folder_without_permission_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, is_dir = tmp_path / "closed/images", Path.is_dir

    def asked(path: Path) -> bool:
        if path == data:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return is_dir(path)

    monkeypatch.setattr(Path, "is_dir", asked)
    assert main(["study", "demo", "--data", str(data), "--runs", str(tmp_path / "runs")]) == 2
    assert capsys.readouterr().err == f"can't read {data}: Permission denied\n"
