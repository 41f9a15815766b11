"""A command whose output pipe is closed, as by `… | head`, completes its work without a traceback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = {
    "ssl_pkg": ("ssl_pkg", "--help"),
    "jobs": ("jobs", "--help"),
    "study": ("jobs", "study", "nope"),
    "status": ("jobs", "status", "demo"),
    "status --watch": ("jobs", "status", "demo", "--watch"),
    "logs": ("jobs", "logs", "pretrain-a-s0", "demo"),
    "cancel": ("jobs", "cancel", "demo"),
    "profile": ("jobs", "profile", "testbed"),
    "submit": ("jobs", "submit", "--help"),
    "analysis": ("analysis", "--help"),
    "data": ("ssl_pkg.data.download", "--help"),
    "testbed": ("slurm.testbed", "--help"),
    "image": ("jobs.image",),
}


@pytest.mark.parametrize("closed", ["closed by the reader", "never open"])
@pytest.mark.parametrize("name", COMMANDS)
def test_no_traceback(tmp_path: Path, name: str, closed: str) -> None:
    folder = tmp_path / "runs" / "demo"
    (folder / "logs").mkdir(parents=True)
    (folder / "pretrain-a-s0").mkdir()
    (folder / "pretrain-a-s0" / "config.yaml").write_text("stage: stub\n")
    (folder / "logs" / "pretrain-a-s0.log").write_text("a line\n" * 20_000)  # more than a pipe holds
    more = ("--lines", "20000") if name == "logs" else ()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    reading, writing = os.pipe()
    os.close(reading)
    redirection = ">&-" if closed == "never open" else ""
    line = ["sh", "-c", f'"$@" {redirection}', "sh", sys.executable, "-m", *COMMANDS[name], *more]
    try:
        done = subprocess.run(
            line, stdout=writing, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment, check=False
        )
    finally:
        os.close(writing)
    assert "Traceback" not in done.stderr and "rror" not in done.stderr
    assert done.returncode == (2 if name == "study" else 0), done.stderr


def test_characters_that_the_terminal_lacks_are_escaped(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONIOENCODING": "ascii"}
    (tmp_path / "runs" / "José").mkdir(parents=True)
    line = [sys.executable, "-m", "jobs", "cancel", "José"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(r"study Jos\xe9 is not being run")
