"""A network's output for every image of a split: embeddings or logits, without randomness."""

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
    """Inside, float32 is float32: no autocast, no TF32 or bfloat16 products, cuDNN's deterministic algorithms."""
    backends: Any = torch.backends
    cudnn = backends.cudnn
    kinds = [cudnn.conv, backends.cuda.matmul, backends.mkldnn.conv, backends.mkldnn.matmul]
    precisions, deterministic, benchmark = [kind.fp32_precision for kind in kinds], cudnn.deterministic, cudnn.benchmark
    try:
        for kind in kinds:
            kind.fp32_precision = "ieee"
        cudnn.deterministic, cudnn.benchmark = True, False
        # an encoder that was compiled to train computes in eager here; without dynamo, a second to import, none was
        eager = torch.compiler.set_stance("force_eager") if "torch._dynamo" in sys.modules else nullcontext()
        with eager, torch.autocast("cuda", enabled=False), torch.autocast("cpu", enabled=False):
            yield
    finally:
        for kind, precision in zip(kinds, precisions, strict=True):
            kind.fp32_precision = precision
        cudnn.deterministic, cudnn.benchmark = deterministic, benchmark


@full_precision()
@torch.inference_mode()
def predict(
    network: nn.Module,
    split: Split,
    resolution: int,
    device: torch.device,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Array:
    """float32 (n, D): `network` in eval mode on every image, resized with antialiasing, in the split's order.

    In full precision, so that what is reported does not depend on the machine's fast formats. on_batch(done, total) is
    called before each batch. The network is left in the mode it came in.
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
