import sys
from pathlib import Path

import pytest

import ssl_study_commands
from jobs import __main__
from jobs.ledger import counted_runs
from ssl_pkg.messages.program import console_command


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The console command of an installation that the shell does not find."""
    program = tmp_path / "project" / ".venv" / "bin" / "ssl-study"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    return program


def test_messages_name_the_command_as_it_can_be_typed_here(installed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(installed.parents[2])
    assert console_command() == ".venv/bin/ssl-study"
    monkeypatch.chdir(installed.parents[3])
    assert console_command() == "project/.venv/bin/ssl-study"
    monkeypatch.chdir(installed.parent)
    assert console_command() == "./ssl-study"
    gone = installed.parents[2] / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    assert console_command() == str(installed)
    gone.rmdir()
    assert console_command() == str(installed)
    monkeypatch.setenv("PATH", str(installed.parent))
    assert console_command() == "ssl-study"


def test_the_command_that_resumes_a_study_has_the_same_form_as_others(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []
    monkeypatch.setitem(__main__._STARTING, "demo", lambda options, overrides, resume: given.append(resume) or 0)
    for path, form in (("", str(installed)), (str(installed.parent), "ssl-study")):
        monkeypatch.setenv("PATH", path)
        assert ssl_study_commands.main(["demo", "budget=tiny"]) == 0
        assert given.pop() == f"{form} demo budget=tiny"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "0 runs"),
        (["a"], "1 run"),
        (["a", "b", "report"], "2 runs and the report"),
        (["a", "report"], "1 run and the report"),
        (["report"], "the report"),
    ],
)
def test_the_report_is_not_counted_as_a_run(names: list[str], words: str) -> None:
    assert counted_runs(names) == words
