import json
import multiprocessing
import os
import shutil
import subprocess
import sys
import threading
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from ssl_pkg.errors import BadInput, Busy
from ssl_pkg.run import lock as owner_module
from ssl_pkg.run.lock import Owner, take


def test_a_second_process_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    with pytest.raises(Busy, match=f"process {os.getpid()}"):
        Owner(tmp_path)
    owner.give_free()
    Owner(tmp_path).give_free()
    assert list(tmp_path.iterdir()) == []


def test_a_dead_process_of_this_host_is_succeeded_at_once(tmp_path: Path) -> None:
    script = f"from pathlib import Path; from ssl_pkg.run.lock import Owner; Owner(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert (tmp_path / "owner").exists()
    Owner(tmp_path).give_free()
    assert list(tmp_path.iterdir()) == []


def test_a_reused_process_number_is_not_taken_for_the_dead_owner(tmp_path: Path) -> None:
    content = owner_module._identity() | {"pid": os.getpid(), "born": "1", "token": "t"}
    (tmp_path / "owner").write_text(json.dumps(content))
    Owner(tmp_path).give_free()


HERE = owner_module._identity()


@pytest.mark.parametrize("where", [{"host": "elsewhere"}, HERE | {"container": "other"}, HERE | {"boot": "namesake's"}])
def test_an_owner_that_cannot_be_asked_is_believed_when_its_heart_beats(tmp_path: Path, where: dict[str, str]) -> None:
    (tmp_path / "owner").write_text(json.dumps(where | {"pid": os.getpid(), "born": "1", "token": "t"}))
    beat = threading.Timer(0.7, os.utime, [tmp_path / "owner"])
    beat.start()
    with pytest.raises(Busy, match=f"process {os.getpid()} on {where['host']}"):
        Owner(tmp_path)
    beat.join()


def test_one_that_stays_silent_is_succeeded_also_when_the_clocks_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ssl_pkg.run.lock.STALE_SECONDS", 1.0)
    monkeypatch.setattr("time.time", lambda: 0.0)
    (tmp_path / "owner").write_text(json.dumps({"host": "elsewhere", "pid": 1, "born": "1", "token": "t"}))
    Owner(tmp_path).give_free()
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_was_succeeded_may_write_no_more(tmp_path: Path) -> None:
    stale = Owner(tmp_path)
    stale.verify()
    (tmp_path / "owner").write_text(json.dumps({"host": "elsewhere", "pid": 7, "born": "1", "token": "new"}))
    with pytest.raises(Busy, match="taken over by process 7 on elsewhere"):
        stale.verify()
    stale.give_free()
    assert (tmp_path / "owner").exists()


def _race(folder: Path, start: Barrier, won: "multiprocessing.Queue[int]") -> None:
    start.wait()
    try:
        Owner(folder)
    except Busy:
        won.put(0)
    else:
        won.put(1)
        time.sleep(0.5)


@pytest.mark.parametrize("dead_owner", [False, True])
def test_of_many_that_start_at_once_exactly_one_wins(tmp_path: Path, dead_owner: bool) -> None:
    if dead_owner:
        content = owner_module._identity() | {"pid": 2**22 + 1, "born": "1", "token": "dead"}
        (tmp_path / "owner").write_text(json.dumps(content))
    context = multiprocessing.get_context("spawn")
    start, won = context.Barrier(4), context.Queue()
    racers = [context.Process(target=_race, args=(tmp_path, start, won)) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sum(won.get() for _ in racers) == 1


@pytest.mark.parametrize(("start", "succeeded"), [("0", True), ("1", True), ("2", False), ("3", False)])
def test_a_job_that_was_started_anew_takes_over_from_its_earlier_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str, succeeded: bool
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    monkeypatch.setenv("SLURM_RESTART_COUNT", start)
    earlier = Owner(tmp_path)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    if not succeeded:
        with pytest.raises(Busy):
            Owner(tmp_path)
        return
    later = Owner(tmp_path)
    assert later.holds()
    with pytest.raises(Busy, match="was taken over by"):
        earlier.verify()
    earlier.give_free()
    assert later.holds()


def test_another_job_does_not_take_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "41")
    Owner(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "42")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    with pytest.raises(Busy):
        Owner(tmp_path)


def test_what_a_kill_in_the_first_moment_leaves_is_still_a_run_directory(tmp_path: Path) -> None:
    (tmp_path / ".owner.0123456789abcdef").write_text("{}")
    (tmp_path / ".owner.0123456789abcdef.burial").touch()
    owner = take(tmp_path)
    owner.sweep()
    assert [file.name for file in tmp_path.iterdir()] == ["owner"]
    owner.give_free(remove=True)
    assert list(tmp_path.iterdir()) == []  # it was there before


@pytest.mark.parametrize("name", ["thesis.tex", ".git", ".ownership"])
def test_a_folder_of_something_else_is_not_taken(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(BadInput, match="not a run"):
        take(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_a_folder_made_for_nothing_is_removed_while_it_is_owned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    owner, removed, rmtree = take(folder), [], shutil.rmtree
    (folder / "tensorboard").mkdir()
    (folder / "config.yaml").touch()

    def remove(entry: Path) -> None:
        with pytest.raises(Busy):
            take(folder)
        removed.append(entry.name)
        rmtree(entry)

    monkeypatch.setattr("shutil.rmtree", remove)
    owner.give_free(remove=True)
    assert removed == ["tensorboard"]
    assert list(tmp_path.iterdir()) == []


def test_a_folder_in_which_another_run_began_is_not_removed(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    stale = take(folder)
    (folder / "owner").write_text(json.dumps({"host": "elsewhere", "pid": 7, "born": "1", "token": "new"}))
    (folder / "config.yaml").touch()
    stale.give_free(remove=True)
    assert sorted(file.name for file in folder.iterdir()) == ["config.yaml", "owner"]


def test_processes_that_make_and_remove_one_folder_do_not_stumble_over_each_other(tmp_path: Path) -> None:
    taken, faults = [], []

    def again_and_again() -> None:
        for _ in range(300):
            try:
                take(tmp_path / "run").give_free(remove=True)
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
