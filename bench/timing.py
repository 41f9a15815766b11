"""Times variants of a computation in turn, because a machine's speed can drift during a benchmark."""

import argparse
import math
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from rich.console import Console
from rich.progress import Progress

from ssl_pkg.errors import BAD_INPUT, INTERRUPTED, BadInput
from ssl_pkg.hardware.device import name_of

SHORTEST: Final = 1.0  # seconds of a timing, at least, because a GPU's step takes only milliseconds


@dataclass
class Variant:
    """A computation to be timed.

    settle: number of steps before each timing, which use up the batches that a DataLoader prefetched while other
    variants were timed.
    """

    name: str
    step: Callable[[], object]
    amount: float  # of images, pairs, views or FLOP per step
    steps: int = 2  # per timing, at least; more if they take less than SHORTEST
    settle: int = 0
    rates: list[float] = field(default_factory=list)  # of each timing, amount per second

    @property
    def rate(self) -> float:
        """The median of the timings, amount per second."""
        return statistics.median(self.rates)


def measure(variants: Sequence[Variant], rounds: int, title: str) -> None:
    """Makes two untimed steps of each variant, then times all variants in turn for `rounds` rounds."""
    with progress_bar() as progress:
        bar = progress.add_task(title, total=(rounds + 1) * len(variants))
        for round_number in range(rounds + 1):
            for variant in variants:
                progress.update(bar, description=f"{title}: {variant.name}")
                if round_number == 0:
                    variant.step()  # compiles
                    variant.steps = max(variant.steps, math.ceil(SHORTEST / _seconds(variant, 1)))
                else:
                    _seconds(variant, variant.settle)
                    variant.rates.append(variant.steps * variant.amount / _seconds(variant, variant.steps))
                progress.advance(bar)


def _seconds(variant: Variant, steps: int) -> float:
    finish()
    start = time.perf_counter()
    for _ in range(steps):
        variant.step()
    finish()
    return time.perf_counter() - start


def progress_bar() -> Progress:
    """A transient progress bar on stderr. Its speed estimate covers 600 s, because a variant can take over 30 s."""
    return Progress(console=Console(stderr=True), speed_estimate_period=600, transient=True)


def exit_status(main: Callable[[], int]) -> int:
    """Runs a benchmark's `main`; returns its exit status. Prints one sentence for wrong input (2) and signals (75)."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that SIGTERM also ends the child processes
    try:
        return main()
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("Interrupted; nothing was written.", file=sys.stderr)
        return INTERRUPTED


@contextmanager
def pretraining(line: list[str], log: Path, *environments: dict[str, str]) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Context manager that runs `python -m ssl_pkg` with these arguments, once for each environment.

    The processes are terminated when the block ends. Their stderr goes to `log`, which is printed if the block raises.
    """
    with log.open("ab") as out:
        command = [sys.executable, "-m", "ssl_pkg", *line]
        ranks = [subprocess.Popen(command, env=environment, stderr=out) for environment in environments]
        try:
            yield ranks
        except Exception:
            print(log.read_text(encoding="utf-8", errors="replace"), file=sys.stderr)
            raise
        finally:
            for rank in ranks:
                rank.terminate()
            for rank in ranks:
                rank.wait()


def positive(text: str) -> int:
    """Parses a positive integer. Raises ArgumentTypeError for other texts."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is not a positive integer")
    return int(text)


def writable(text: str) -> Path:
    """Parses the path of an output file. Raises ArgumentTypeError if the file can't be written."""
    file = Path(text).resolve()
    try:
        if file.is_dir():
            raise IsADirectoryError
        with tempfile.TemporaryFile(dir=file.parent):
            return file
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} can't be written") from error


def write(file: Path, text: str) -> None:
    """Writes the results to `file`. Raises BadInput if that fails."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{file} can't be written ({error.strerror}): the results are printed above") from error
    print(f"written to {file}")


def finish() -> None:
    """Waits until the GPU, if any, has finished."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine() -> dict[str, Any]:
    """Describes the hardware and software of a measurement."""
    capabilities = torch.cpu.get_capabilities()
    return {
        "cpu": name_of(torch.device("cpu")),
        "cores": torch.get_num_threads(),
        "amx": bool(capabilities.get("amx_bf16")),
        "avx512_bf16": bool(capabilities.get("avx512_bf16")),
        "jemalloc": "jemalloc" in os.environ.get("LD_PRELOAD", ""),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
    }
