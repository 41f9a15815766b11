import json
import multiprocessing
import os
import socket
import subprocess
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from ssl_pkg.errors import Busy
from ssl_pkg.training.owner import STALE_SECONDS, Owner


def test_a_second_process_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    owner = Owner(tmp_path)
    with pytest.raises(Busy, match=f"process {os.getpid()}"):
        Owner(tmp_path)
    owner.release()
    Owner(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_a_dead_process_of_this_host_is_succeeded_at_once(tmp_path: Path) -> None:
    script = f"from pathlib import Path; from ssl_pkg.training.owner import Owner; Owner(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", script], check=True)
    assert (tmp_path / "owner").exists()
    Owner(tmp_path).release()
    assert list(tmp_path.iterdir()) == []


def test_a_reused_process_number_is_not_taken_for_the_dead_owner(tmp_path: Path) -> None:
    content = {"host": socket.gethostname(), "pid": os.getpid(), "born": "1", "token": "t"}
    (tmp_path / "owner").write_text(json.dumps(content))
    Owner(tmp_path).release()


def test_an_owner_on_another_host_is_believed_as_long_as_its_heart_beats(tmp_path: Path) -> None:
    (tmp_path / "owner").write_text(json.dumps({"host": "elsewhere", "pid": 1, "born": "1", "token": "t"}))
    with pytest.raises(Busy, match="elsewhere"):
        Owner(tmp_path)
    long_ago = time.time() - STALE_SECONDS - 1
    os.utime(tmp_path / "owner", (long_ago, long_ago))
    Owner(tmp_path).release()


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
        content = {"host": socket.gethostname(), "pid": 2**22 + 1, "born": "1", "token": "dead"}
        (tmp_path / "owner").write_text(json.dumps(content))
    context = multiprocessing.get_context("spawn")
    start, won = context.Barrier(4), context.Queue()
    racers = [context.Process(target=_race, args=(tmp_path, start, won)) for _ in range(4)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert sum(won.get() for _ in racers) == 1
