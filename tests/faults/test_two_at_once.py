"""Two processes that start in one run directory at the same moment: one trains, the other reports the lock."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from forked import start
from trainers import LONG, Study, differences, exists_within

from ssl_pkg.errors import COMPLETE, FAULT

NEW, ABANDONED = (25, 25) if LONG else (3, 2)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("abandoned", "rounds"), [(False, NEW), (True, ABANDONED)], ids=["new", "after a kill"])
def test_exactly_one_trains_and_nothing_is_damaged(study: Study, folder: Path, abandoned: bool, rounds: int) -> None:
    uninterrupted, run_dir = study.uninterrupted("simclr"), folder / "run"
    line = study.line("simclr", run_dir)
    for _ in range(rounds):
        if abandoned:
            (killed,) = start(line)
            assert exists_within(60, run_dir / "checkpoints", killed)
            killed.send(signal.SIGKILL)
            killed.status()
        trainers = start(line, line)
        by_status = {trainer.status(): trainer for trainer in trainers}
        assert by_status.keys() == {COMPLETE, FAULT}, [trainer.stderr() for trainer in trainers]
        refused = by_status[FAULT].stderr()
        assert refused.startswith(f"ssl_pkg: {run_dir} is in use by process {by_status[COMPLETE].pid} on ")
        assert len(refused.splitlines()) == 1
        assert differences(uninterrupted, run_dir) == []
        shutil.rmtree(run_dir)


def everything(folder: Path) -> dict[Path, tuple[int, bytes]]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {file: (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def test_a_process_that_was_suspended_until_another_took_over_changes_nothing(study: Study, folder: Path) -> None:
    run_dir = folder / "run"
    (stale,) = start(study.line("simclr", run_dir))
    assert exists_within(60, run_dir / "checkpoints/step-000000004.ckpt", stale)  # of eight
    stale.send(signal.SIGSTOP)
    elsewhere = json.loads((run_dir / "lock").read_text()) | {"host": "elsewhere"}
    (run_dir / "lock").write_text(json.dumps(elsewhere))
    os.utime(run_dir / "lock", (0, 0))  # no heartbeat since then

    (successor,) = start(study.line("simclr", run_dir))
    assert successor.status() == COMPLETE, successor.stderr()
    assert differences(study.uninterrupted("simclr"), run_dir) == []
    before = everything(run_dir)
    stale.send(signal.SIGCONT)
    assert stale.status() == FAULT
    assert stale.stderr().splitlines()[-1].startswith(f"ssl_pkg: {run_dir} was taken over by ")
    assert "Traceback" not in stale.stderr()
    assert everything(run_dir) == before
