"""A disk that is full at the wrong moment: one sentence says so, and with room the run ends as if nothing had been."""

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import pytest
from conftest import Study
from trainers import LONG, Trainer, differences, exists_within, start

from ssl_pkg.errors import COMPLETE, FAULT
from ssl_pkg.run.checkpoint import load_checkpoint
from ssl_pkg.run.directory import RunDirectory

EVERY_STEP = "checkpoint.minutes=1e-9"
MEBIBYTE = 2**20


class Disk(Protocol):
    """Where the run directory lies."""

    folder: Path

    def fill(self, trainer: Trainer, room: int) -> None:
        """Leaves `room` bytes."""

    def clear(self, trainer: Trainer) -> None:
        """Makes room again."""


class FileSizeLimit:
    """No disk at all: no file of the trainer may grow beyond the limit, and a write ends there, in the middle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, trainer: Trainer, room: int) -> None:
        with suppress(ProcessLookupError):
            resource.prlimit(trainer.pid, resource.RLIMIT_FSIZE, (room, resource.RLIM_INFINITY))

    def clear(self, trainer: Trainer) -> None:
        self.fill(trainer, resource.RLIM_INFINITY)


class FullDisk:
    """A small file system in memory, filled by a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, trainer: Trainer, room: int) -> None:
        with (self.folder / "ballast").open("wb") as ballast:
            while (free := shutil.disk_usage(self.folder).free) > room:
                with suppress(OSError):  # the trainer has taken some of it since
                    os.posix_fallocate(ballast.fileno(), ballast.tell(), free - room)
                ballast.seek(0, os.SEEK_END)

    def clear(self, trainer: Trainer) -> None:
        (self.folder / "ballast").unlink()


@pytest.fixture(params=[FileSizeLimit, FullDisk] if LONG else [FileSizeLimit])
def disk(request: pytest.FixtureRequest, folder: Path) -> Iterator[Disk]:
    if request.param is FileSizeLimit:
        yield FileSizeLimit(folder)
        return
    mount = ["mount", "-t", "tmpfs", "-o", "size=450m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield FullDisk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fills(disk: Disk, trainer: Trainer, room: int) -> None:
    """Leaves `room` bytes between two moments of the trainer."""
    trainer.send(signal.SIGSTOP)
    disk.fill(trainer, room)
    trainer.send(signal.SIGCONT)


def fails(trainer: Trainer) -> str:
    """What the trainer says as it ends for want of room: a sentence, and no traceback."""
    status, said = trainer.status(), trainer.said()
    assert status == FAULT, said
    assert "Traceback" not in said
    assert "free some space, then run the same command again" in said.splitlines()[-1]
    return said


def goes_on(study: Study, disk: Disk, trainer: Trainer) -> None:
    """When there is space again, the same command completes the run with the same bits."""
    disk.clear(trainer)
    assert not list((disk.folder / "run").rglob("*.tmp"))
    (again,) = start(study.line("simclr", disk.folder / "run"))
    assert again.status() == COMPLETE, again.said()
    assert differences(study.straight("simclr"), disk.folder / "run") == []


def test_full_from_the_start(study: Study, disk: Disk) -> None:
    (trainer,) = start(study.line("simclr", disk.folder / "run"))
    fills(disk, trainer, 0)
    assert len(fails(trainer).splitlines()) == 1
    goes_on(study, disk, trainer)


def full_after_a_checkpoint(study: Study, disk: Disk) -> tuple[Trainer, Path]:
    """A trainer that has written a checkpoint, and has no room for another."""
    run_dir = disk.folder / "run"
    (trainer,) = start(study.line("simclr", run_dir, EVERY_STEP))
    assert exists_within(60, run_dir / "checkpoints/step-000000001.ckpt", trainer)
    fills(disk, trainer, MEBIBYTE)
    return trainer, run_dir


def test_full_for_a_checkpoint_and_ever_after(study: Study, disk: Disk) -> None:
    trainer, run_dir = full_after_a_checkpoint(study, disk)
    assert "no checkpoint of step" in fails(trainer)
    straight = RunDirectory(study.straight("simclr")).metrics()
    assert [line["step"] for line in RunDirectory(run_dir).metrics()] == [line["step"] for line in straight]
    assert load_checkpoint(run_dir / "checkpoints") is not None
    goes_on(study, disk, trainer)


def test_full_for_a_checkpoint_and_then_no_more(study: Study, disk: Disk) -> None:
    trainer, run_dir = full_after_a_checkpoint(study, disk)
    while "no checkpoint of step" not in trainer.said() and not trainer.ends_within(0.001):
        pass
    assert "no checkpoint of step" in trainer.said()
    disk.clear(trainer)
    assert trainer.status() == COMPLETE, trainer.said()
    assert differences(study.straight("simclr"), run_dir) == []


def test_full_for_a_metrics_line(study: Study, disk: Disk) -> None:
    run_dir = disk.folder / "run"
    (trainer,) = start(study.line("simclr", run_dir))
    assert exists_within(60, run_dir / "status", trainer)
    fills(disk, trainer, 20)  # the line is longer
    fails(trainer)
    assert RunDirectory(run_dir).metrics() == []
    goes_on(study, disk, trainer)


def test_full_for_the_result(study: Study, disk: Disk) -> None:
    run_dir = disk.folder / "run"
    (trainer,) = start(study.line("simclr", run_dir))
    assert exists_within(60, run_dir / "encoder.safetensors", trainer)
    fills(disk, trainer, 0)
    fails(trainer)
    assert not (run_dir / "result.json").exists()
    goes_on(study, disk, trainer)
