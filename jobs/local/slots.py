"""How many runs this machine can run at once, and the CPU threads and GPU of each."""

from dataclasses import dataclass

from ssl_pkg.hardware.machine import cores, gpus


@dataclass(frozen=True)
class Slot:
    """The resources of one run: CPU threads and, if there are GPUs, one GPU."""

    threads: int
    gpu: str | None = None  # a value of CUDA_VISIBLE_DEVICES

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for a run's process."""
        gpu = {} if self.gpu is None else {"CUDA_VISIBLE_DEVICES": self.gpu}
        return {"OMP_NUM_THREADS": str(self.threads), **gpu}


def slots(cpus: int, *, use_gpus: bool, runs_per_gpu: int = 1) -> list[Slot]:
    """`runs_per_gpu` slots for each GPU. Without GPUs one slot for each `cpus` cores, and at least one."""
    available = cores()
    found = gpus() if use_gpus else []
    if found:
        shared = found * runs_per_gpu
        return [Slot(max(1, min(cpus, available // len(shared))), gpu) for gpu in shared]
    return [Slot(min(cpus, available))] * max(1, available // cpus)
