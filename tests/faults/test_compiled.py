"""A pretraining whose network is compiled goes on with the kernels that it began with, in another process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Study
from trainers import LONG, differences

from ssl_pkg.errors import COMPLETE, INTERRUPTED

LOST = "compiled again, the result may not be the same to the bit"


@pytest.mark.skipif(not LONG, reason="compiles twice, two minutes: make test-faults")
@pytest.mark.timeout(1200)
def test_a_compiled_training_is_interrupted_and_goes_on_with_its_kernels(study: Study, folder: Path) -> None:
    straight, run = study.line("supervised", folder / "straight"), study.line("supervised", folder / "run")
    cache = folder / "cache"
    kernels = cache / "ssl-study" / "compiled"
    assert finished(straight, cache)[0] == COMPLETE
    assert not list(kernels.iterdir()), "a complete run leaves no kernels"
    with begun(run, cache) as trainer:
        wait_for(folder / "run/checkpoints", 2, trainer)
        trainer.send_signal(signal.SIGTERM)
        assert trainer.wait() == INTERRUPTED
    made = {file: file.stat().st_mtime_ns for file in kernels.rglob("*.so")}
    assert made
    with begun(run, cache) as trainer:
        wait_for(folder / "run/checkpoints", 10, trainer)
        trainer.send_signal(signal.SIGTERM)
        said = trainer.communicate()[1]
    assert trainer.returncode == INTERRUPTED and "resumes from the checkpoint" in said and LOST not in said
    assert {file: file.stat().st_mtime_ns for file in kernels.rglob("*.so")} == made, "nothing was compiled again"
    (run_kernels,) = kernels.iterdir()
    run_kernels.rename(folder / "lost")
    status, said = finished(run, cache)
    assert status == COMPLETE and LOST in said
    assert differences(folder / "straight", folder / "run") == []


def begun(line: list[str], cache: Path) -> "subprocess.Popen[str]":
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TORCHINDUCTOR")}
    words = [sys.executable, "-m", "ssl_pkg", *line, "compile=always", "checkpoint.minutes=1e-9"]
    words += ["budget.supervised_epochs=30", "budget.max_steps=60"]
    environment["XDG_CACHE_HOME"] = str(cache)
    return subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True)


def finished(line: list[str], cache: Path) -> tuple[int, str]:
    with begun(line, cache) as trainer:
        said = trainer.communicate()[1]
    return trainer.returncode, said


def wait_for(checkpoints: Path, step: int, trainer: "subprocess.Popen[str]") -> None:
    """Until there is a checkpoint of this step or a later one; two are kept, so that each is there for moments only."""
    while not any(int(file.stem.rpartition("-")[2]) >= step for file in checkpoints.glob("step-*.ckpt")):
        assert trainer.poll() is None
        time.sleep(0.01)
