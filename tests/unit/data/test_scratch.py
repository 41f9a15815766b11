"""A scratch folder never survives its command for long, and nothing else is removed."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ssl_pkg.data.scratch import scratch_folder
from ssl_pkg.errors import BadInput

CODE = """
import sys
from pathlib import Path
from ssl_pkg.data.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    (folder / "large.bin").write_bytes(bytes(1000))
    print(folder, flush=True)
    sys.stdin.read()
"""


def start(target: Path) -> tuple["subprocess.Popen[str]", Path]:
    """A process that has a scratch folder until its standard input is closed, and this folder."""
    line = [sys.executable, "-c", CODE, str(target)]
    process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_at_the_end(tmp_path: Path, fails: bool) -> None:
    target = tmp_path / "new" / "deep" / "data"
    with pytest.raises(ZeroDivisionError), scratch_folder(target) as folder:
        (folder / "deep").mkdir()
        (folder / "file").write_text("x")
        assert not fails or 1 // 0
        (folder / "file").rename(target)
        raise ZeroDivisionError
    assert list(tmp_path.rglob("*")) == ([] if fails else [*target.parents[1::-1], target])


def test_what_a_killed_process_has_left_is_removed(tmp_path: Path) -> None:
    process, left = start(tmp_path / "data")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (left / "large.bin").exists()
    with scratch_folder(tmp_path / "data") as folder:
        assert not list(folder.iterdir())
    assert not list(tmp_path.iterdir())


def test_the_folder_of_a_living_process_is_respected(tmp_path: Path) -> None:
    process, folder = start(tmp_path / "data")
    with pytest.raises(BadInput, match=rf"process {process.pid} on .* is writing .*data: wait until it ends"):
        scratch_folder(tmp_path / "data").__enter__()
    assert (folder / "large.bin").exists()
    process.communicate()
    assert process.returncode == 0
    assert not list(tmp_path.iterdir())


def test_files_of_unknown_origin_are_never_removed(tmp_path: Path) -> None:
    folder = tmp_path / ".data.unfinished"
    for file in ("files/photo.jpg", "lock"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("mine")
        with pytest.raises(BadInput, match="has files of unknown origin"):
            scratch_folder(tmp_path / "data").__enter__()
    assert (folder / "files/photo.jpg").read_text() == "mine"
    assert (folder / "lock").read_text() == "mine"
