"""A command whose optional packages are not installed names them and the command that installs them."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from ssl_pkg.extras import MODULES, require

PROJECT = Path(__file__).parents[2]


def ssl_study(*words: str) -> list[str]:
    """The arguments of a Python that runs the console command."""
    return ["-c", f"import sys; sys.argv = ['ssl-study', *{words}]; import ssl_study_commands as c; c.study()"]


def assert_refused(line: list[str], extra: str, modules: Sequence[str], folder: Path) -> None:
    """Runs Python without the modules; checks that it names them and the parts to install, and writes nothing."""
    blocked = dict.fromkeys(modules)
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({list(blocked)}))\n")
    environment = os.environ | {"PYTHONPATH": f"{folder}:{PROJECT}"}
    work = folder / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, *line], cwd=work, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert f"lacks the packages of this command ({', '.join(blocked)})" in sentence
    assert sentence.endswith(f"-m pip install --constraint requirements.lock --editable '.[{extra}]'`")
    assert not list(work.iterdir())


@pytest.mark.parametrize(
    ("line", "extra"),
    [
        (["-m", "analysis", "runs/demo"], "report"),
        (ssl_study("report", "demo"), "report"),
        (["-m", "ssl_pkg", "stage=probe", "source=random", "run_dir=runs/demo/probe"], "train"),
        (ssl_study("pack", "photos", "data"), "train"),
        (ssl_study("predict", "runs/demo/probe", "photos"), "train"),
        (["-m", "ssl_pkg.data.dataset", "data"], "train"),
        (["-m", "jobs", "study", "demo"], "train,report"),
        (["-m", "jobs", "submit", "demo", "--cluster", "example-gpu"], "submit"),
        (["-m", "bench.learning", "--data", "data"], "bench"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-1].partition("; import")[0],
)  # fmt: skip
def test_a_command_without_its_packages_says_how_to_install_them(line: list[str], extra: str, tmp_path: Path) -> None:
    assert_refused(line, extra, [name for part in extra.split(",") for name in MODULES[part]], tmp_path)


@pytest.mark.parametrize(("lacking", "present"), [("train", "report"), ("report", "train")])
def test_of_the_parts_that_a_study_needs_only_the_missing_one_is_named(
    lacking: str, present: str, tmp_path: Path
) -> None:
    modules = [name for name in MODULES[lacking] if name not in MODULES[present]]
    assert_refused(ssl_study("study", "demo"), lacking, modules, tmp_path)


def test_every_optional_package_is_checked() -> None:
    optional = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    distributions = packages_distributions()
    for extra, modules in MODULES.items():
        wanted = {line.partition("==")[0].lower() for line in optional[extra]}
        if extra != "bench":  # the tests' environment lacks it
            assert {distributions[module][0].lower() for module in modules} == wanted
            require(extra)
