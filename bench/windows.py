"""Variants of a piece of work, measured in turn: where a machine's speed drifts, neighbours in time can be compared."""

import argparse
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import torch
from rich.console import Console
from rich.progress import Progress

from ssl_pkg.errors import BAD_INPUT, BadInput
from ssl_pkg.training import memory

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
    with Progress(console=Console(stderr=True)) as progress:
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


def told(main: Callable[[], int]) -> int:
    """The exit status of a benchmark's `main`, 2 for wrong input, which is told in a sentence."""
    try:
        return main()
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT


def positive(text: str) -> int:
    """An option's whole number above 0. Raises ArgumentTypeError for others."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} is no whole number above 0")
    return int(text)


def writable(text: str) -> Path:
    """An option's file, which is written at the end. Raises ArgumentTypeError if its folder can't be written to."""
    if not os.access(Path(text).resolve().parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text} can't be written")
    return Path(text)


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
        "jemalloc": memory.jemalloc() is not None,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
    }


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return []
