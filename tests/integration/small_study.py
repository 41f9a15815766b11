"""A study of six stub jobs. `small_study.py ROOT SLOTS WAIT` runs it."""

import sys
from pathlib import Path
from unittest.mock import patch

from jobs.ledger import REPORT
from jobs.local.slots import Slot
from jobs.local.study import run_study
from jobs.plan.graph import Job
from jobs.programs import Programs
from jobs.status.display import no_estimate

STUB = (sys.executable, str(Path(__file__).with_name("stub_stage.py")))
PROGRAMS = Programs(stage=STUB, report=STUB)
NAMES = ("pretrain-a-s0", "probe-a-s0", "ood-a-probe-s0", "pretrain-b-s0", "probe-b-s0")


def small_study(root: Path, wait: float = 0.1) -> list[Job]:
    """Jobs of method a (pretrain, probe, ood) and b (pretrain, probe), and the report. A stage takes `wait` seconds."""
    parents = {"probe-a-s0": "pretrain-a-s0", "ood-a-probe-s0": "probe-a-s0", "probe-b-s0": "pretrain-b-s0"}
    folder = root / "small"
    jobs = []
    for name in NAMES:
        parent = parents.get(name)
        line = (f"run_dir={folder / name}", f"wait={wait}", f"source={folder / parent if parent else 'random'}")
        jobs.append(Job(name, name.partition("-")[0], line, (parent,) if parent else (), folder / name, seed=0))
    leaves = ("ood-a-probe-s0", "probe-b-s0")
    out = root / "reports"
    return [*jobs, Job(REPORT, REPORT, (str(folder), "--out", str(out)), leaves, out)]


def run(root: Path, slots: int = 2, wait: float = 0.1) -> int:
    """Runs the study; returns the exit status."""
    jobs = small_study(root, wait)
    with patch("jobs.local.study.Programs", return_value=PROGRAMS):
        return run_study(jobs, root / "small", [Slot(1)] * slots, resume_command="the same again", estimate=no_estimate)


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
