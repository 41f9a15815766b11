"""How many runs fit on this machine at once, and what each may use."""

import os
from dataclasses import dataclass

from ssl_pkg.hardware.machine import cores, gpus


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
    here = cores()
    found = gpus() if use_gpus else []
    if found:
        threads = max(1, min(cpus, here // len(found)))
        return [Slot(threads, gpu) for gpu in found]
    return [Slot(min(cpus, here))] * max(1, here // cpus)
