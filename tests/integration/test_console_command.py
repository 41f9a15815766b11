"""The console command `ssl-study`."""

import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest
from typed import check_command

PROJECT = Path(__file__).parents[2]
COMMANDS = (
    "demo",
    "study",
    "submit",
    "status",
    "cancel",
    "logs",
    "report",
    "pack",
    "predict",
    "data",
    "doctor",
    "profile",
)


def ssl_study(*words: str, before: str = "", cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Runs `ssl-study WORDS`, after the line `before` of Python."""
    code = f"import sys\n{before}\nsys.argv = ['ssl-study', *{list(words)}]\nimport ssl_study_commands as commands\n"
    line = [sys.executable, "-P", "-c", code + "commands.study()"]
    return subprocess.run(line, capture_output=True, encoding="utf-8", check=False, cwd=cwd)


def test_the_console_commands_exist() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert set(project["scripts"]) == {"ssl-study", "ssl-study-stage"}
    for place in project["scripts"].values():
        module, _, function = place.partition(":")
        spec = find_spec(module)
        assert spec and spec.origin
        assert f"def {function}() -> None:" in Path(spec.origin).read_text()


def test_the_help_lists_every_command() -> None:
    done = ssl_study("--help")
    assert done.returncode == 0
    listed = [line.split()[0] for line in done.stdout.splitlines() if line[:2] == "  " and line[2] != " "]
    assert set(listed) - {"ssl-study"} == set(COMMANDS)
    assert ssl_study().returncode == 2


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    done = ssl_study("--version")
    assert (done.returncode, done.stdout) == (0, f"{project['name']} {project['version']}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_each_command_has_an_example_that_is_valid(command: str) -> None:
    wide = "import os; os.environ['COLUMNS'] = '500'"  # because argparse also breaks lines at hyphens
    done = ssl_study(command, "--help", before=wide)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"usage: ssl-study {command} ")
    examples = re.findall(r"example: (.+)", done.stdout)
    if command == "study":
        assert "shorter example: ssl-study study photos-quick " in done.stdout
    assert examples and all(example.startswith(f"ssl-study {command}") for example in examples)
    for line in " && ".join(examples).split(" && "):
        program, *words = shlex.split(line)
        assert program == "ssl-study"
        check_command(words)


@pytest.mark.parametrize("command", ["study", "submit"])
def test_the_help_lists_every_study_with_the_sentence_in_its_file(command: str) -> None:
    presets = [*(PROJECT / "ssl_pkg" / "conf" / "study").glob("*.yaml")]
    assert len(presets) >= 4
    shown = " ".join(ssl_study(command, "--help").stdout.split())
    for preset in presets:
        package, comment, *_ = preset.read_text(encoding="utf-8").splitlines()
        assert (package, comment[:2]) == ("# @package _global_", "# ")
        assert f"{preset.stem} {comment[2:]}" in shown


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["statsu", "demo"], "there is no command 'statsu' (did you mean status?): choose one of demo, study, submit"),
        (["study"], "the following arguments are required: STUDY: see `ssl-study study --help`"),
        (["demo", "--frobnicate"], "there is no option --frobnicate: see `ssl-study demo --help`"),
        (["demo", "--data", "x"], "there is no option --data: see `ssl-study demo --help`"),
        (["demo", "--bogus"], "there is no option --bogus: see `ssl-study demo --help`"),
        (["report", "demo", "--runs", "nowhere"], "nowhere/demo"),
        (["report", "demo", "--rums", "a"], "there is no option --rums (did you mean --runs?): see `ssl-study report"),
        (
            ["report", "demo", "--date", "May"],
            "ssl-study: argument --date: 'May' is not a date like 2026-01-31: see `ssl-study report --help`.\n",
        ),
        (["data", "a", "b"], "ssl-study data does not take 'b': see `ssl-study data --help`"),
        (["pack", "a"], "the following arguments are required: DST: see `ssl-study pack --help`"),
        (["predict", "a", "b", "--devise=cpu"], "there is no option --devise=cpu (did you mean --device?)"),
    ],
)
def test_a_mistake_is_reported_in_one_sentence(words: Sequence[str], sentence: str, tmp_path: Path) -> None:
    done = ssl_study(*words, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert sentence in done.stderr
    assert not list(tmp_path.iterdir())


def test_status_loads_no_slow_package(tmp_path: Path) -> None:
    (tmp_path / "runs/demo").mkdir(parents=True)
    slow = "('torch', 'hydra', 'pydantic', 'submitit', 'analysis', 'pandas')"
    code = f"import atexit; atexit.register(lambda: print([name for name in {slow} if name in sys.modules]))"
    done = ssl_study("status", "demo", before=code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("[]\n")


@pytest.mark.parametrize(
    ("words", "module"),
    [
        (["predict", "a", "b"], "torch"),
        (["pack", "a", "b"], "torch"),
        (["report", "demo"], "pandas"),
        (["demo"], "hydra"),
        (["study", "demo"], "jobs.plan.settings"),
        (["doctor"], "jobs.doctor"),
        (["status", "demo"], "jobs.status.states"),
        (["cancel", "demo"], "jobs.cluster.queue"),
        (["profile", "local"], "jobs.cluster.profile"),
    ],
)
def test_ctrl_c_during_imports_is_reported_in_one_sentence(words: list[str], module: str, tmp_path: Path) -> None:
    before = f"""
import os, signal
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Finder())
"""
    done = ssl_study(*words, before=before, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (75, "interrupted\n")
    assert not list(tmp_path.iterdir())


def test_a_wrong_language_of_the_report_names_the_command_that_was_typed(tmp_path: Path) -> None:
    done = ssl_study("report", "demo", "--language", "xx", cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
    assert done.stderr.startswith("ssl-study: argument --language: ")
    assert done.stderr.endswith(": see `ssl-study report --help`.\n")
