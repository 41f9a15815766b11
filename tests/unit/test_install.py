"""What `make setup` installs, and when. pip is replaced, because a test must not install packages."""

import ast
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

import install

PROJECT = Path(install.__file__).parent
DAY = 86_400
REAL_PIP = install._pip


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A copy of the project's folder as the working folder, and the extras that pip was asked for."""
    for name in ("Makefile", "install.py", "pyproject.toml", "requirements.lock"):
        shutil.copy(PROJECT / name, tmp_path)
    monkeypatch.chdir(tmp_path)
    found: list[str] = []
    monkeypatch.setattr(install, "_pip", lambda extras: found.append(extras) or 0)
    return found


def installed(extras: str, *, age: float = 0) -> None:
    """An installation with these extras. age: of the stamp, in seconds."""
    Path(".venv/bin").mkdir(parents=True)
    Path(".venv/bin/python").touch()
    stamp = Path(".venv/installed")
    stamp.write_text(extras, encoding="utf-8")
    moment = max(Path(name).stat().st_mtime for name in ("pyproject.toml", "requirements.lock")) + 1 - age
    os.utime(stamp, (moment, moment))


@pytest.mark.parametrize(
    ("before", "age", "given", "pip"),
    [
        ("submit\n", 0, "submit,report", "report,submit"),
        ("submit\n", 0, "report", "report,submit"),  # installed extras are kept
        ("submit\n", 0, "dev", "dev"),
        ("submit\n", 0, "submit", None),
        ("report,submit\n", 0, "submit", None),
        ("dev\n", 0, "submit,report", None),  # dev has both
        ("dev\n", 0, "dev,bench", "bench,dev"),
        ("", 0, "dev", None),  # a stamp of an earlier version, or one that was touched
        ("submit\n", DAY, "", "submit"),  # the lock file has changed
        ("submit\n", DAY, "report", "report,submit"),
        ("submit,no-longer-an-extra\n", DAY, "", "submit"),
    ],
)
def test_a_set_up_installs_what_is_asked_for_and_missing(
    before: str, age: float, given: str, pip: str | None, asked: list[str]
) -> None:
    installed(before, age=age)
    assert install.main(given) == 0
    assert asked == ([pip] if pip else [])
    assert Path(".venv/installed").read_text(encoding="utf-8") == (f"{pip}\n" if pip else before)
    assert install.main(given) == 0
    assert len(asked) == bool(pip), "the second time, nothing is left to do"


def test_a_set_up_without_anything_to_do_says_how_to_force_it(
    asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    installed("dev")
    assert install.main("submit,report") == 0
    assert capsys.readouterr().out == (
        ".venv has report, submit already. To install again, remove .venv/installed first.\n"
    )
    assert not asked


def test_an_interruption_is_no_failure_of_pip(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install, "_pip", REAL_PIP)
    installed("dev", age=DAY)
    Path(".venv/bin/python").write_text("#!/bin/sh\nuntil [ -e interrupted ]; do sleep .01; done\nexit 130\n")
    Path(".venv/bin/python").chmod(0o755)

    def interrupt(_output: str) -> str:
        Path("interrupted").touch()
        signal.raise_signal(signal.SIGINT)
        return ""

    monkeypatch.setattr(install, "_progress", interrupt)
    assert install.entry(["dev"]) == 75
    assert capsys.readouterr().err == "\nmake setup: interrupted; running make again resumes\n"


def test_a_file_in_the_place_of_the_environment_is_named(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path(".venv").touch()
    assert install.entry(["dev"]) == 2
    assert capsys.readouterr().err == "make setup: can't use .venv/installed: Not a directory\n"


def test_an_extra_that_does_not_exist_is_refused(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert install.main("sumbit") == 2
    error = "make setup: there is no extra 'sumbit': choose among bench, dev, report, submit, train\n"
    assert capsys.readouterr().err == error
    assert not asked and not Path(".venv").exists()


def test_an_old_python_can_read_the_program_and_says_that_it_is_too_old(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = ast.parse((PROJECT / "install.py").read_text(encoding="utf-8"), feature_version=(3, 7))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    annotations = [argument.annotation for function in functions for argument in function.args.args]
    annotations += [function.returns for function in functions]
    annotations += [node.annotation for node in ast.walk(tree) if isinstance(node, ast.AnnAssign)]
    evaluated = [node for annotation in annotations if annotation for node in ast.walk(annotation)]
    assert not [node for node in evaluated if isinstance(node, ast.Subscript | ast.BinOp)]
    monkeypatch.setattr(install.sys, "version_info", (3, 6))
    assert install.main() == 2
    assert "needs Python 3.11 or newer" in capsys.readouterr().err


def test_a_failed_set_up_is_tried_again(asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    installed("submit\n")
    Path(".venv/install.log").write_text("no network\n", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(install, "_pip", lambda extras: 1)
        assert install.main("submit,report") == 1
    assert install.main("submit,report") == 0
    assert asked == ["report,submit"]


@pytest.mark.slow
def test_a_log_gets_lines_while_pip_downloads_one_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(install, "LINE_SECONDS", 0.4)  # polled every half second
    python = Path(".venv/bin/python")
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho Collecting torch==2.0\necho '  Downloading torch.whl (800 MB)'\nsleep 2\n")
    python.chmod(0o755)
    assert install._pip("dev") == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if "downloading" in line]
    assert len(lines) >= 3 and len(set(lines)) >= 2  # with the elapsed time
    assert all(line[4:] == " downloading package 1: torch (800 MB)" for line in lines)


@pytest.mark.slow
def test_the_first_set_up_links_the_interpreter_instead_of_copying_it(asked: list[str]) -> None:
    """A copied interpreter does not find a shared libpython that lies beside the original."""
    assert install.main("submit") == 0
    assert Path(".venv/bin/python").is_symlink()
    run = subprocess.run([".venv/bin/python", "-c", "import pip"], capture_output=True, check=False)
    assert run.returncode == 0, run.stderr
    assert asked == ["submit"]


@pytest.mark.parametrize(
    ("words", "age", "line"),
    [
        (["setup"], 0, "python3 install.py 'dev'"),
        (["setup", "EXTRAS=submit,report"], 0, "python3 install.py 'submit,report'"),
        (["demo"], 0, None),
        (["demo"], DAY, "python3 install.py ''"),  # with the same extras
    ],
)
def test_make_installs_for_setup_and_after_a_change(
    words: list[str], age: float, line: str | None, asked: list[str]
) -> None:
    installed("submit\n", age=age)
    done = subprocess.run(["make", "--dry-run", *words], capture_output=True, encoding="utf-8", check=True)
    assert [text for text in done.stdout.splitlines() if "install.py" in text] == ([line] if line else [])
