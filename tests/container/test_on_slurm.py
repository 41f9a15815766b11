"""The demo study in the image on a SLURM that preempts its jobs: its results equal those without interruptions."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml
from conftest import Image
from ports import free_ports

from jobs.ledger import State
from jobs.status.states import Row, read_rows
from slurm.processes import ClusterStartError
from slurm.testbed import LocalCluster
from ssl_pkg.errors import COMPLETE
from ssl_pkg.run.directory import runs_of
from ssl_pkg.run.run_log import START_PREFIX

LONG = os.environ.get("CONTAINER_TESTS") == "long"
METHODS, STEPS = ("[supervised,simclr,byol,moco]", 60) if LONG else ("[supervised]", 200)
RESTARTS = 40 if LONG else 6
ENDLESS = ("budget.ssl_epochs=1000",)  # so that only max_steps ends a pretraining
LONGER = ("finetune.epochs=200", "finetune.selection_epochs=200")  # of two steps; fewer end before the storm does
STEPWISE = ("log_every=1", f"budget.max_steps={STEPS}", *ENDLESS, *LONGER, "pretrain.knn_every=500")
SMALL = ("budget=tiny", f"study.methods={METHODS}", *STEPWISE, "threads=1")


@pytest.fixture
def cluster(tmp_path: Path, image: Image, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalCluster]:
    """A SLURM cluster whose jobs can use the engine."""
    bed = LocalCluster(tmp_path / "bed", port=free_ports())
    try:
        bed.up()
    except ClusterStartError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    monkeypatch.setenv("SLURM_CONF", str(bed.conf))
    if "DOCKER_HOST" in image.engine.environment:
        monkeypatch.setenv("DOCKER_HOST", image.engine.environment["DOCKER_HOST"])
    yield bed
    bed.down()


@pytest.mark.timeout(3000)
def test_a_study_in_the_image_that_is_preempted_many_times_ends_with_the_same_bytes(
    cluster: LocalCluster, image: Image, data: Path, tmp_path: Path, folder: Path
) -> None:
    undisturbed = image.run("study", "demo", *SMALL, mounts={"/out": folder, "/data:ro": data})
    assert undisturbed.returncode == COMPLETE, undisturbed.stdout + undisturbed.stderr

    profile = tmp_path / "bed.yaml"
    asked = {"partition": "low", "cpus": 1, "memory": {"per_node": 2}, "minutes": 60, "signal_seconds": 20}
    profile.write_text(yaml.safe_dump({**asked, "container": {"backend": "docker", "image": image.name}}))
    places = ["--data", data, "--runs", tmp_path / "submitted", "--reports", tmp_path / "reports"]
    line = ["submit", "demo", "--cluster", profile, *places]
    subprocess.run([sys.executable, "-m", "jobs", *line, *SMALL[:-1]], check=True)
    study, began = tmp_path / "submitted" / "demo", time.monotonic()

    actions = storm(study, 2400)  # the limit ends a storm that hangs; on two slow cores the short one takes 15 minutes
    restarted = restarts(study)
    print(f"{time.monotonic() - began:.0f} s, {restarted} restarts, {len(actions)} actions: {' '.join(actions)}")
    assert restarted >= 5 and {"client", "preemption"} <= set(actions)
    logs = "\n".join(file.read_text() for file in (study / "logs").glob("*.log"))
    assert logs.count("<<< exit status 75") >= RESTARTS / 2, "signals reach the stage in its container"
    assert logs.count("resumes from the checkpoint of step") >= RESTARTS / 2
    assert digests(study) == digests(folder / "runs" / "demo")
    assert (tmp_path / "reports" / "demo" / "report.pdf").stat().st_size > 10_000
    left = image.engine.docker("ps", "--all", "--filter", f"ancestor={image.name}", "--format", "{{.Names}}").stdout
    assert not [name for name in left.split() if name.startswith("ssl-study-")]


def storm(study: Path, seconds: float) -> list[str]:
    """Preempts and requeues jobs RESTARTS times, kills the client of one container, and waits for the study's end."""
    rng, actions, end = random.Random(7), [], time.monotonic() + seconds
    interrupted: dict[str, int] = {}  # the step of each run when it was last at work during an action
    while any(row.state is not State.COMPLETE for row in read_rows(study)):
        assert time.monotonic() < end, describe(study)
        time.sleep(rng.uniform(0.1, 1.0))
        rows = read_rows(study)
        assert not [row for row in rows if row.state is State.FAILED], describe(study)
        running = [row for row in rows if row.state is State.RUNNING and row.job]
        # Each interruption waits for a step that is not repeated, so that runs make progress and have a checkpoint.
        at_work = [row for row in running if (row.step or 0) > interrupted.get(row.name, 0)]
        if not at_work or restarts(study) >= RESTARTS:
            continue
        interrupted |= {row.name: row.step or 0 for row in at_work}
        if "client" not in actions:  # first, because the training may end otherwise
            actions += ["client"] if any(kill_client(study, row) for row in at_work) else []
        elif "preemption" in actions and rng.random() < 0.4:
            actions.append("requeue")
            subprocess.run(["scontrol", "requeue", rng.choice(at_work).job or ""], capture_output=True, check=False)
        else:
            actions.append("preemption")
            high = ["sbatch", "-p", "high", "-N", "2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1"]
            subprocess.run(high, capture_output=True, check=True)
    return actions


def restarts(study: Path) -> int:
    """The number of restarts of the runs' processes."""
    logs = [file.read_text() for file in (study / "logs").glob("*.log")]
    return sum(max(0, sum(line.startswith(START_PREFIX) for line in log.splitlines()) - 1) for log in logs)


def kill_client(study: Path, row: Row) -> bool:
    """Kills the docker client of a training with SIGKILL; its container survives. Returns whether there was one."""
    wanted = f"run_dir={study / row.name}".encode()
    if not row.name.startswith(("pretrain", "finetune")) or not (study / row.name / "status").exists():
        return False
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (folder / "cmdline").read_bytes().split(b"\0")
            if words[0] == b"docker" and any(wanted in word for word in words):
                os.kill(int(folder.name), signal.SIGKILL)
                return True
    return False


def describe(study: Path) -> str:
    logs = (f"{file.name}\n{file.read_text()[-1500:]}" for file in (study / "logs").glob("*.log"))
    return "\n".join([*(f"{row.name} {row.state} {row.note or ''}" for row in read_rows(study)), *logs])


def digests(study: Path) -> dict[str, dict[str, object]]:
    """The results that must not depend on interruptions: numbers, and the hashes of all artifacts."""
    found = {}
    for run in runs_of(study):
        result = run.result() or {}
        files = sorted((*run.path.glob("*.npz"), *run.path.glob("*.safetensors")))
        artifacts = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
        found[run.name] = artifacts | {key: result[key] for key in ("weights_sha256", "metrics_sha256", "rows")}
    return found
