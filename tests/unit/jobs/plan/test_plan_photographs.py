from pathlib import Path

import pytest

from jobs.__main__ import main
from ssl_pkg.messages.program import console_command


@pytest.mark.parametrize("more", [["study"], ["submit", "--dry-run"]])
def test_a_study_of_photographs_names_the_command_that_packs_them(
    tmp_path: Path, more: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "a.jpg").touch()
    command, *options = more
    line = [command, "photos-quick", "--data", str(tmp_path / "photos"), "--runs", str(tmp_path / "runs"), *options]
    assert main(line) == 2
    error = capsys.readouterr().err
    assert f"`{console_command()} pack {tmp_path / 'photos'} data/photos`, then give data/photos" in error
    assert "data.root=" not in error and len(error.splitlines()) == 1
    assert not (tmp_path / "runs").exists()
