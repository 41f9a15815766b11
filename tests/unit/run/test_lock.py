import errno
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path

import pytest
from lock_race import acquire_at_once

from ssl_pkg.errors import BadInput, Busy
from ssl_pkg.run.file_lock import _pid_namespace, locked
from ssl_pkg.run.lock import RunLock

HERE = _pid_namespace()


def acquired(folder: Path) -> RunLock:
    lock = RunLock(folder)
    lock.acquire()
    return lock


def write_lock(folder: Path, content: Mapping[str, object]) -> None:
    (folder / "lock").write_text(json.dumps(content))


def test_a_second_process_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    lock = acquired(tmp_path)
    with pytest.raises(Busy, match=f"process {os.getpid()}"):
        acquired(tmp_path)
    lock.release()
    acquired(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_the_lock_of_a_dead_process_of_this_host_is_acquired_at_once(tmp_path: Path) -> None:
    script = (
        f"from pathlib import Path; from ssl_pkg.run.lock import RunLock; RunLock(Path({str(tmp_path)!r})).acquire()"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
    assert (tmp_path / "lock").exists()
    acquired(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_a_reused_process_number_does_not_count_as_the_dead_holder(tmp_path: Path) -> None:
    write_lock(tmp_path, HERE | {"pid": os.getpid(), "start_time": "1", "token": "t"})
    acquired(tmp_path).release()


@pytest.mark.slow
@pytest.mark.parametrize("where", [{"host": "elsewhere"}, HERE | {"container": "other"}, HERE | {"boot": "namesake's"}])
def test_a_holder_elsewhere_counts_as_alive_while_it_sends_heartbeats(tmp_path: Path, where: dict[str, str]) -> None:
    write_lock(tmp_path, where | {"pid": os.getpid(), "start_time": "1", "token": "t"})
    beat = threading.Timer(0.7, os.utime, [tmp_path / "lock"])
    beat.start()
    with pytest.raises(Busy, match=f"process {os.getpid()} on {where['host']}"):
        acquired(tmp_path)
    beat.join()


@pytest.mark.slow
def test_a_holder_without_heartbeats_loses_the_lock_even_if_the_clocks_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_pkg.run.file_lock.STALE_SECONDS", 1.0)
    monkeypatch.setattr("time.time", lambda: 0.0)
    write_lock(tmp_path, {"host": "elsewhere", "pid": 1, "start_time": "1", "token": "t"})
    acquired(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_lost_the_lock_is_stopped_before_it_writes(tmp_path: Path) -> None:
    stale = acquired(tmp_path)
    stale.verify()
    write_lock(tmp_path, {"host": "elsewhere", "pid": 7, "start_time": "1", "token": "new"})
    with pytest.raises(Busy, match="taken over by process 7 on elsewhere"):
        stale.verify()
    stale.release()
    assert (tmp_path / "lock").exists()


def test_a_process_that_lost_the_lock_sends_no_more_heartbeats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ssl_pkg.run.file_lock.HEARTBEAT_SECONDS", 0.05)
    with locked(tmp_path / "lock"):
        write_lock(tmp_path, {"host": "elsewhere", "pid": 7, "start_time": "1", "token": "new"})
        time.sleep(0.1)  # a heartbeat may have begun before the lock was lost
        os.utime(tmp_path / "lock", (0, 0))
        time.sleep(0.3)
        assert (tmp_path / "lock").stat().st_mtime == 0


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EIO])
def test_a_lock_that_can_not_be_read_does_not_count_as_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    lock, read = acquired(tmp_path), Path.read_text
    for failing in ({0}, {0, 1}):
        reads = itertools.count()

        def read_text(path: Path, encoding: str, failing: set[int] = failing, reads: Iterator[int] = reads) -> str:
            if next(reads) in failing:
                raise OSError(number, os.strerror(number))
            return read(path, encoding=encoding)

        with monkeypatch.context() as changed:
            changed.setattr(Path, "read_text", read_text)
            with nullcontext() if len(failing) == 1 else pytest.raises(OSError, match=os.strerror(number)):
                lock.verify()
    lock.verify()


@pytest.mark.parametrize("dead_holder", [False, True])
def test_exactly_one_of_many_processes_that_start_at_once_gets_the_lock(tmp_path: Path, dead_holder: bool) -> None:
    if dead_holder:
        write_lock(tmp_path, HERE | {"pid": 2**22 + 1, "start_time": "1", "token": "dead"})
    assert acquire_at_once(tmp_path) == 1


def test_only_one_of_two_processes_that_find_the_claim_of_a_dead_process_removes_the_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second one judges the age of the claim, then is slow. Meanwhile the first one is about to remove the lock."""
    write_lock(tmp_path, HERE | {"pid": 2**22 + 1, "start_time": "1", "token": "dead"})
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    stat, unlink, busy = Path.stat, Path.unlink, []
    about_to_remove, second_is_done = threading.Event(), threading.Event()

    def acquire(lock: RunLock) -> None:
        try:
            lock.acquire()
        except Busy as error:
            busy.append(error)

    def die(path: Path, missing_ok: bool = False) -> None:
        if path == first.path:
            raise KeyboardInterrupt
        unlink(path, missing_ok=missing_ok)

    with monkeypatch.context() as changed, pytest.raises(KeyboardInterrupt):
        changed.setattr(Path, "unlink", die)
        RunLock(tmp_path).acquire()
    (claim,) = tmp_path.glob("*.claim")
    os.utime(claim, (0, 0))
    thread = threading.Thread(target=acquire, args=(first,))

    def slow_stat(path: Path, **options: bool) -> os.stat_result:
        found = stat(path, **options)
        if path == claim and threading.current_thread() is not thread and not thread.ident:
            thread.start()
            assert about_to_remove.wait(30)
        return found

    def slow_unlink(path: Path, missing_ok: bool = False) -> None:
        if path == first.path and threading.current_thread() is thread:
            about_to_remove.set()
            second_is_done.wait(0.5)  # times out, because it must not be done
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "stat", slow_stat)
    monkeypatch.setattr(Path, "unlink", slow_unlink)
    acquire(second)
    second_is_done.set()
    thread.join()
    assert (first.is_held(), second.is_held(), len(busy)) == (True, False, 1)
    assert [file.name for file in tmp_path.iterdir()] == ["lock"]


@pytest.mark.parametrize(("start", "takes_over"), [("0", True), ("1", True), ("2", False), ("3", False)])
def test_a_requeued_job_takes_the_lock_over_from_its_earlier_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str, takes_over: bool
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    monkeypatch.setenv("SLURM_RESTART_COUNT", start)
    earlier = acquired(tmp_path)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    if not takes_over:
        with pytest.raises(Busy):
            acquired(tmp_path)
        return
    later = acquired(tmp_path)
    assert later.is_held()
    with pytest.raises(Busy, match="was taken over by"):
        earlier.verify()
    earlier.release()
    assert later.is_held()


def test_another_job_does_not_take_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    acquired(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    with pytest.raises(Busy):
        acquired(tmp_path)


def test_a_directory_with_only_the_drafts_of_killed_processes_is_accepted_as_a_run(tmp_path: Path) -> None:
    (tmp_path / ".lock.0123456789abcdef").write_text("{}")
    (tmp_path / ".lock.0123456789abcdef.claim").touch()
    lock = acquired(tmp_path)
    lock.remove_unfinished_files()
    assert [file.name for file in tmp_path.iterdir()] == ["lock"]
    lock.release(remove=True)
    assert list(tmp_path.iterdir()) == []  # it was there before


@pytest.mark.parametrize("name", ["thesis.tex", ".git", ".locksmith"])
def test_a_folder_with_other_files_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(BadInput, match="not a run"):
        acquired(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_removable_directory_is_removed_while_the_lock_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    lock, removed, rmtree = acquired(folder), [], shutil.rmtree
    (folder / "tensorboard").mkdir()
    (folder / "config.yaml").touch()

    def remove(entry: Path) -> None:
        with pytest.raises(Busy):
            acquired(folder)
        removed.append(entry.name)
        rmtree(entry)

    monkeypatch.setattr("shutil.rmtree", remove)
    lock.release(remove=True)
    assert removed == ["tensorboard"]
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_another_process_took_over_is_not_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    stale = acquired(folder)
    write_lock(folder, {"host": "elsewhere", "pid": 7, "start_time": "1", "token": "new"})
    (folder / "config.yaml").touch()
    stale.release(remove=True)
    assert sorted(file.name for file in folder.iterdir()) == ["config.yaml", "lock"]


def test_processes_that_create_and_remove_one_directory_do_not_disturb_each_other(tmp_path: Path) -> None:
    taken, faults = [], []

    def again_and_again() -> None:
        for _ in range(300):
            try:
                acquired(tmp_path / "run").release(remove=True)
                taken.append(1)
            except Busy:
                continue
            except BaseException as fault:
                faults.append(fault)
                raise

    threads = [threading.Thread(target=again_and_again) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert taken
