"""`make bench-scale`: how time and memory depend on the size of the data set and on the number of processes.

    100,000 and 1,000,000 images   a file in STL-10's layout, read batch by batch: seconds from the start of the
                                   process to the first batch, and peak memory after some steps
    1 and 2 processes              the same pretraining with the same batch on all cores: pairs per second in total

Prints two tables. Needs little disk space, because the large file is sparse.
"""

from ssl_pkg.extras import require_or_exit

if __name__ == "__main__":
    require_or_exit("train")

import argparse
import json
import os
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.ours import BATCH, build, configuration
from bench.timing import exit_status, pretraining, progress_bar
from ssl_pkg.data.dataset import open_dataset
from ssl_pkg.layout import IMAGE_BYTES, STL10
from ssl_pkg.training.step import Step

COUNTS: Final = (100_000, 1_000_000)
STEPS: Final = 12


def main() -> int:
    """Measures and prints both tables."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--resolution", type=int, default=96)
    # set for child processes, which measure one data set
    parser.add_argument("--only", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        print(json.dumps(_measured(options.only, options.resolution)))
        return 0
    synthetic = Path(open_dataset(configuration("simclr", "synthetic", options.resolution).data).manifest["root"])
    sizes = Table("images", "file", "start", "peak memory", title="Data set on disk")
    processes = Table("processes", "pairs per second", title=f"SimCLR, {options.resolution} px, batches of {BATCH}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with progress_bar() as progress:
            for count in progress.track(COUNTS, description="data sets"):
                root = _sparse(synthetic, folder / str(count), count)
                line = ["-m", "bench.scale", "--resolution", str(options.resolution), "--only", str(root)]
                started = time.monotonic()
                child = subprocess.run(
                    [sys.executable, *line], check=True, stdout=subprocess.PIPE, encoding="utf-8", errors="replace"
                )
                found, size = json.loads(child.stdout), count * IMAGE_BYTES / 1e9
                start, peak = found["ready"] - started, found["peak_gb"]
                sizes.add_row(f"{count:,}", f"{size:.1f} GB", f"{start:.1f} s", f"{peak:.2f} GB")
        Console().print(sizes)
        with progress_bar() as progress:
            for number in progress.track((1, 2), description="processes"):
                rate = _throughput(number, synthetic, folder / f"by-{number}", options.resolution)
                processes.add_row(str(number), f"{rate:.1f}")
        Console().print(processes)
    return 0


def _sparse(synthetic: Path, root: Path, count: int) -> Path:
    """Copies the synthetic set, with `count` black unlabeled images in a sparse file that takes no disk space."""
    shutil.copytree(synthetic, root, ignore=shutil.ignore_patterns("unlabeled_X.bin"))
    with (root / STL10 / "unlabeled_X.bin").open("wb") as out:
        out.truncate(count * IMAGE_BYTES)
    return root


def _measured(root: Path, resolution: int) -> dict[str, float]:
    task, hardware = build(configuration("simclr", root, resolution, "data.resident_gb=0"))
    task.batch(0)
    ready = time.monotonic()  # the clock is common to all processes
    advance = Step(task, hardware)
    for step in range(STEPS):
        advance(step)
    return {"ready": ready, "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9}


def _throughput(number: int, data: Path, folder: Path, resolution: int) -> float:
    """Pairs per second of a pretraining by `number` processes that share the cores, without the first steps."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        rendezvous = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    line = ["stage=pretrain", "method=simclr", "budget=full", "log_every=1"]
    line += [f"budget.resolution={resolution}", f"method.batch_size={BATCH}", f"budget.max_steps={STEPS}"]
    line += [f"data.root={data}", f"run_dir={folder}"]
    environments = []
    for rank in range(number):
        variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": number, "LOCAL_WORLD_SIZE": number}
        environment = os.environ | rendezvous | {name: str(value) for name, value in variables.items()}
        environments.append(environment)
    with pretraining(line, folder.with_suffix(".log"), *environments) as ranks:
        while not any(states := [rank.poll() for rank in ranks]) and None in states:
            time.sleep(0.2)
        if any(states):
            raise RuntimeError(f"a pretraining by {number} processes failed with exit statuses {states}")
    times = [
        json.loads(text)["seconds"] for text in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    return float(BATCH / statistics.median(after - before for before, after in pairwise(times[2:])))


if __name__ == "__main__":
    sys.exit(exit_status(main))
