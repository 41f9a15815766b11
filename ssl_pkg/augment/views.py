"""Makes views: from uint8 images on the training device to normalised float32 batches.

On a CPU, compiled loops process one image after the other (`cpu.py`). On a GPU, every operation is computed for the
whole batch and kept for the samples that need it; torch.compile fuses this into a few kernels.
"""

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_pkg.augment import cpu, operations
from ssl_pkg.augment.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION, Parameters

Operation = Callable[[Tensor, Tensor], None]
_JITTER: dict[int, tuple[Operation, str, float]] = {  # operation, its parameter, and that parameter's neutral value
    BRIGHTNESS: (operations.adjust_brightness_, "brightness", 1.0),
    CONTRAST: (operations.adjust_contrast_, "contrast", 1.0),
    SATURATION: (operations.adjust_saturation_, "saturation", 1.0),
    HUE: (operations.adjust_hue_, "hue", 0.0),
}


def make_view(images: Tensor, parameters: Parameters, resolution: int, *, compiled: bool = False) -> Tensor:
    """Makes one view of each image: crop, resize, flip, colour jitter, grey, blur, solarize, normalise.

    images: (B, 3, H, W) uint8 on any device; fastest if stored columns first in memory, as in STL-10's files.
    parameters: of these B views, sampled for images of H x W pixels.
    compiled: uses torch.compile, once for each shape of `images` and resolution; ignored on a CPU.
    Returns (B, 3, resolution, resolution) float32 in channels_last memory format. A sample's view doesn't depend on
    the other samples in its batch; on a GPU this holds up to the rounding of float32.
    """
    if images.device.type == "cpu":
        return cpu.make_view(images, parameters, resolution)
    values = {name: value for name, value in vars(parameters).items() if name != "order"}
    values |= {f"order_{position}": parameters.order[:, position] for position in range(4)}
    table = torch.from_numpy(np.stack(list(values.values()), dtype=np.float32))
    if images.device.type == "cuda":
        table = table.pin_memory().to(images.device, non_blocking=True)
    with torch.autocast(images.device.type, enabled=False):  # bfloat16 has too few bits for a pixel's position
        return (_compiled() if compiled else batched_views)(images, dict(zip(values, table, strict=True)), resolution)


def resize(images: Tensor, resolution: int) -> Tensor:
    """Resizes whole images with antialiasing and normalises them, without randomness, for evaluation.

    images: (B, 3, h, w) uint8 on any device. Returns (B, 3, resolution, resolution) float32 in channels_last memory
    format. Images that already have this size are not resampled.
    """
    x = images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    if x.shape[2:] != (resolution, resolution):
        x = F.interpolate(x, (resolution, resolution), mode="bilinear", antialias=True)
    operations.normalize_(x)
    return x.contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=1)
def _compiled() -> Callable[[Tensor, dict[str, Tensor], int], Tensor]:
    return torch.compile(batched_views, dynamic=False, fullgraph=True)


def batched_views(images: Tensor, parameters: dict[str, Tensor], resolution: int) -> Tensor:
    """`make_view` by operations on the whole batch. parameters: by name, (B,) float32 each."""
    boxes = torch.stack([parameters[name] for name in ("top", "left", "height", "width")], dim=1)
    crops = operations.resized_crops(images, boxes, resolution)
    x = crops.to(torch.float32, memory_format=torch.contiguous_format) / 255
    x = torch.where(_per_sample(parameters["flip"] != 0), x.flip(3), x)
    for position in range(4):
        for number, (operation, name, neutral) in _JITTER.items():
            selected = (parameters[f"order_{position}"] == number) & (parameters[name] != neutral)
            x = _apply_where(selected, operation, x, parameters[name])
    x = _apply_where(parameters["grey"] != 0, lambda y, _: operations.grey_(y), x, parameters["grey"])
    kernel_size, blurred = operations.blur_kernel_size(resolution), parameters["sigma"] > 0
    sigma = torch.where(blurred, parameters["sigma"], 1.0)
    x = _apply_where(blurred, lambda y, s: operations.gaussian_blur_(y, s, kernel_size), x, sigma)
    x = _apply_where(parameters["solarize"] != 0, lambda y, _: operations.solarize_(y), x, parameters["solarize"])
    operations.normalize_(x)
    return x.contiguous(memory_format=torch.channels_last)


def _apply_where(selected: Tensor, operation: Operation, x: Tensor, value: Tensor) -> Tensor:
    changed = x.clone()
    operation(changed, value)
    return torch.where(_per_sample(selected), changed, x)


def _per_sample(value: Tensor) -> Tensor:
    return value.view(-1, 1, 1, 1)
