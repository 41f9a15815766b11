"""Files in the working folder named like packages or standard modules are not imported."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ssl_pkg
from jobs.programs import Programs

STANDARD = ("argparse", "contextlib", "shlex")
OTHERS = ("analysis", "hydra", "jobs", "numpy", "pydantic", "rich", "slurm", "ssl_pkg", "submitit", "yaml")
PYTHON = (sys.executable, "-m")


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with modules that write their names to a file when they are imported."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in (*STANDARD, *OTHERS):
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write('{name} ')\n")
    return folder


def imported(folder: Path, line: tuple[str, ...], **more: str) -> str:
    """Runs a program in the folder; returns the names of the modules that it imports from there."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")} | more
    done = subprocess.run(line, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = folder.with_name("imported")
    return found.read_text() if found.exists() else ""


@pytest.mark.parametrize("line", [(*Programs().stage, "--help"), (*Programs().report, "--help")])
def test_stages_and_report_of_a_study_import_nothing_from_there(hostile: Path, line: tuple[str, ...]) -> None:
    assert imported(hostile, line) == ""


@pytest.mark.parametrize(
    "line", [("ssl_pkg", "--help"), ("jobs", "profile", "local"), ("analysis", "--help")], ids=lambda line: line[0]
)
def test_python_m_imports_nothing_from_there(hostile: Path, line: tuple[str, ...]) -> None:
    (hostile / f"{line[0]}.py").unlink()  # because Python itself would run this file
    assert imported(hostile, (sys.executable, "-m", *line)) == ""


@pytest.mark.parametrize("path", [":", "/nowhere:."])
def test_python_m_with_an_empty_entry_in_pythonpath_imports_nothing_from_there(hostile: Path, path: str) -> None:
    for name in ("jobs", *STANDARD):  # because Python itself would fail to start
        (hostile / f"{name}.py").unlink()
    assert imported(hostile, (sys.executable, "-m", "jobs", "profile", "local"), PYTHONPATH=path) == ""


@pytest.mark.parametrize(
    ("name", "line"), [("study", ["profile", "local"]), ("stage", ["--help"]), ("study", ["report", "--help"])]
)
@pytest.mark.parametrize("path", ["", "."])
def test_a_console_command_imports_nothing_from_there(hostile: Path, name: str, line: list[str], path: str) -> None:
    for module in STANDARD:  # because `site` imports some of them before the command starts
        (hostile / f"{module}.py").unlink()
    project = Path(ssl_pkg.__file__).parents[1]
    command = hostile.with_name("command")  # the same as pip's
    command.write_text(f"import sys\nfrom ssl_study_commands import {name}\nsys.exit({name}())\n")
    assert imported(hostile, (sys.executable, str(command), *line), PYTHONPATH=f"{path}:{project}") == ""


def test_a_checkout_that_is_not_installed_runs_from_its_folder_with_its_child_processes(tmp_path: Path) -> None:
    project = Path(ssl_pkg.__file__).parents[1]
    for name in ("ssl_pkg", "jobs", "slurm", "analysis"):
        (tmp_path / name).symlink_to(project / name)
    shown = "import jobs; print(jobs.__file__, flush=True)"
    code = f"{shown}; import subprocess, sys; from ssl_pkg import safe_path; safe_path.protect()\n"
    code += f"subprocess.run([sys.executable, '-P', '-c', {shown!r}], check=True)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str(tmp_path / "jobs/__init__.py")] * 2
