"""The device of a run, and the reason for it. `python -m ssl_pkg.hardware.device` checks whether GPUs work."""

import json
import platform
import sys
import warnings
from pathlib import Path

import torch

from ssl_pkg.errors import BAD_INPUT, COMPLETE, BadInput
from ssl_pkg.hardware.compile_cache import missing_compiler
from ssl_pkg.hardware.machine import gpus, refuse_gpu_out_of_reach
from ssl_pkg.messages.streams import use_utf8


def choose_device(wanted: str, index: int = 0) -> tuple[torch.device, str]:
    """The device for `wanted` (auto, cpu or cuda), and the reason in words.

    index: of the GPU, modulo the number of GPUs. Raises BadInput if PyTorch can't compute on a GPU that is wanted,
    listed by nvidia-smi or on the PCI bus.
    """
    if wanted == "cpu":
        return torch.device("cpu"), "device=cpu"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the message below replaces PyTorch's warning
        available = torch.cuda.is_available()
    listed = gpus()
    if not available and not listed and wanted == "auto":
        refuse_gpu_out_of_reach()
        return torch.device("cpu"), "there is no GPU"
    if not available:
        reason = _why_not()
        what = f"GPU {', '.join(listed)} is listed" if listed else "device=cuda is requested"
        raise BadInput(
            f"{what}, but PyTorch for CUDA {torch.version.cuda} finds no GPU ({reason}): {_remedy(reason)}, or "
            "give device=cpu"
        )
    device = torch.device("cuda", index % torch.cuda.device_count())  # a scheduler can hide other ranks' GPUs
    try:
        torch.cuda.set_device(device)
        torch.ones(1, device=device).sum().item()
    except RuntimeError as error:
        raise BadInput(
            f"PyTorch for CUDA {torch.version.cuda} can't compute on GPU {device.index} ({_first_sentence(error)}): "
            "free or repair it, or give device=cpu"
        ) from error
    return device, "a GPU is available"


def _why_not() -> str:
    """PyTorch's reason for finding no GPU."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call] # torch does not annotate it
    except (RuntimeError, AssertionError) as error:
        return _first_sentence(error)
    return "PyTorch gives no reason"


def _remedy(reason: str) -> str:
    if torch.version.cuda is None:
        return "install PyTorch for CUDA, which requirements.lock names, because this PyTorch is built for CPUs only"
    if "too old" in reason:
        return "update the GPU driver"
    return "repair the GPU driver"


def _first_sentence(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")


def name_of(device: torch.device) -> str:
    """The name of the GPU or of the CPU. The CPU's model determines the kernels that libraries choose."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def fastest_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 if the hardware multiplies it, float16 with a gradient scaler on older GPUs, otherwise float32."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    capabilities = torch.cpu.get_capabilities()
    native = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") or capabilities.get("bf16")
    return torch.bfloat16 if native else torch.float32


def main() -> int:
    """Prints the device, its name and its precision as JSON; or on stderr, why the GPUs can't be used.

    Returns the exit status.
    """
    try:
        device, _ = choose_device("auto")
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    precision = str(fastest_dtype(device)).removeprefix("torch.")
    facts = {"torch": torch.__version__, "device": device.type, "name": name_of(device), "precision": precision}
    print(json.dumps(facts | {"lacks_for_compile": missing_compiler()}))
    return COMPLETE


if __name__ == "__main__":
    use_utf8()
    sys.exit(main())
