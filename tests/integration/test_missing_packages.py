"""A command whose optional packages are not installed names them and the command that installs them."""

import os
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from ssl_pkg.extras import MODULES, require

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("line", "extra"),
    [
        (["-m", "analysis", "runs/demo"], "report"),
        (["-c", "import ssl_study_commands as c; c.report()"], "report"),
        (["-c", "import sys; sys.argv = ['ssl-study', 'report', 'demo']; import ssl_study_commands as c; c.study()"],
         "report"),
        (["-m", "ssl_pkg", "stage=probe", "source=random", "run_dir=runs/demo/probe"], "train"),
        (["-m", "ssl_pkg.data.pack", "photos", "data"], "train"),
        (["-m", "ssl_pkg.predict", "runs/demo/probe", "photos"], "train"),
        (["-m", "ssl_pkg.data.dataset", "data"], "train"),
        (["-m", "jobs", "study", "demo"], "train,report"),
        (["-m", "jobs", "submit", "demo", "--cluster", "example-gpu"], "submit"),
        (["-m", "bench.learning", "--data", "data"], "bench"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[-1].partition(";")[0],
)  # fmt: skip
def test_a_command_without_its_packages_says_how_to_install_them(line: list[str], extra: str, tmp_path: Path) -> None:
    blocked = dict.fromkeys(name for part in extra.split(",") for name in MODULES[part])
    (tmp_path / "sitecustomize.py").write_text(f"import sys\nsys.modules.update(dict.fromkeys({list(blocked)}))\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, *line], cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert f"lacks the packages of this command ({', '.join(blocked)})" in sentence
    assert sentence.endswith(f"-m pip install --constraint requirements.lock --editable '.[{extra}]'`")


def test_every_optional_package_is_checked() -> None:
    optional = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    distributions = packages_distributions()
    for extra, modules in MODULES.items():
        wanted = {line.partition("==")[0].lower() for line in optional[extra]}
        if extra != "bench":  # the tests' environment lacks it
            assert {distributions[module][0].lower() for module in modules} == wanted
            require(extra)
