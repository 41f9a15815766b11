import os
import re
import shlex
from pathlib import Path

import pytest

from jobs.__main__ import main
from jobs.ledger import State
from jobs.status.states import Row
from jobs.status.table import plain_lines
from ssl_pkg import catalogue
from ssl_pkg.messages.program import console_command


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the runs of the study `demo`, the working folder."""
    (tmp_path / "runs" / "demo" / "logs").mkdir(parents=True)
    (tmp_path / "runs" / "demo" / "logs" / "probe-random-s0.log").write_text("the probe's log\n")
    (tmp_path / "runs" / "demo" / "plan.json").touch()
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


def test_a_study_alone_lists_its_logs_and_the_command_for_the_latest(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    earlier = folder / "runs" / "demo" / "logs" / "width-moco-probe-s0.log"
    earlier.touch()
    os.utime(earlier, (0, 0))
    assert main(["logs", "demo"]) == 0
    *names, _, sentence = capsys.readouterr().out.splitlines()
    assert names == ["width-moco-probe-s0", "probe-random-s0"]
    assert main(shlex.split(sentence.partition("`")[2].rstrip("`"))[1:]) == 0
    assert capsys.readouterr().out == "the probe's log\n"


def test_a_folder_is_no_log(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "runs" / "demo" / "logs" / "a.log").mkdir()
    assert main(["logs", "a", "demo"]) == 2
    assert capsys.readouterr().err.endswith("there are logs of: probe-random-s0\n")
    assert main(["logs", "demo"]) == 0
    assert capsys.readouterr().out.startswith("probe-random-s0\n\n")


def test_a_run_alone_is_answered_with_the_command_that_works(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", "probe-random-s0"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("probe-random-s0 is a run, and `logs` takes its study too: `")
    assert main(shlex.split(said.partition(": `")[2].rstrip("`\n"))[1:]) == 0
    for nothing in ("**", "*"):
        assert main(["logs", nothing]) == 2
        assert f"there are no runs in runs/{nothing}" in capsys.readouterr().err
    assert main(["logs", "nothing"]) == 2
    assert "there are no runs in runs/nothing" in capsys.readouterr().err


@pytest.mark.parametrize("lines", ["0", "-5", "00", "1.5", "+3", "x", "1_0", ""])
def test_lines_is_a_whole_number_from_1(folder: Path, capsys: pytest.CaptureFixture[str], lines: str) -> None:
    assert main(["logs", "probe-random-s0", "demo", f"--lines={lines}"]) == 2
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err == (f"argument --lines: {lines!r} is not a whole number from 1: see `ssl-study logs --help`\n")


@pytest.mark.parametrize("lines", [1, 2, 9])
def test_lines_are_counted_from_the_end(folder: Path, capsys: pytest.CaptureFixture[str], lines: int) -> None:
    text = ["first", "second", "third"]
    (folder / "runs" / "demo" / "logs" / "probe-random-s0.log").write_text("\n".join(text) + "\n")
    assert main(["logs", "probe-random-s0", "demo", "--lines", str(lines)]) == 0
    assert capsys.readouterr().out.split() == {1: text[2:], 2: text[1:], 9: text}[lines]


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


@pytest.mark.parametrize("command", ["status", "cancel", "logs"])
def test_without_a_study_those_that_exist_are_named(
    folder: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*more: str) -> str:
        assert main([command, *more]) == 2
        printed = capsys.readouterr()
        assert (printed.out, printed.err.count("\n")) == ("", 1)
        return printed.err

    example = f"{console_command()} {command} demo"
    assert said() == f"give the study, like `{example}`: runs has demo\n"
    for name in ("stl10", "no-study"):
        (folder / "runs" / name).mkdir()
    (folder / "runs" / "stl10" / "plan.json").touch()
    assert said() == f"give the study, like `{example}`: runs has demo, stl10\n"
    assert said("--runs", "else") == f"give the study, like `{example} --runs else`; else has none yet\n"
