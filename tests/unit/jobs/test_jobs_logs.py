import re
import shlex
from pathlib import Path

import pytest

from jobs.__main__ import main
from jobs.ledger import State
from jobs.status.states import Row
from jobs.status.table import plain_lines
from ssl_pkg import catalogue


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


def test_the_supervised_baseline_is_found_under_the_name_of_the_report(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "runs" / "demo" / "logs" / "finetune-random-s0.log").write_text("the baseline's log\n")
    assert main(["logs", "supervised-s0", "demo"]) == 0
    assert capsys.readouterr().out == "the baseline's log\n"
    names = {Row(name, State.COMPLETE).title for name in ("finetune-random-s0", "finetune-simclr-s0")}
    assert names == {"finetune-random-s0 (supervised)", "finetune-simclr-s0"}
    assert catalogue.adapted(catalogue.RANDOM, "finetune") == ("supervised", None)
    assert "\nfinetune-random-s0 (supervised)  complete" in "\n".join(
        plain_lines([Row("a", State.RUNNING), Row("finetune-random-s0", State.COMPLETE)])
    )
