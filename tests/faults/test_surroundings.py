"""Unusual sessions: no home directory, an ASCII locale, a terminal that closes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from file_systems import SOURCE
from forked import wait_for_signal_handlers

from ssl_pkg.errors import BAD_INPUT, COMPLETE

PROJECT = SOURCE.parents[2]
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "PATH": os.environ["PATH"]}
PROBE = (
    sys.executable,
    "-m",
    "ssl_pkg",
    "stage=probe",
    "source=random",
    "budget=tiny",
    "threads=1",
    "probe.l2_count=2",
)
SMALL_STUDY = PROJECT / "tests/integration/small_study.py"


def test_a_stage_runs_without_home_and_user_name_in_an_ascii_locale(data: Path, library: Path, folder: Path) -> None:
    run_dir, temporary = folder / "José", folder / "tmp"
    temporary.mkdir()
    nobody = {"LD_PRELOAD": str(library), "FAILING": "getpwuid=2", "TMPDIR": str(temporary)}
    done = subprocess.run(
        [*PROBE, f"data.root={data}", f"run_dir={run_dir}"],
        env=ASCII | nobody, capture_output=True, check=False, cwd=PROJECT,
    )  # fmt: skip
    assert done.returncode == COMPLETE, done.stderr.decode()
    assert rb"Jos\xe9 is complete" in done.stderr and done.stderr.isascii()
    assert (run_dir / "result.json").exists()
    assert (temporary / f"ssl-study-{os.getuid()}").is_dir()


@pytest.mark.parametrize("command", [
    ("ssl_pkg", "stage=Größe"), ("jobs", "study", "Größe"), ("analysis", "Größe", "--out", "x"),
    ("ssl_pkg.data.download", "--synthetic", "/dev/null/Größe"),
])  # fmt: skip
def test_characters_that_the_locale_lacks_are_printed_as_escapes(command: tuple[str, ...], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], env=ASCII | {"HOME": str(tmp_path)}, capture_output=True, check=False,
        cwd=PROJECT,
    )  # fmt: skip
    assert done.returncode == BAD_INPUT, done.stderr
    assert b"Traceback" not in done.stderr
    assert rb"Gr\xf6\xdfe" in done.stderr


def test_a_closed_terminal_does_not_stop_a_stage_under_nohup(data: Path, folder: Path) -> None:
    line = ["nohup", *PROBE, f"data.root={data}", f"run_dir={folder / 'run'}"]
    process = subprocess.Popen(line, stderr=subprocess.PIPE, encoding="utf-8")
    wait_for_signal_handlers(process.pid)
    while not (folder / "run/status").exists() and process.poll() is None:
        process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
    _, stderr = process.communicate()
    assert process.returncode == COMPLETE, stderr


@pytest.mark.parametrize("nohup", [True, False])
def test_a_closed_terminal_stops_a_study_unless_it_runs_under_nohup(folder: Path, nohup: bool) -> None:
    process = subprocess.Popen(
        [*["nohup"] * nohup, sys.executable, SMALL_STUDY, folder, "2", "0.5"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        encoding="utf-8", cwd=PROJECT, start_new_session=True,
    )  # fmt: skip
    while not (folder / "EVENTS").exists():
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGHUP)  # as the kernel does when the terminal closes
    stderr, _ = process.communicate()
    assert process.returncode == (0 if nohup else 75), stderr
