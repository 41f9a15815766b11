"""The CPU cores, the memory and the GPUs that this process may use. Imports no torch."""

import math
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path
from typing import Final

from ssl_pkg.errors import BadInput

# mount points of cgroups, by the controller that /proc/self/cgroup names; version 2 names none
_MOUNTS: Final = {
    "": ("sys/fs/cgroup", "sys/fs/cgroup/unified"),
    "cpu": ("sys/fs/cgroup/cpu",),
    "memory": ("sys/fs/cgroup/memory",),
}
DEVICES: Final = Path("/dev")
_GPU_NAME: Final = re.compile(r"\d+|(GPU|MIG)-\S+")  # a valid entry of CUDA_VISIBLE_DEVICES


def cores(root: Path = Path("/")) -> int:
    """The number of CPU cores: the minimum of the process's affinity and the quotas of its cgroups, at least 1.

    A quota is rounded down, because a process that exceeds its quota is stopped until the next period. Under a quota of
    1.5 cores, a training step of ResNet-18 took seven times as long with two threads as with one.
    """
    return max(1, math.floor(min(affinity(), quota(root))))


def affinity() -> int:
    """The number of CPU cores on which this process may run, whatever its cgroups' quotas."""
    return len(os.sched_getaffinity(0))


def quota(root: Path = Path("/")) -> float:
    """The smallest quota of this process's cgroups, in CPU cores; infinite if they have none."""
    return min(map(_quota, _cgroups("cpu", root)), default=math.inf)


def memory(root: Path = Path("/")) -> tuple[int, float]:
    """The machine's memory and the smallest limit of this process's cgroups, in bytes; infinite if they have none.

    Raises OSError if /proc is not mounted.
    """
    total = re.search(r"^MemTotal: +(\d+) kB$", (root / "proc/meminfo").read_text(encoding="utf-8"), re.MULTILINE)
    limit = min(map(_memory_limit, _cgroups("memory", root)), default=math.inf)
    size = int(total[1]) * 1024 if total else 0
    return size, limit if limit < size else math.inf  # version 1 writes a huge number for no limit


def _cgroups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of this process's cgroups with the controller, and of their parents. In a container,
    /proc/self/cgroup may have the host's path, which does not exist in the container: then only the parents exist."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers and controller not in controllers.split(","):
            continue
        for mount in _MOUNTS[controller if controllers else ""]:
            folder = root / mount / path.lstrip("/")
            for above in (folder, *folder.parents):
                yield above
                if above == root / mount:
                    break


def _memory_limit(folder: Path) -> float:
    """The memory limit of one cgroup, in bytes; infinite if it has none."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no such file, or the word `max`
            return int((folder / name).read_text(encoding="utf-8"))
    return math.inf


def _quota(folder: Path) -> float:
    """The quota of one cgroup, in CPU cores; infinite if it has none."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
        else:
            names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            quota, period = ((folder / name).read_text(encoding="utf-8") for name in names)
        return int(quota) / int(period) if int(quota) > 0 else math.inf
    except (OSError, ValueError):  # no such file, or the word `max`
        return math.inf


def gpus() -> list[str]:
    """The GPUs that this process may use, as entries for CUDA_VISIBLE_DEVICES. Empty if that variable hides all GPUs.

    GPUs are listed by nvidia-smi. If nvidia-smi fails or is missing, they are the devices in /dev that can be opened.
    """
    found = _listed()
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None or not found:
        return found
    return list(takewhile(_GPU_NAME.fullmatch, (name.strip() for name in visible.split(","))))


def gpu_out_of_reach(root: Path = Path("/")) -> str | None:
    """Why this process can't use the machine's NVIDIA GPU, for a process for which `gpus` finds none.

    None if there is no such GPU on the PCI bus, or if the bus can't be read, as in some containers. None as well if the
    GPUs are hidden on purpose: by CUDA_VISIBLE_DEVICES, or by SLURM from a job that has not asked for one.
    """
    if "CUDA_VISIBLE_DEVICES" in os.environ or not _gpu_on_the_bus(root):
        return None
    if not os.access(root / "proc/driver/nvidia/version", os.F_OK):
        return "this machine has an NVIDIA GPU, but its driver is not loaded: install NVIDIA's driver"
    if "SLURM_JOB_ID" in os.environ:
        return None
    return "this machine has an NVIDIA GPU, but this process can't open it: in a container, give --gpus all"


def refuse_gpu_out_of_reach() -> None:
    """Raises BadInput if there is a GPU out of reach, because nobody should train for hours on the CPU by mistake."""
    if reason := gpu_out_of_reach():
        raise BadInput(f"{reason}, or use the CPU by device=cpu (make: CUDA_VISIBLE_DEVICES=)")


def _gpu_on_the_bus(root: Path) -> bool:
    """Whether the PCI bus has a display controller or an accelerator by NVIDIA, also without a driver."""
    try:
        devices = list((root / "sys/bus/pci/devices").iterdir())
    except OSError:
        return False
    for device in devices:
        try:
            vendor, kind = ((device / name).read_text(encoding="ascii").strip() for name in ("vendor", "class"))
        except OSError:
            continue
        if vendor == "0x10de" and kind.startswith("0x03"):
            return True
    return False


def _devices() -> list[str]:
    devices = DEVICES.glob("nvidia[0-9]*")
    return sorted(file.name.removeprefix("nvidia") for file in devices if os.access(file, os.R_OK | os.W_OK))


def _listed() -> list[str]:
    try:
        done = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, encoding="utf-8", errors="replace", timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return _devices()
    if done.returncode:  # for example because driver and library have different versions, or because there is no GPU
        return _devices()
    return re.findall(r"UUID: (MIG-[^)]+)", done.stdout) or re.findall(r"UUID: (GPU-[^)]+)", done.stdout)
