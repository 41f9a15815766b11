import hashlib
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from ssl_pkg.__main__ import main
from ssl_pkg.config.compose import load_config
from ssl_pkg.errors import BadInput
from ssl_pkg.run.compatibility import other_data, recorded_config, refuse_other_data
from ssl_pkg.run.directory import RunDirectory

DATA: dict[str, Any] = {"files": {}}


def result(folder: Path, weights: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "result.json").write_text(json.dumps({"weights_sha256": weights}))
    return folder


@pytest.fixture
def line(tmp_path: Path) -> list[str]:
    """The command line of a complete probe of `tmp_path/source`."""
    result(tmp_path / "source", "aaaa")
    line = ["stage=probe", f"source={tmp_path / 'source'}", f"run_dir={tmp_path / 'run'}"]
    complete(tmp_path / "run", line)
    return line


def complete(folder: Path, line: list[str]) -> None:
    result(folder, "of the probe")
    (folder / "model.safetensors").touch()
    (folder / "config.yaml").write_text(yaml.safe_dump(recorded_config(load_config(line), DATA)))


def test_a_complete_run_is_accepted_although_its_source_has_moved_or_is_missing(
    tmp_path: Path, line: list[str]
) -> None:
    (tmp_path / "source").rename(tmp_path / "moved")
    assert main(line) == 0
    assert main([*line[:1], f"source={tmp_path / 'moved'}", *line[2:]]) == 0


def test_a_complete_run_that_has_lost_its_weights_is_refused(
    tmp_path: Path, line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run" / "model.safetensors").unlink()
    assert "is complete, but its weights are missing" in refused(line, capsys)


def test_signal_handlers_are_installed_before_slow_imports() -> None:
    code = "import sys, ssl_pkg.__main__; sys.exit(bool({'hydra', 'pydantic', 'torch', 'numpy'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_complete_run_with_another_precision_is_refused(
    tmp_path: Path, line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run" / "config.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"precision": "float32", "device": "cuda"}))
    assert main(line) == main([*line, "precision=float32"]) == main([*line, "device=cpu", "threads=3"]) == 0
    capsys.readouterr()
    assert "(precision: float32 -> bfloat16)" in refused([*line, "precision=bfloat16"], capsys)


def refused(line: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(line) == 2
    (message,) = capsys.readouterr().err.splitlines()
    return message


def test_a_complete_run_of_another_source_is_refused(
    tmp_path: Path, line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    other = result(tmp_path / "other", "bbbb")
    message = refused([*line[:1], f"source={other}", *line[2:]], capsys)
    assert message == (
        f"ssl_pkg: {tmp_path / 'run'} is complete, but from other weights than those of source={other}: "
        f"give another run_dir, or remove {tmp_path / 'run'} to run it again"
    )
    assert "source=random" in refused([*line[:1], "source=random", *line[2:]], capsys)


def test_a_complete_run_is_refused_if_its_source_was_run_again(
    tmp_path: Path, line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    result(tmp_path / "source", "bbbb")
    assert "from other weights" in refused(line, capsys)


def test_a_complete_run_from_random_weights_is_refused_for_a_source(
    tmp_path: Path, line: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    random = [*line[:1], "source=random", *line[2:]]
    complete(tmp_path / "run", random)
    assert main(random) == 0
    capsys.readouterr()
    assert "from other weights" in refused(line, capsys)


@pytest.mark.parametrize("closed", [".", "images"])
def test_images_without_permission_are_bad_input_and_not_other_images(user_folder: Path, closed: str) -> None:
    run, root = RunDirectory(user_folder / "run"), user_folder / "data/images"
    for folder in (run.path, root / "sub"):
        folder.mkdir(parents=True)
    manifest = {"files": {"sub/file": {"bytes": 1, "md5": "1"}}}
    (run.path / "provenance.json").write_text(json.dumps({"data": manifest}))
    config: Any = SimpleNamespace(data=SimpleNamespace(root=str(root)))
    with pytest.raises(BadInput, match="on other images"):
        refuse_other_data(run, config)
    folder = user_folder / "data" / closed
    folder.chmod(0o000)
    try:
        with pytest.raises(BadInput, match=f"can't read {folder}/.*: Permission denied"):
            refuse_other_data(run, config)
    finally:
        folder.chmod(0o755)


def test_images_of_equal_size_and_other_content_are_other_images(tmp_path: Path) -> None:
    run, file = RunDirectory(tmp_path / "run"), tmp_path / "data/file"
    for folder in (run.path, file.parent):
        folder.mkdir()
    entry = {"bytes": 3, "md5": hashlib.md5(b"one").hexdigest()}
    used = {"name": "stand-in", "root": "/elsewhere", "files": {"file": entry}}
    (run.path / "provenance.json").write_text(json.dumps({"data": used}))
    for content, other in ((b"one", None), (b"two", "/elsewhere"), (b"three", "/elsewhere")):
        file.write_bytes(content)
        assert other_data(run, str(file.parent)) == other


def test_a_run_records_the_digest_of_each_file_or_the_size_of_one_too_large_for_it(line: list[str]) -> None:
    files = {"small": {"bytes": 3, "md5": "cccc"}, "large": {"bytes": 5 * 10**9, "md5": None}}
    recorded = recorded_config(load_config(line), {"files": files})
    assert recorded["inputs"] == {"small": "cccc", "large": 5 * 10**9, "source": "aaaa"}


def test_a_command_on_a_complete_run_imports_no_torch(line: list[str]) -> None:
    script = "import sys; from ssl_pkg.__main__ import main; print(main(sys.argv[1:]), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script, *line], capture_output=True, text=True, check=True)
    assert done.stdout == "0 False\n"


@pytest.mark.parametrize("run_format", [None, 1])
def test_a_run_of_another_version_of_the_program_is_refused(
    tmp_path: Path, line: list[str], capsys: pytest.CaptureFixture[str], run_format: int | None
) -> None:
    file = tmp_path / "run" / "config.yaml"
    content = yaml.safe_load(file.read_text())
    del content["run_format"]
    file.write_text(yaml.safe_dump(content | ({} if run_format is None else {"run_format": run_format})))
    assert "was made by an earlier version of this project: give another run_dir" in refused(line, capsys)
