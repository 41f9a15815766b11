"""How many runs this machine can run at once, and the CPU threads and GPU of each."""

import os
from dataclasses import dataclass

from ssl_pkg.hardware.machine import cores, gpus


@dataclass(frozen=True)
class Slot:
    """The resources of one run: CPU threads and, if there are GPUs, one GPU."""

    threads: int
    gpu: str | None = None  # a value of CUDA_VISIBLE_DEVICES

    @property
    def environment(self) -> dict[str, str | None]:
        """Environment variables for a run's process. Sets CUDA_VISIBLE_DEVICES, because submitit empties it."""
        gpu = self.gpu if self.gpu is not None else os.environ.get("CUDA_VISIBLE_DEVICES")
        return {"OMP_NUM_THREADS": str(self.threads), "CUDA_VISIBLE_DEVICES": gpu}


def slots(cpus: int, *, use_gpus: bool, runs_per_gpu: int = 1) -> list[Slot]:
    """`runs_per_gpu` slots for each GPU. Without GPUs one slot for each `cpus` cores, and at least one."""
    available = cores()
    found = gpus() if use_gpus else []
    if found:
        shared = found * runs_per_gpu
        return [Slot(max(1, min(cpus, available // len(shared))), gpu) for gpu in shared]
    return [Slot(min(cpus, available))] * max(1, available // cpus)
