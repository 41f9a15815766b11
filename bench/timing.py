"""Variants of a piece of work, measured in turn: where a machine's speed drifts, neighbours in time can be compared."""

import argparse
import math
import os
import platform
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

SHORTEST: Final = 1.0  # seconds of a window: a GPU's steps take some milliseconds


@dataclass
class Variant:
    """Something that is done again and again.

    settle: how often it is done at the start of a window before the clock runs: a loader that worked ahead while others
    were measured has used that up by then.
    """

    name: str
    step: Callable[[], object]
    amount: float  # of images, pairs, views, FLOP that one step handles
    steps: int = 2  # in a window, at least; as many as fill SHORTEST
    settle: int = 0
    rates: list[float] = field(default_factory=list)  # of each window, amount a second

    @property
    def rate(self) -> float:
        """The median window's."""
        return statistics.median(self.rates)


def measure(variants: Sequence[Variant], windows: int, title: str) -> None:
    """Two uncounted steps of each variant, then `windows` rounds in which each has its window."""
    with progress_bar() as progress:
        bar = progress.add_task(title, total=(windows + 1) * len(variants))
        for round_number in range(windows + 1):
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
    """On stderr, gone at its end. Some variants take longer than the 30 seconds in which rich looks for the pace."""
    return Progress(console=Console(stderr=True), speed_estimate_period=600, transient=True)


def told(main: Callable[[], int]) -> int:
    """The exit status of a benchmark's `main`. Wrong input (2) and signals (75) are told in a sentence."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that it ends what it started
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
    """`python -m ssl_pkg` with this command line, once in each environment; ended with the block.

    What they say goes into `log`, and to stderr if the block raises an error.
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
    """An option's whole number above 0. Raises ArgumentTypeError for others."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)


def writable(text: str) -> Path:
    """An option's file, which is written at the end. Raises ArgumentTypeError if it can't be."""
    file = Path(text).resolve()
    try:
        if file.is_dir():
            raise IsADirectoryError
        with tempfile.TemporaryFile(dir=file.parent):
            return file
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{text} can't be written") from error


def write(file: Path, text: str) -> None:
    """Writes what was measured and says so. Raises BadInput if it can't."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{file} can't be written ({error.strerror}): what was measured stands above") from error
    print(f"written to {file}")


def finish() -> None:
    """Waits for the device."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def machine() -> dict[str, Any]:
    """What a figure was measured on."""
    model = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    abilities = torch.cpu.get_capabilities()
    return {
        "cpu": model[0] if model else platform.processor(),
        "cores": torch.get_num_threads(),
        "amx": bool(abilities.get("amx_bf16")),
        "avx512_bf16": bool(abilities.get("avx512_bf16")),
        "jemalloc": "jemalloc" in os.environ.get("LD_PRELOAD", ""),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
    }


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
