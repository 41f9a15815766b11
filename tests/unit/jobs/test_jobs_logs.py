import re
import shlex
from pathlib import Path

import pytest

from jobs.__main__ import main


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the runs of the study `demo`, the working folder."""
    (tmp_path / "runs" / "demo" / "logs").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "logs" / "probe-random-s0.log").write_text("the probe's log\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("more", [[], ["--runs", "else where"]])
def test_a_study_before_the_run_is_answered_with_the_command_that_works(
    folder: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    if more:
        (folder / "runs").rename(folder / more[1])
    assert main(["logs", "demo", "probe-random-s0", *more]) == 2
    said = capsys.readouterr().err
    assert said.startswith("demo is a study, and `logs` takes the run first: ")
    assert len(said.splitlines()) == 1
    (line,) = re.findall("`([^`]+ .+)`", said.partition("first: ")[2])
    assert main(shlex.split(line)[1:]) == 0
    assert capsys.readouterr().out == "the probe's log\n"


def test_a_run_called_like_a_study_can_be_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "runs" / "probe-random-s0").mkdir()
    assert main(["logs", "probe-random-s0", "demo"]) == 0
    assert capsys.readouterr().out == "the probe's log\n"
