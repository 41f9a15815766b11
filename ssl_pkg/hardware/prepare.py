"""The device and the precision of a run, and the PyTorch settings that make it repeatable."""

import contextlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from threadpoolctl import threadpool_limits

from ssl_pkg.config import Config
from ssl_pkg.distributed.process_info import ProcessInfo
from ssl_pkg.errors import BadInput
from ssl_pkg.hardware.compile_cache import prepare_compiler
from ssl_pkg.hardware.device import choose_device
from ssl_pkg.hardware.machine import cores
from ssl_pkg.hardware.memory import keep_freed_memory


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
        return f"{device} ({self.reason}), {self.threads} CPU threads, {facts['precision']}"

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
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else _processor()
        capability = torch.backends.cpu.get_cpu_capability()
        return {
            "device": self.device.type,
            "name": name or platform.machine(),
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
        backends.cudnn.conv.fp32_precision = "tf32"
        backends.cuda.matmul.fp32_precision = "ieee"  # losses compare embeddings, which need float32's 24 bits
        torch.backends.cudnn.deterministic = True
    dtype = _fastest(device) if config.precision == "auto" else getattr(torch, config.precision)
    compiles = config.stage == "pretrain" and (use_gpu if config.compile == "auto" else config.compile == "always")
    if compiles:
        prepare_compiler(config.run_dir, process.rank if process else 0)
    return Hardware(device, dtype, threads, compiles, reason)


def _processor() -> str:
    """The CPU's model name, which determines the kernels that libraries choose. Empty if /proc has none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _fastest(device: torch.device) -> torch.dtype:
    """bfloat16 if the hardware multiplies it, float16 with a gradient scaler on older GPUs, otherwise float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") or capabilities.get("bf16")
    return torch.bfloat16 if native else torch.float32
