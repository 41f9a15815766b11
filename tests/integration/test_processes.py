"""Runs of several processes resume exactly, and no rank waits for a dead one."""

import json
import os
import random
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import forked
import pytest
import torch.distributed
from forked import Forked

from ssl_pkg.distributed import process_group, watchdog
from ssl_pkg.distributed.process_info import process_info

LONG = os.environ.get("FAULTS") == "long"
LINE = ("stage=pretrain", "budget=tiny", "threads=1", "precision=float32", "budget.max_steps=12")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "--max-restarts=1")
Ranks = list[Forked]


@pytest.fixture
def started() -> Iterator[Ranks]:
    """The processes that a test starts; they are killed at its end."""
    processes: Ranks = []
    yield processes
    for process in processes:
        process.send(signal.SIGKILL)
        process.status()


def line_of(data: Path, folder: Path, method: str, *more: str) -> list[str]:
    return [*LINE, f"method={method}", f"data.root={data}", f"run_dir={folder}", *more]


def start(data: Path, folder: Path, method: str, started: Ranks, *more: str, ranks: int = 2) -> Ranks:
    """Starts the ranks of one training without torchrun, which would stop the other ranks when one dies."""
    line = line_of(data, folder, method, *more)
    started += forked.start(*[line] * ranks, environments=variables_of(ranks))
    return started[-ranks:]


def variables_of(ranks: int) -> list[dict[str, str]]:
    """The environment variables of each rank, which torchrun would set."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    variables = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": ranks, "LOCAL_WORLD_SIZE": ranks}
    return [
        {name: str(value) for name, value in {**variables, "RANK": rank, "LOCAL_RANK": rank}.items()}
        for rank in range(ranks)
    ]


def ended(processes: Ranks, seconds: float = 120) -> list[int]:
    end = time.monotonic() + seconds
    return [process.status(max(0.1, end - time.monotonic())) for process in processes]


def wait_for_step(folder: Path, step: int) -> None:
    for _ in range(3600):
        if f'"step": {step},' in _text(folder):
            return
        time.sleep(0.05)
    raise AssertionError(f"step {step} was not reached")


def _text(folder: Path) -> str:
    file = folder / "metrics.jsonl"
    return file.read_text() if file.exists() else ""


def digests(folder: Path) -> tuple[str, str]:
    result = json.loads((folder / "result.json").read_text())
    return result["weights_sha256"], result["metrics_sha256"]


def steps(folder: Path) -> list[int]:
    return [json.loads(line)["step"] for line in _text(folder).splitlines()]


def kill_one(ranks: Ranks, folder: Path, chance: random.Random) -> bool:
    """Kills a rank some time after the ranks have connected; returns whether this stopped the run before its end."""
    begun, status = time.time(), folder / "status"
    while not status.exists() or json.loads(status.read_text())["heartbeat"] < begun:
        time.sleep(0.05)
    time.sleep(chance.uniform(0, 3))
    killed, other = chance.sample(ranks, 2)
    killed.send(signal.SIGKILL)
    assert killed.status(10) in (0, -signal.SIGKILL)
    return ended([other], seconds=30)[0] not in (0, 75)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("method", ["simclr", "byol", "moco"] if LONG else ["simclr", "moco"])
def test_two_ranks_that_are_interrupted_and_killed_end_with_the_same_bits(
    method: str, tmp_path: Path, data: Path, started: Ranks
) -> None:
    assert ended(start(data, tmp_path / "whole", method, started)) == [0, 0]

    folder = tmp_path / "broken"
    ranks = start(data, folder, method, started)
    wait_for_step(folder, 2)
    ranks[1].send(signal.SIGTERM)
    assert ended(ranks) == [75, 75]

    chance = random.Random(method)
    for _ in range(5 if LONG else 1):
        while not kill_one(start(data, folder, method, started), folder, chance):
            assert ended(start(data, folder, method, started)) == [
                0,
                0,
            ]  # the rank may have been killed after its last step
            assert digests(folder) == digests(tmp_path / "whole")
            shutil.rmtree(folder)

    assert ended(start(data, folder, method, started)) == [0, 0]
    assert digests(folder) == digests(tmp_path / "whole")


@pytest.mark.timeout(600)
def test_two_ranks_in_bfloat16_end_with_the_same_bits_after_an_interruption(
    tmp_path: Path, data: Path, started: Ranks
) -> None:
    tiny = ("precision=bfloat16", "budget.max_steps=3", "log_every=1", "budget.ssl_batch_size=8")
    assert ended(start(data, tmp_path / "whole", "simclr", started, *tiny)) == [0, 0]
    ranks = start(data, tmp_path / "broken", "simclr", started, *tiny)
    wait_for_step(tmp_path / "broken", 1)
    ranks[0].send(signal.SIGTERM)
    assert ended(ranks) == [75, 75]
    assert ["run the same command again" in rank.stderr() for rank in ranks] == [True, False]
    ranks = start(data, tmp_path / "broken", "simclr", started, *tiny)
    assert ended(ranks) == [0, 0]
    assert ["is complete" in rank.stderr() for rank in ranks] == [True, False]
    assert digests(tmp_path / "broken") == digests(tmp_path / "whole")


@pytest.mark.skipif(not LONG, reason="only in the long form; the next test is the same without a training")
@pytest.mark.timeout(600)
def test_torchrun_can_restart_the_ranks_when_one_dies(tmp_path: Path, data: Path, started: Ranks) -> None:
    assert ended(start(data, tmp_path / "whole", "simclr", started)) == [0, 0]
    folder = tmp_path / "broken"
    line = [sys.executable, *TORCHRUN, "-m", "ssl_pkg", *line_of(data, folder, "simclr")]
    torchrun = subprocess.Popen(line, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_step(folder, 2)
        killed = json.loads((folder / "lock").read_text())["pid"]
        os.kill(killed, signal.SIGKILL)
        _, said = torchrun.communicate(timeout=240)
    finally:
        torchrun.kill()
    assert torchrun.returncode == 0, said
    assert str(killed) in said  # torchrun reports the dead process
    assert digests(folder) == digests(tmp_path / "whole")


RESTARTED = """
import os, pathlib, signal, time
import torch
from ssl_pkg.distributed import process_group
from ssl_pkg.distributed.process_info import process_info
rank, restarted = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"] == "1"
if rank == "1" and restarted:
    time.sleep(5)  # rank 0 would find the keys that rank 1 left in the store before the restart
with process_group.process_group(process_info()):
    if rank == "1" and not restarted:
        os.kill(os.getpid(), signal.SIGKILL)
    total = torch.ones(1)
    torch.distributed.all_reduce(total)
    pathlib.Path(f"sum-{rank}").write_text(str(int(total)))
"""


def test_ranks_restarted_by_torchrun_connect_only_to_each_other(tmp_path: Path) -> None:
    (tmp_path / "restarted.py").write_text(RESTARTED)
    line = [sys.executable, *TORCHRUN, "restarted.py"]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert [(tmp_path / f"sum-{rank}").read_text() for rank in (0, 1)] == ["2", "2"]


def lost_after_connecting(rank: int, number: int) -> int:
    watchdog.TIMEOUT_SECONDS = 3.0
    with process_group.process_group(process_info()):
        if torch.distributed.get_rank() == rank:
            os.kill(os.getpid(), number)
        time.sleep(60)
    return 0


@pytest.mark.parametrize(
    ("rank", "name", "sentence"),
    [
        (0, "SIGKILL", "the process that serves the TCPStore has exited"),
        (0, "SIGSTOP", "the process that serves the TCPStore has not answered"),
        (1, "SIGKILL", "rank 1 has sent no heartbeat"),
    ],
)
def test_a_rank_lost_right_after_connecting_stops_the_other(
    rank: int, name: str, sentence: str, started: Ranks
) -> None:
    started += [Forked(lost_after_connecting, rank, signal.Signals[name], environment=own) for own in variables_of(2)]
    other = started[1 - rank]
    assert ended([other], seconds=30) == [1]
    assert sentence in other.stderr()


def suspended() -> int:
    watchdog.TIMEOUT_SECONDS = 4.0
    with process_group.process_group(process_info()):
        time.sleep(16)
    return 0


def test_ranks_that_are_suspended_together_continue_together(started: Ranks) -> None:
    """SLURM suspends a job in this way for a job of higher priority."""
    started += [Forked(suspended, environment=own) for own in variables_of(2)]
    for seconds, number in ((4, signal.SIGSTOP), (8, signal.SIGCONT)):
        time.sleep(seconds)
        for rank in started:
            rank.send(number)
    assert ended(started, seconds=30) == [0, 0], [rank.stderr() for rank in started]


def test_three_ranks_end_with_the_same_bits_after_an_interruption(tmp_path: Path, data: Path, started: Ranks) -> None:
    """With three or more ranks, the order of summation depends on DDP's buckets."""
    line = ("budget.ssl_batch_size=48", "budget.max_steps=6", "log_every=1")
    assert ended(start(data, tmp_path / "whole", "simclr", started, *line, ranks=3)) == [0, 0, 0]
    ranks = start(data, tmp_path / "broken", "simclr", started, *line, ranks=3)
    wait_for_step(tmp_path / "broken", 2)
    ranks[2].send(signal.SIGTERM)
    assert ended(ranks) == [75, 75, 75]
    assert ended(start(data, tmp_path / "broken", "simclr", started, *line, ranks=3)) == [0, 0, 0]
    assert digests(tmp_path / "broken") == digests(tmp_path / "whole")


def test_a_stopped_rank_ends_the_others_within_thirty_seconds(tmp_path: Path, data: Path, started: Ranks) -> None:
    ranks = start(data, tmp_path, "byol", started)
    wait_for_step(tmp_path, 2)
    ranks[1].send(signal.SIGSTOP)
    assert ended(ranks[:1], seconds=30) == [1]
    assert "rank 1 has sent no heartbeat" in ranks[0].stderr()


def test_an_interruption_with_a_full_disk_gives_status_1_on_all_ranks(
    tmp_path: Path, data: Path, started: Ranks
) -> None:
    ranks = start(data, tmp_path, "simclr", started)
    wait_for_step(tmp_path, 2)
    resource.prlimit(ranks[0].pid, resource.RLIMIT_FSIZE, (2**20, resource.RLIM_INFINITY))
    ranks[1].send(signal.SIGTERM)
    assert ended(ranks) == [1, 1]
    said = ranks[0].stderr()
    assert "no checkpoint of step" in said
    assert "free some space, then run the same command again" in said.splitlines()[-1]
    assert "Traceback" not in said


def test_a_run_of_two_ranks_resumes_with_one(tmp_path: Path, data: Path, started: Ranks) -> None:
    ranks = start(data, tmp_path, "simclr", started)
    wait_for_step(tmp_path, 2)
    ranks[0].send(signal.SIGUSR2)
    assert ended(ranks) == [75, 75]
    (single,) = start(data, tmp_path, "simclr", started, ranks=1)
    assert ended([single]) == [0]
    assert "the world size is 1 instead of 2" in single.stderr()
    assert steps(tmp_path) == sorted(set(steps(tmp_path)))
    assert steps(tmp_path)[-1] == 10  # two epochs of five steps


def test_a_batch_that_cannot_be_split_is_reported_by_each_rank_in_one_sentence(
    tmp_path: Path, data: Path, started: Ranks
) -> None:
    ranks = start(data, tmp_path / "run", "moco", started, ranks=3)
    assert ended(ranks) == [2, 2, 2]
    for rank in ranks:
        assert "must be a multiple of the world size 3" in rank.stderr()
    assert not (tmp_path / "run").exists()
