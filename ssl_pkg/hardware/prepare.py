"""The device and the precision of a run, and the PyTorch settings that make it repeatable."""

import contextlib
from dataclasses import dataclass
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from ssl_pkg.config.schema import Config
from ssl_pkg.distributed.process_info import ProcessInfo
from ssl_pkg.errors import BadInput
from ssl_pkg.hardware.compile_cache import prepare_compiler
from ssl_pkg.hardware.device import choose_device, fastest_dtype, name_of
from ssl_pkg.hardware.machine import cores
from ssl_pkg.hardware.memory import keep_freed_memory
from ssl_pkg.messages.counted import counted


@dataclass(frozen=True)
class Hardware:
    """Where a run computes, and with which precision."""

    device: torch.device
    dtype: torch.dtype  # of convolutions and matrix products
    threads: int
    compiles: bool  # whether torch.compile compiles the network
    reason: str = ""  # for this device, in words

    def __str__(self) -> str:
        facts = self.describe()
        device = facts["name"] if self.device.type == "cuda" else "the CPU"
        return f"{device} ({self.reason}), {counted(self.threads, 'CPU thread')}, {facts['precision']}"

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The context for forward passes of the network."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=self.dtype)

    def scaler(self) -> torch.amp.GradScaler:
        """A gradient scaler, which is enabled for float16 only."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)

    def describe(self) -> dict[str, str | int]:
        """The entry `hardware` of `provenance.json`."""
        capability = torch.backends.cpu.get_cpu_capability()
        return {
            "device": self.device.type,
            "name": name_of(self.device),
            "cpu_capability": capability,
            "precision": str(self.dtype).removeprefix("torch."),
            "threads": self.threads,
        }


def prepare(config: Config, process: ProcessInfo | None = None) -> Hardware:
    """Chooses device, precision and number of threads, and configures PyTorch accordingly.

    process: this rank of a process group, which gets a GPU of its own or its share of the cores; None if the run has
    one process. Raises BadInput if the configured device or precision is not available.
    """
    device, reason = choose_device(config.device, process.local_rank if process else 0)
    use_gpu = device.type == "cuda"
    if config.precision == "float16" and not use_gpu:
        raise BadInput("precision=float16 needs a GPU: leave precision out, or give bfloat16 or float32")
    threads = config.threads or max(1, cores() // (process.local_world_size or 1 if process else 1))
    torch.set_num_threads(threads)
    threadpool_limits(threads)  # scikit-learn's
    keep_freed_memory()
    if use_gpu:
        backends: Any = torch.backends
        # precision=float32 asks for a mantissa of 24 bits; TF32, PyTorch's default, has 11
        backends.cudnn.conv.fp32_precision = "ieee" if config.precision == "float32" else "tf32"
        backends.cuda.matmul.fp32_precision = "ieee"  # losses compare embeddings, which need float32's 24 bits
        torch.backends.cudnn.deterministic = True
    dtype = fastest_dtype(device) if config.precision == "auto" else getattr(torch, config.precision)
    compiles = config.stage == "pretrain" and (use_gpu if config.compile == "auto" else config.compile == "always")
    if compiles:
        prepare_compiler(config.run_dir, process.rank if process else 0)
    return Hardware(device, dtype, threads, compiles, reason)
