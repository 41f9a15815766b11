"""The device of a run, and the reason for it. `python -m ssl_pkg.hardware.device` checks whether GPUs work."""

import sys
import warnings

import torch

from ssl_pkg.errors import BAD_INPUT, COMPLETE, BadInput
from ssl_pkg.hardware.machine import gpus
from ssl_pkg.streams import use_utf8


def choose_device(wanted: str, index: int = 0) -> tuple[torch.device, str]:
    """The device for `wanted` (auto, cpu or cuda), and the reason in words.

    index: of the GPU, modulo the number of GPUs. Raises BadInput if PyTorch can't compute on a GPU that is wanted or
    listed by nvidia-smi.
    """
    if wanted == "cpu":
        return torch.device("cpu"), "device=cpu"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the message below replaces PyTorch's warning
        available = torch.cuda.is_available()
    listed = gpus()
    if not available and not listed and wanted == "auto":
        return torch.device("cpu"), "there is no GPU"
    if not available:
        what = f"GPU {', '.join(listed)} is listed" if listed else "device=cuda is requested"
        raise BadInput(
            f"{what}, but PyTorch for CUDA {torch.version.cuda} finds no GPU ({_why_not()}): repair the GPU driver, or "
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


def _first_sentence(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")


def main() -> int:
    """Prints on stderr why this machine's GPUs can't be used, if so. Returns the exit status."""
    try:
        choose_device("auto")
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    return COMPLETE


if __name__ == "__main__":
    use_utf8()
    sys.exit(main())
