"""Mistakes in make's command line are reported before anything starts."""

import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("study", "stl10"), "there is no target stl10"),
        (("data", "STUDY=stl11", "DATA=nowhere"), "there is nothing to download for STUDY=stl11"),
        (("data", "STUDY=photos", "DATA=nowhere"), "there is nothing to download for STUDY=photos"),
        (("submit-all", "STUDY=demo"), "give the cluster, such as CLUSTER=testbed"),
    ],
)
def test_a_mistake_is_reported_in_one_sentence(words: tuple[str, ...], sentence: str) -> None:
    # --assume-old=.venv/installed skips the set-up, because a test must not install anything
    line = ["make", "--no-print-directory", "--assume-old=.venv/installed", *words]
    done = subprocess.run(line, cwd=PROJECT, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert not (PROJECT / "nowhere").exists()
