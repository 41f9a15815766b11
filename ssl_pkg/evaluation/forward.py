"""A network's output for every image of a split: the embeddings of an encoder, the logits of a classifier."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ssl_pkg.augment.views import resize
from ssl_pkg.data.images import Split

Array = npt.NDArray[np.float32]
BATCH = 256


@contextmanager
def full_precision() -> Iterator[None]:
    """Context manager for true float32: no autocast, no TF32 or bfloat16 products, deterministic cuDNN algorithms."""
    backends: Any = torch.backends
    cudnn = backends.cudnn
    kinds = [cudnn.conv, backends.cuda.matmul, backends.mkldnn.conv, backends.mkldnn.matmul]
    precisions, deterministic, benchmark = [kind.fp32_precision for kind in kinds], cudnn.deterministic, cudnn.benchmark
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        cudnn.deterministic, cudnn.benchmark = True, False
        # A compiled encoder runs in eager mode here. If dynamo, which takes a second to import, is not loaded, then
        # nothing has been compiled.
        eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
        with eager, torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        for kind, precision in zip(kinds, precisions, strict=True):
            kind.fp32_precision = precision
        cudnn.deterministic, cudnn.benchmark = deterministic, benchmark


@full_precision()
@torch.inference_mode()
def outputs(
    network: nn.Module,
    split: Split,
    resolution: int,
    device: torch.device,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Array:
    """The outputs (n, D) of `network` in eval mode for all n images of `split`, in the split's order, as float32.

    Images are resized to `resolution` with antialiasing. The computation is true float32, so that reported numbers do
    not depend on the fast formats of a machine. on_batch(done, total) is called before each batch with numbers of
    images. The network's training mode is restored.
    """
    mode = network.training
    network.eval()
    results = []
    for start in range(0, len(split), BATCH):
        on_batch(start, len(split))
        images, _ = split.load(np.arange(start, min(start + BATCH, len(split))), device)
        results.append(network(resize(images, resolution)).float())
    network.train(mode)
    array: Array = torch.cat(results).cpu().numpy()
    return array
