"""Several processes that acquire one run lock at the same moment: `python tests/lock_race.py FOLDER ROUNDS`."""

import multiprocessing
import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path

from ssl_pkg.errors import Busy
from ssl_pkg.run.lock import RunLock

RACERS = 4


def acquire_at_once(folder: Path) -> int:
    """How many of the processes got the lock. All of them end without releasing it."""
    context = multiprocessing.get_context("spawn")
    barrier, acquired = context.Barrier(RACERS), context.Queue()
    racers = [context.Process(target=_race, args=(folder, barrier, acquired)) for _ in range(RACERS)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    return sum(acquired.get(timeout=10) for _ in racers)


def _race(folder: Path, barrier: Barrier, acquired: "multiprocessing.Queue[int]") -> None:
    barrier.wait()
    try:
        RunLock(folder).acquire()
    except Busy:
        acquired.put(0)
    else:
        acquired.put(1)
    barrier.wait()  # the winner lives until all have asked


if __name__ == "__main__":
    for _ in range(int(sys.argv[2])):  # from the second round on, a dead process holds the lock
        assert acquire_at_once(Path(sys.argv[1])) == 1
