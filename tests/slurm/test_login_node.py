"""The commands that run on a login node."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from studies import TINY, Real

from slurm.testbed import LocalCluster


def test_submit_status_and_cancel_need_no_torch(cluster: LocalCluster, tmp_path: Path) -> None:
    """The commands work if torch can't be imported."""
    without = tmp_path / "without"
    without.mkdir()
    (without / "torch.py").write_text("raise ImportError('there is no torch on this login node')\n")
    code = "import runpy, sys; sys.argv[0] = 'jobs'; runpy.run_module('jobs', run_name='__main__')"
    environment = os.environ | {"PYTHONPATH": str(without)}
    runs = ["--runs", str(tmp_path / "runs"), "--reports", str(tmp_path / "reports")]
    real = Real(tmp_path / "real")
    for line in (
        ["submit", "demo", "--cluster", str(real.profile), *runs, *TINY],
        ["status", "demo", *runs[:2]],
        ["cancel", "demo", *runs[:2]],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *line], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_500_jobs_are_submitted_within_two_minutes_and_shown_within_two_seconds(
    cluster: LocalCluster, tmp_path: Path
) -> None:
    real = Real(tmp_path / "real", seeds=" ".join(map(str, range(14))))
    began = time.monotonic()
    real.submit()
    submitted = time.monotonic() - began
    shown = []
    for _ in range(3):  # the fastest counts, because the machine may be busy
        began = time.monotonic()
        line = [sys.executable, "-m", "jobs", "status", "demo", "--runs", tmp_path / "real/runs", "--json"]
        status = subprocess.run(line, capture_output=True, text=True, check=True)
        shown.append(time.monotonic() - began)
    runs = json.loads(status.stdout)["runs"]
    print(f"{len(runs)} jobs: submitted in {submitted:.1f} s, shown in {min(shown):.2f} s")
    assert len(runs) > 490
    assert submitted < 120 and min(shown) < 2
