"""Small trainings as real processes, and comparison of run directories: helpers of the fault tests."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from forked import Forked, start
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ssl_pkg.errors import COMPLETE
from ssl_pkg.run.checkpoint import load_checkpoint
from ssl_pkg.run.directory import CLOCK_FIELDS

LONG = os.environ.get("FAULTS") == "long"
METHODS = ("simclr", "byol", "moco")
SMALL = (
    "budget=tiny", "threads=1", "budget.ssl_batch_size=16", "log_every=3",
    "checkpoint.epochs=1",
)  # fmt: skip
OF_STAGE = {
    "stage=finetune": ("finetune.batch_size=16", "finetune.base_lrs=[0.001,0.0003]"),
    "stage=width": ("width.images=20",),
}


def exists_within(seconds: float, file: Path, trainer: Forked) -> bool:
    """Waits until the file exists, up to a limit and while the trainer runs. Returns whether the file exists."""
    end = time.monotonic() + seconds
    while not file.exists() and time.monotonic() < end and not trainer.ends_within(0.001):
        pass
    return file.exists()


def differences(one: Path, other: Path) -> list[str]:
    """The differences between two run directories, without clock times. Empty for equal runs."""
    pairs = {
        "files": (_files(one), _files(other)),
        "result.json": (_without_clock(_json(one / "result.json")), _without_clock(_json(other / "result.json"))),
        "metrics.jsonl": (_metrics(one), _metrics(other)),
        "tensorboard": (_tensorboard(one), _tensorboard(other)),
    }
    found = [name for name, (a, b) in pairs.items() if a != b]
    for file in sorted((*one.glob("*.safetensors"), *one.glob("*.npz"))):
        if not (other / file.name).exists() or file.read_bytes() != (other / file.name).read_bytes():
            found.append(file.name)
    states = [_without_clock(load_checkpoint(folder / "checkpoints") or {}) for folder in (one, other)]
    return found + list(_unequal(*states, where="checkpoint"))


def _files(folder: Path) -> list[str]:
    """The names of files in the run directory, without those that depend on the number of starts."""
    names = {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}
    return sorted(name for name in names if not name.startswith(("checkpoints/step-", "tensorboard/")))


def _without_clock(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in content.items() if name not in CLOCK_FIELDS}


def _json(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_bytes()))


def _metrics(folder: Path) -> list[str]:
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.dumps(_without_clock(json.loads(line))) for line in lines]


def _tensorboard(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def _unequal(one: Any, other: Any, where: str) -> Iterator[str]:
    """The keys at which two states of a training differ in any bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor) and one.dtype == other.dtype:
        if not torch.equal(one, other):
            yield where
    elif isinstance(one, Mapping) and isinstance(other, Mapping) and list(one) == list(other):
        for key in one:
            yield from _unequal(one[key], other[key], f"{where}.{key}")
    elif isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other, strict=True)):
            yield from _unequal(*pair, where=f"{where}.{number}")
    elif type(one) is not type(other) or isinstance(one, torch.Tensor | Mapping | list | tuple) or one != other:
        yield where


class Study:
    """The command lines of the tests' runs, and their results without an interruption."""

    def __init__(self, root: Path, data: Path) -> None:
        self._root, self._data = root, data
        self.seconds: dict[str, float] = {}

    def line(self, target: str, run_dir: Path, *more: str) -> list[str]:
        """The command line of `target`: a method to pretrain, or a stage."""
        if target in METHODS:
            what = ["stage=pretrain", f"method={target}"]
        else:
            source = {"finetune": "simclr", "width": "finetune"}[target]
            what = [f"stage={target}", f"source={self.uninterrupted(source)}"]
        own = [option for word in what for option in OF_STAGE.get(word, ())]
        return [*SMALL, *own, *what, f"data.root={self._data}", f"run_dir={run_dir}", *more]

    def uninterrupted(self, target: str) -> Path:
        """The run directory of the uninterrupted run, which is made once for all tests."""
        folder = self._root / "uninterrupted" / target
        if target not in self.seconds:
            folder.parent.mkdir(exist_ok=True)
            line, begun = self.line(target, folder), time.monotonic()
            (trainer,) = start(line)
            assert trainer.status() == COMPLETE, trainer.stderr()
            self.seconds[target] = time.monotonic() - begun
        return folder
