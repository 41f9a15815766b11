"""A full disk: one sentence reports it, and when there is space again the run ends with the same bits."""

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
from forked import Forked, start
from trainers import LONG, Study, differences, exists_within

from ssl_pkg.errors import COMPLETE, FAULT
from ssl_pkg.run.checkpoint import load_checkpoint
from ssl_pkg.run.directory import RunDirectory

EVERY_STEP = "checkpoint.minutes=1e-9"
MEBIBYTE = 2**20


class Disk(Protocol):
    """A disk that holds the run directory."""

    folder: Path

    def fill(self, trainer: Forked, space: int) -> None:
        """Leaves `space` free bytes."""

    def clear(self, trainer: Forked) -> None:
        """Frees the space again."""


class FileSizeLimit:
    """A substitute for a disk: a limit of the trainer's file size, at which a write stops in the middle."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, trainer: Forked, space: int) -> None:
        with suppress(ProcessLookupError):
            resource.prlimit(trainer.pid, resource.RLIMIT_FSIZE, (space, resource.RLIM_INFINITY))

    def clear(self, trainer: Forked) -> None:
        self.fill(trainer, resource.RLIM_INFINITY)


class FullDisk:
    """A small file system in memory, which a file fills."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def fill(self, trainer: Forked, space: int) -> None:
        with (self.folder / "ballast").open("wb") as ballast:
            while (free := shutil.disk_usage(self.folder).free) > space:
                with suppress(OSError):  # the trainer has used some of the space meanwhile
                    os.posix_fallocate(ballast.fileno(), ballast.tell(), free - space)
                ballast.seek(0, os.SEEK_END)

    def clear(self, trainer: Forked) -> None:
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


def fill_while_stopped(disk: Disk, trainer: Forked, space: int) -> None:
    """Leaves `space` free bytes while the trainer is stopped."""
    trainer.send(signal.SIGSTOP)
    disk.fill(trainer, space)
    trainer.send(signal.SIGCONT)


def fails(trainer: Forked) -> str:
    """Checks that the trainer ends with a sentence about the full disk and no traceback. Returns its stderr."""
    status, stderr = trainer.status(), trainer.stderr()
    assert status == FAULT, stderr
    assert "Traceback" not in stderr
    assert "free some space, then run the same command again" in stderr.splitlines()[-1]
    return stderr


def resumes(study: Study, disk: Disk, trainer: Forked) -> None:
    """When there is space again, the same command completes the run with the same bits."""
    disk.clear(trainer)
    assert not list((disk.folder / "run").rglob("*.tmp"))
    (again,) = start(study.line("simclr", disk.folder / "run"))
    assert again.status() == COMPLETE, again.stderr()
    assert differences(study.uninterrupted("simclr"), disk.folder / "run") == []


def test_full_from_the_start(study: Study, disk: Disk) -> None:
    (trainer,) = start(study.line("simclr", disk.folder / "run"))
    fill_while_stopped(disk, trainer, 0)
    assert len(fails(trainer).splitlines()) == 1
    resumes(study, disk, trainer)


def full_after_a_checkpoint(study: Study, disk: Disk) -> tuple[Forked, Path]:
    """A trainer that has written a checkpoint, and has no space for another one."""
    run_dir = disk.folder / "run"
    (trainer,) = start(study.line("simclr", run_dir, EVERY_STEP))
    assert exists_within(60, run_dir / "checkpoints/step-000000001.ckpt", trainer)
    fill_while_stopped(disk, trainer, MEBIBYTE)
    return trainer, run_dir


def test_full_from_the_second_checkpoint_on(study: Study, disk: Disk) -> None:
    trainer, run_dir = full_after_a_checkpoint(study, disk)
    assert "no checkpoint of step" in fails(trainer)
    uninterrupted = RunDirectory(study.uninterrupted("simclr")).metrics()
    assert [line["step"] for line in RunDirectory(run_dir).metrics()] == [line["step"] for line in uninterrupted]
    assert load_checkpoint(run_dir / "checkpoints") is not None
    resumes(study, disk, trainer)


def test_full_for_one_checkpoint_only(study: Study, disk: Disk) -> None:
    trainer, run_dir = full_after_a_checkpoint(study, disk)
    while "no checkpoint of step" not in trainer.stderr() and not trainer.ends_within(0.001):
        pass
    assert "no checkpoint of step" in trainer.stderr()
    disk.clear(trainer)
    assert trainer.status() == COMPLETE, trainer.stderr()
    assert differences(study.uninterrupted("simclr"), run_dir) == []


def test_full_for_a_metrics_line(study: Study, disk: Disk) -> None:
    run_dir = disk.folder / "run"
    (trainer,) = start(study.line("simclr", run_dir))
    assert exists_within(60, run_dir / "status", trainer)
    fill_while_stopped(disk, trainer, 20)  # the line is longer
    fails(trainer)
    assert RunDirectory(run_dir).metrics() == []
    resumes(study, disk, trainer)


def test_full_for_the_result(study: Study, disk: Disk) -> None:
    run_dir = disk.folder / "run"
    (trainer,) = start(study.line("simclr", run_dir))
    assert exists_within(60, run_dir / "encoder.safetensors", trainer)
    fill_while_stopped(disk, trainer, 0)
    fails(trainer)
    assert not (run_dir / "result.json").exists()
    resumes(study, disk, trainer)
