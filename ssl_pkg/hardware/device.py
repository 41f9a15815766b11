"""The device of a run, and why it is this one. `python -m ssl_pkg.hardware.device` checks whether GPUs can be used."""

import sys
import warnings

import torch

from ssl_pkg.errors import BAD_INPUT, COMPLETE, BadInput
from ssl_pkg.hardware.machine import gpus
from ssl_pkg.streams import use_utf8


def choose(wanted: str, number: int = 0) -> tuple[torch.device, str]:
    """The device for `wanted` (auto, cpu or cuda), and the reason in words.

    number: which of the GPUs. Raises BadInput if a GPU is wanted or listed, and PyTorch can't compute on it.
    """
    if wanted == "cpu":
        return torch.device("cpu"), "device=cpu"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch warns of what the sentence below says
        available = torch.cuda.is_available()
    listed = gpus()
    if not available and not listed and wanted == "auto":
        return torch.device("cpu"), "there is no GPU"
    if not available:
        what = f"GPU {', '.join(listed)} is listed" if listed else "device=cuda is asked for"
        raise BadInput(
            f"{what}, but PyTorch for CUDA {torch.version.cuda} sees no GPU here ({_why_not()}): mend that, or give "
            "device=cpu to do without"
        )
    device = torch.device("cuda", number % torch.cuda.device_count())  # a scheduler may show a process only its own
    try:
        torch.cuda.set_device(device)
        torch.ones(1, device=device).sum().item()
    except RuntimeError as error:
        raise BadInput(
            f"PyTorch for CUDA {torch.version.cuda} can't compute on GPU {device.index} ({_first_sentence(error)}): "
            "free or mend it, or give device=cpu to do without"
        ) from error
    return device, "it is there"


def _why_not() -> str:
    """PyTorch's reason for seeing no GPU."""
    try:
        torch.cuda.init()  # type: ignore[no-untyped-call]
    except (RuntimeError, AssertionError) as error:
        return _first_sentence(error)
    return "it gives no reason"


def _first_sentence(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".")


def main() -> int:
    """Says on stderr why the GPUs of this machine can't be used, if so; returns the exit status."""
    try:
        choose("auto")
    except BadInput as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    return COMPLETE


if __name__ == "__main__":
    use_utf8()
    sys.exit(main())
