"""A compiled pretraining resumes in another process with the kernels of its first start."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from trainers import LONG, Study, differences

from ssl_pkg.errors import COMPLETE, INTERRUPTED

LOST = "compiled again, the result may not be the same to the bit"


@pytest.mark.skipif(not LONG, reason="compiles twice, two minutes: make test-faults")
@pytest.mark.timeout(1200)
def test_a_compiled_training_resumes_with_its_own_kernels(study: Study, folder: Path) -> None:
    uninterrupted, run = study.line("simclr", folder / "uninterrupted"), study.line("simclr", folder / "run")
    cache = folder / "cache"
    kernels = cache / "ssl-study" / "compiled"
    assert finished(uninterrupted, cache)[0] == COMPLETE
    assert not list(kernels.iterdir()), "a complete run leaves no kernels"
    with started(run, cache) as trainer:
        wait_for(folder / "run/checkpoints", 2, trainer)
        trainer.send_signal(signal.SIGTERM)
        assert trainer.wait() == INTERRUPTED
    made = {file: file.stat().st_mtime_ns for file in kernels.rglob("*.so")}
    assert made
    with started(run, cache) as trainer:
        wait_for(folder / "run/checkpoints", 10, trainer)
        trainer.send_signal(signal.SIGTERM)
        stderr = trainer.communicate()[1]
    assert trainer.returncode == INTERRUPTED and "resumes from the checkpoint" in stderr and LOST not in stderr
    assert {file: file.stat().st_mtime_ns for file in kernels.rglob("*.so")} == made, "nothing was compiled again"
    (run_kernels,) = kernels.iterdir()
    run_kernels.rename(folder / "lost")
    status, stderr = finished(run, cache)
    assert status == COMPLETE and LOST in stderr
    assert differences(folder / "uninterrupted", folder / "run") == []


def started(line: list[str], cache: Path) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TORCHINDUCTOR")}
    words = [sys.executable, "-m", "ssl_pkg", *line, "compile=always", "checkpoint.minutes=1e-9"]
    words += ["budget.ssl_epochs=30", "budget.max_steps=60"]
    environment["XDG_CACHE_HOME"] = str(cache)
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)


def finished(line: list[str], cache: Path) -> tuple[int, str]:
    with started(line, cache) as trainer:
        stderr = trainer.communicate()[1]
    return trainer.returncode, stderr


def wait_for(checkpoints: Path, step: int, trainer: "subprocess.Popen[str]") -> None:
    """Waits for a checkpoint of this step or a later one, because only the two newest files are kept."""
    while not any(int(file.stem.rpartition("-")[2]) >= step for file in checkpoints.glob("step-*.ckpt")):
        assert trainer.poll() is None
        time.sleep(0.01)
