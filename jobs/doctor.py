"""`ssl-study doctor`: what this machine has, and what a run on it will use. Imports no torch; a child process does."""

import importlib.metadata
import json
import math
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table
from rich.text import Text

from jobs.cluster.container import BACKENDS
from jobs.cluster.limits import cluster_config
from jobs.cluster.profile_check import COMMANDS
from jobs.cluster.slurm_cli import SchedulerUnavailable
from jobs.local.slots import slots
from jobs.plan.settings import configure
from ssl_pkg.cache import user_cache
from ssl_pkg.errors import COMPLETE, FAULT
from ssl_pkg.hardware.machine import affinity, cores, gpus, memory, quota
from ssl_pkg.hardware.memory import find_jemalloc

DISK_GB: Final = 3  # of the runs of a demo with their checkpoints
MEMORY_GB: Final = (3, 6)  # of a pretraining on the CPU at 96 px: without the images, and with STL-10's


class Level(StrEnum):
    """How a finding affects a run."""

    OK = "ok"
    NOTE = "note"
    WRONG = "wrong"  # a run will fail, or will be much slower than the machine


class Finding(NamedTuple):
    """One line of the doctor's report."""

    level: Level
    part: str
    text: str


_STYLES: Final = {Level.OK: "green", Level.NOTE: "yellow", Level.WRONG: "bold red"}


def print_findings(runs: Path) -> int:
    """Prints all findings. Returns the exit status: 1 if something is wrong, otherwise 0. runs: folder of the runs."""
    found = list(findings(runs))
    console = Console(highlight=False)
    if console.is_terminal:
        table = Table.grid(padding=(0, 2))
        for level, part, text in found:
            table.add_row(Text(level, _STYLES[level]), part, Text(text, overflow="fold"))
        console.print(table)
    else:
        print("\n".join(f"{level:5}  {part:10}  {text}" for level, part, text in found))
    return FAULT if any(finding.level is Level.WRONG for finding in found) else COMPLETE


def findings(runs: Path) -> Iterator[Finding]:
    """What this machine has, one finding for each part, and last what a study on it will use."""
    yield Finding(Level.OK, "Python", f"{platform.python_version()} ({sys.executable})")
    yield _disk("disk", runs)
    yield _disk("cache", user_cache())
    yield _memory()
    yield _cores()
    device = _device()
    yield from device.findings
    library = find_jemalloc()
    lacking = "not found, so runs need up to twice the memory: install it (Debian: libjemalloc2)"
    yield Finding(Level.OK, "jemalloc", str(library)) if library else Finding(Level.NOTE, "jemalloc", lacking)
    yield _slurm()
    engines = [name for name in BACKENDS if shutil.which(name)]
    yield Finding(Level.OK, "container", ", ".join(engines) or "no engine, which only `docker run` and containers need")
    yield _report()
    yield device.use


class _Device(NamedTuple):
    """Findings about the GPUs, the precision and the compiler, and what a study will use."""

    findings: list[Finding]
    use: Finding


def _device() -> _Device:
    if find_spec("torch") is None:
        text = "not installed, so this machine can submit a study to a cluster, but not run one"
        return _Device([Finding(Level.NOTE, "PyTorch", text)], Finding(Level.NOTE, "a study", "can't run here"))
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ssl_pkg.hardware.device"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        return _Device([Finding(Level.WRONG, "GPU", last)], Finding(Level.WRONG, "a study", "does not start: see GPU"))
    facts: dict[str, Any] = json.loads(done.stdout)
    on_gpu = facts["device"] == "cuda"
    found = [Finding(Level.OK, "PyTorch", facts["torch"]), _gpu(facts)]
    precision = facts["precision"]
    if precision == "float32":
        found.append(Finding(Level.NOTE, "precision", "float32, because this processor does not multiply bfloat16"))
    else:
        found.append(Finding(Level.OK, "precision", precision))
    lacking = facts["lacks_for_compile"]
    if lacking:
        level = Level.WRONG if on_gpu else Level.NOTE
        consequence = "pretraining needs it: install it, or give compile=never" if on_gpu else "only GPUs need it"
        found.append(Finding(level, "compiler", f"{lacking} is missing; {consequence}"))
    else:
        found.append(Finding(Level.OK, "compiler", "a C compiler and Python's headers"))
    places = slots(configure("demo", data=None, seeds=None, overrides=[]).study.cpus, use_gpus=True)
    each = "one GPU" if on_gpu else "the CPU"
    threads = f"{places[0].threads} thread{'s' * (places[0].threads > 1)}"
    text = f"runs {len(places)} stage{'s' * (len(places) > 1)} at a time, each with {each} in {precision} and {threads}"
    return _Device(found, Finding(Level.OK, "a study", text))


def _gpu(facts: dict[str, Any]) -> Finding:
    if facts["device"] == "cuda":
        return Finding(Level.OK, "GPU", f"{len(gpus()) or 1} x {facts['name']}")
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return Finding(Level.NOTE, "GPU", f"none visible, by CUDA_VISIBLE_DEVICES: runs use the CPU, {facts['name']}")
    if _gpu_on_the_bus():
        why = "its driver is missing (in a container: --gpus all)"
        return Finding(Level.WRONG, "GPU", f"this machine has an NVIDIA GPU, but runs use the CPU, because {why}")
    return Finding(Level.NOTE, "GPU", f"none: runs use the CPU, {facts['name']}")


def _gpu_on_the_bus(root: Path = Path("/")) -> bool:
    """Whether the PCI bus has a display controller or an accelerator by NVIDIA, also without a driver."""
    for device in (root / "sys/bus/pci/devices").glob("*"):
        try:
            vendor, kind = ((device / name).read_text(encoding="ascii").strip() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor == "0x10de" and kind.startswith("0x03"):
            return True
    return False


def _disk(part: str, folder: Path) -> Finding:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free < DISK_GB:
        return Finding(Level.WRONG, part, f"{free:.1f} GB are free in {folder.absolute()}, and a demo needs {DISK_GB}")
    return Finding(Level.OK, part, f"{free:.0f} GB are free in {folder.absolute()}")


def _memory(root: Path = Path("/")) -> Finding:
    total, limit = memory(root)
    size = min(total, limit) / 2**30
    text = f"{size:.1f} GiB" + (f", the cgroup's limit; the machine has {total / 2**30:.1f}" if limit < total else "")
    demo, full = MEMORY_GB
    if size < demo:
        return Finding(Level.WRONG, "memory", f"{text}; a pretraining needs {demo}")
    if size < full:
        return Finding(Level.NOTE, "memory", f"{text}; a pretraining on STL-10 needs {full}")
    return Finding(Level.OK, "memory", text)


def _cores(root: Path = Path("/")) -> Finding:
    allowed, limit = affinity(), quota(root)
    text = f"{cores(root)} used; this process may use {allowed}, and its cgroup "
    if limit == math.inf:
        return Finding(Level.OK, "cores", f"{text}has no limit")
    return Finding(Level.OK if limit >= 1 else Level.WRONG, "cores", f"{text}allows {limit:g}")


def _slurm() -> Finding:
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if len(missing) == len(COMMANDS):
        return Finding(Level.OK, "SLURM", "not installed; only `ssl-study submit` needs it")
    if missing:
        return Finding(Level.NOTE, "SLURM", f"{', '.join(missing)} not found, but other commands of SLURM: check PATH")
    try:
        config = cluster_config()
    except SchedulerUnavailable as error:
        return Finding(Level.NOTE, "SLURM", f"`ssl-study submit` can't work: {error}")
    return Finding(Level.OK, "SLURM", f"{config.get('SLURM_VERSION', '')} on cluster {config.get('ClusterName', '?')}")


def _report() -> Finding:
    if find_spec("typst") is None:
        return Finding(Level.NOTE, "report", "its packages are not installed: `make report` does not work here")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("typst", "matplotlib")]
    return Finding(Level.OK, "report", f"{' and '.join(versions)}, with their own fonts")
