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
from ssl_pkg.config.schema import SYNTHETIC
from ssl_pkg.errors import COMPLETE, FAULT
from ssl_pkg.hardware.machine import affinity, cores, gpus, memory, quota
from ssl_pkg.hardware.memory import find_jemalloc
from ssl_pkg.messages.counted import counted

DISK_GB: Final = 2  # of the runs of a demo: 0.9 at its end, and checkpoints while they are written
CACHE_GB: Final = 0.3  # of the synthetic set, which takes 0.2, and compiled code
# GiB of memory of a pretraining on the CPU, by study, as measured; stl10's includes its images.
MEMORY_GB: Final = {"demo": 1.5, "photos-quick": 2, "photos-cpu": 2, "photos": 3, "stl10": 6}
UNCONFIGURED: Final = "Could not establish a configuration source"  # SLURM's commands, if there is no slurm.conf


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
    yield _disk("disk", runs, DISK_GB, "the runs of a demo need", "give another --runs")
    yield _disk(
        "cache",
        user_cache(),
        CACHE_GB,
        "the demo's images and compiled code need",
        "set XDG_CACHE_HOME to another folder",
    )
    yield _memory()
    yield _cores()
    device = _device()
    yield from device.findings
    library = find_jemalloc()
    lacking = "not found, so runs need 1.3 to 1.6 times the memory: install it (Debian: libjemalloc2)"
    yield Finding(Level.OK, "jemalloc", str(library)) if library else Finding(Level.NOTE, "jemalloc", lacking)
    yield _slurm()
    engines = [name for name in BACKENDS if shutil.which(name)]
    yield Finding(Level.OK, "container", ", ".join(engines) or "no engine; only `docker run` and containers need one")
    yield _report()
    yield from device.use


class _Device(NamedTuple):
    """Findings about the GPUs, the precision and the compiler, and what a study will use."""

    findings: list[Finding]
    use: list[Finding]


def _device() -> _Device:
    if find_spec("torch") is None:
        text = "not installed, so this machine can submit a study to a cluster, but not run one"
        return _Device([Finding(Level.NOTE, "PyTorch", text)], [Finding(Level.NOTE, "a study", "can't run here")])
    done = subprocess.run(
        [sys.executable, "-P", "-m", "ssl_pkg.hardware.device"],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode:
        why = Finding(Level.WRONG, "GPU", done.stderr.strip().rpartition("\n")[2])
        return _Device([why], [Finding(Level.WRONG, "a study", "does not start: see GPU")])
    facts: dict[str, Any] = json.loads(done.stdout)
    on_gpu = facts["device"] == "cuda"
    found = [Finding(Level.OK, "PyTorch", facts["torch"]), _gpu(facts)]
    precision = facts["precision"]
    if precision == "float32":
        found.append(Finding(Level.NOTE, "precision", "float32, because this processor has no bfloat16 instructions"))
    else:
        found.append(Finding(Level.OK, "precision", precision))
    lacking = facts["lacks_for_compile"]
    if lacking:
        level = Level.WRONG if on_gpu else Level.NOTE
        consequence = "pretraining needs it: install it, or give compile=never" if on_gpu else "only GPUs need it"
        found.append(Finding(level, "compiler", f"{lacking} is missing; {consequence}"))
    else:
        found.append(Finding(Level.OK, "compiler", "a C compiler and Python's headers"))
    return _Device(found, list(_use(on_gpu, precision)))


def _use(on_gpu: bool, precision: str) -> Iterator[Finding]:
    """How many stages of each study run at a time, and whether the memory suffices; equal studies in one line."""
    size = min(memory()) / 2**30
    found: dict[tuple[Level, str], list[str]] = {}
    for study, each in MEMORY_GB.items():
        settings = configure(study, data=SYNTHETIC, seeds=None, overrides=[]).study
        places = slots(settings.cpus, use_gpus=True, runs_per_gpu=settings.runs_per_gpu)
        count, threads, fitting = len(places), places[0].threads, int(size // each)
        text = f"{counted(count, 'stage')} at a time, each with {'one GPU' if on_gpu else 'the CPU'} in "
        text += f"{precision} and {counted(threads, 'thread')}"
        level, trainings = Level.OK, min(count, len(settings.methods) * len(settings.seeds))
        if trainings > fitting and not on_gpu:
            remedy = f"give study.cpus={cores() // (fitting + 1) + 1}" if fitting else "this machine has too little"
            text += f"; its trainings need up to {trainings * each:g} GiB of memory: {remedy}"
            level = Level.WRONG if study == "demo" else Level.NOTE
        found.setdefault((level, text), []).append(study)
    for (level, text), names in found.items():
        yield Finding(level, "a study", f"{', '.join(names)}: {text}")


def _gpu(facts: dict[str, Any]) -> Finding:
    if facts["device"] == "cuda":
        return Finding(Level.OK, "GPU", f"{len(gpus()) or 1} x {facts['name']}")
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return Finding(Level.NOTE, "GPU", f"none visible, by CUDA_VISIBLE_DEVICES: runs use the CPU, {facts['name']}")
    if "SLURM_JOB_ID" in os.environ:
        text = f"none in this SLURM job, which --gres=gpu:1 may change: runs use the CPU, {facts['name']}"
        return Finding(Level.NOTE, "GPU", text)
    return Finding(Level.NOTE, "GPU", f"none: runs use the CPU, {facts['name']}")


def _disk(part: str, folder: Path, needed: float, need: str, remedy: str) -> Finding:
    folder = folder.absolute()
    # os.access, because Path.exists raises an error below a folder without permission
    existing = next(path for path in (folder, *folder.parents) if os.access(path, os.F_OK))
    if not existing.is_dir():
        return Finding(Level.WRONG, part, f"{existing} is not a folder: {remedy}")
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding(Level.WRONG, part, f"user {os.getuid()} can't write to {existing}: {remedy}")
    free = shutil.disk_usage(existing).free / 1e9
    if free < needed:
        return Finding(Level.WRONG, part, f"{free:.1f} GB are free in {folder}, and {need} {needed:g}: {remedy}")
    return Finding(Level.OK, part, f"{free:.0f} GB are free in {folder}")


def _memory() -> Finding:
    total, limit = memory()
    text = f"{min(total, limit) / 2**30:.1f} GiB"
    if limit < total:
        text += f", the cgroup's limit; the machine has {total / 2**30:.1f}"
    least = min(MEMORY_GB.values())
    if min(total, limit) / 2**30 < least:
        return Finding(Level.WRONG, "memory", f"{text}; the smallest study needs {least:g}")
    return Finding(Level.OK, "memory", text)


def _cores() -> Finding:
    allowed, limit = affinity(), quota()
    text = f"{cores()} used; this process may use {allowed}, and its cgroup "
    if limit == math.inf:
        return Finding(Level.OK, "cores", f"{text}has no limit")
    return Finding(Level.OK if limit >= 1 else Level.WRONG, "cores", f"{text}allows {limit:g}")


def _slurm() -> Finding:
    missing = [command for command in COMMANDS if shutil.which(command) is None]
    if len(missing) == len(COMMANDS):
        return Finding(Level.OK, "SLURM", "not installed; only `ssl-study submit` needs it")
    if missing:
        return Finding(Level.NOTE, "SLURM", f"{', '.join(missing)} not found, but other SLURM commands are: check PATH")
    try:
        config = cluster_config()
    except SchedulerUnavailable as error:
        if UNCONFIGURED in str(error):
            return Finding(Level.OK, "SLURM", "installed without a cluster; only `ssl-study submit` needs one")
        return Finding(Level.NOTE, "SLURM", f"no cluster responds ({error}); only `ssl-study submit` needs one")
    return Finding(Level.OK, "SLURM", f"{config.get('SLURM_VERSION', '')} on cluster {config.get('ClusterName', '?')}")


def _report() -> Finding:
    if find_spec("typst") is None:
        return Finding(Level.NOTE, "report", "its packages are not installed: `make report` does not work here")
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("typst", "matplotlib")]
    return Finding(Level.OK, "report", f"{' and '.join(versions)}, with their own fonts")
