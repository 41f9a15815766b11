"""How many runs fit on this machine at once, and what each may use."""

import os
import re
import subprocess
from dataclasses import dataclass


@dataclass(frozen=True)
class Slot:
    """Room for one run: its CPU threads and, where there are GPUs, its own."""

    threads: int
    gpu: str | None = None  # as CUDA_VISIBLE_DEVICES wants it

    @property
    def environment(self) -> dict[str, str | None]:
        """What a run's process must find in its environment. submitit empties CUDA_VISIBLE_DEVICES: it is put back."""
        gpu = self.gpu if self.gpu is not None else os.environ.get("CUDA_VISIBLE_DEVICES")
        return {"OMP_NUM_THREADS": str(self.threads), "CUDA_VISIBLE_DEVICES": gpu}


def slots(cpus: int, *, use_gpus: bool) -> list[Slot]:
    """One slot a GPU; without GPUs as many as there are times `cpus` cores, and at least one."""
    cores = len(os.sched_getaffinity(0))
    found = gpus() if use_gpus else []
    if found:
        threads = max(1, min(cpus, cores // len(found)))
        return [Slot(threads, gpu) for gpu in found]
    return [Slot(min(cpus, cores))] * max(1, cores // cpus)


def gpus() -> list[str]:
    """The GPUs that this process may use, by CUDA_VISIBLE_DEVICES or else by nvidia-smi."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [] if visible.startswith("-") else [name.strip() for name in visible.split(",") if name.strip()]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return re.findall(r"UUID: (MIG-[^)]+)", listed) or re.findall(r"UUID: (GPU-[^)]+)", listed)
