import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ssl_pkg.run.directory import RunDirectory, runs_of, write_atomic, write_json


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    write_json(path, {"value": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"value": float("nan")})
    path.chmod(0o600)
    with pytest.raises(TypeError):
        write_atomic(path, "text")
    assert json.loads(path.read_text()) == {"value": 1.0}
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_the_umask_determines_the_permissions_of_files(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_atomic(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


@pytest.mark.parametrize("unit", [1, 10**9, 2 * 10**9])  # in which a file system stores times, in nanoseconds
def test_a_given_modification_time_is_never_stored_as_an_earlier_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: int
) -> None:
    utime, wanted = os.utime, 1_700_000_001_999_999_999

    def stored(file: Path, ns: tuple[int, int]) -> None:
        utime(file, ns=(ns[0] // unit * unit, ns[1] // unit * unit))

    monkeypatch.setattr(os, "utime", stored)
    write_atomic(tmp_path / "file", b"x", modified=wanted)
    found = (tmp_path / "file").stat().st_mtime_ns
    assert found == wanted if unit == 1 else wanted < found <= wanted + 2 * 10**9


def test_a_run_is_complete_if_result_json_exists(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    assert not run.complete
    (tmp_path / "result.json").write_text('{"stage": ')
    assert not run.complete
    write_json(tmp_path / "result.json", {"stage": "probe"})
    assert run.complete


@settings(
    derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200, deadline=None
)
@given(content=st.binary(max_size=60))
def test_reading_does_not_fail_for_any_content(tmp_path: Path, content: bytes) -> None:
    for name in ("result.json", "status", "metrics.jsonl", "config.yaml", "provenance.json"):
        (tmp_path / name).write_bytes(content)
    run = RunDirectory(tmp_path)
    for found in (run.result(), run.status(), run.config(), run.provenance()):
        assert found is None or isinstance(found, dict)
    assert all("step" in line for line in run.metrics())


def test_runs_of_a_study_are_the_folders_with_a_config_yaml(tmp_path: Path) -> None:
    for name in ("b", "a", ".jobs"):
        (tmp_path / name).mkdir()
    for name in ("a", "b"):
        (tmp_path / name / "config.yaml").write_text("stage: probe\n")
    assert [run.name for run in runs_of(tmp_path)] == ["a", "b"]
    assert list(runs_of(tmp_path / "missing")) == []


def test_status_has_the_progress_of_a_run(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.write_status(phase="train", step=3, steps=10, rate=0.5, part=2, parts=4, earlier_seconds=7.5)
    status = run.status()
    assert status is not None
    assert status.pop("heartbeat") > 1.7e9
    assert status == {
        "phase": "train", "step": 3, "steps": 10, "rate": 0.5, "part": 2, "parts": 4, "earlier_seconds": 7.5
    }  # fmt: skip
