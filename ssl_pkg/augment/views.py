"""Whole views: uint8 images on the training device in, normalised float32 batches out.

On a CPU they are loops over one image after the other (`cpu.py`). On a GPU every operation is computed for the whole
batch, and each sample keeps what it drew; compiled that is a few kernels.
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
_JITTER: dict[int, tuple[Operation, str, float]] = {  # with the value that changes nothing
    BRIGHTNESS: (operations.adjust_brightness_, "brightness", 1.0),
    CONTRAST: (operations.adjust_contrast_, "contrast", 1.0),
    SATURATION: (operations.adjust_saturation_, "saturation", 1.0),
    HUE: (operations.adjust_hue_, "hue", 0.0),
}


def make_view(images: Tensor, parameters: Parameters, resolution: int, *, compiled: bool = False) -> Tensor:
    """One view of each image: cropped, resized, flipped, then jittered, greyed, blurred, solarized and normalised.

    images: (B, 3, H, W) uint8 on any device; fastest where transposed in memory, as STL-10 stores columns first.
    parameters: of these B views, drawn for images of H x W pixels.
    compiled: whether torch.compile is to fuse it, for each shape of `images` and resolution; on a CPU, nothing.
    Returns (B, 3, resolution, resolution) float32 in channels_last memory format. A sample's view doesn't depend on
    the others in its batch, on a GPU beyond the rounding of float32.
    """
    if images.device.type == "cpu":
        return cpu.make_view(images, parameters, resolution)
    values = {name: value for name, value in vars(parameters).items() if name != "order"}
    values |= {f"order_{place}": parameters.order[:, place] for place in range(4)}
    table = torch.from_numpy(np.stack(list(values.values()), dtype=np.float32))
    if images.device.type == "cuda":
        table = table.pin_memory().to(images.device, non_blocking=True)
    with torch.autocast(images.device.type, enabled=False):  # its bfloat16 would keep 8 bits of a pixel's position
        return (_compiled() if compiled else in_a_batch)(images, dict(zip(values, table, strict=True)), resolution)


def resize(images: Tensor, resolution: int) -> Tensor:
    """The images as evaluation sees them: whole, resized with antialiasing, normalised; nothing is random.

    images: (B, 3, h, w) uint8 on any device. Returns (B, 3, resolution, resolution) float32 in channels_last memory
    format; images that have this size already keep their exact pixels.
    """
    x = images.to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    if x.shape[2:] != (resolution, resolution):
        x = F.interpolate(x, (resolution, resolution), mode="bilinear", antialias=True)
    operations.normalize_(x)
    return x.contiguous(memory_format=torch.channels_last)


@lru_cache(maxsize=1)
def _compiled() -> Callable[[Tensor, dict[str, Tensor], int], Tensor]:
    return torch.compile(in_a_batch, dynamic=False, fullgraph=True)


def in_a_batch(images: Tensor, drawn: dict[str, Tensor], resolution: int) -> Tensor:
    """`make_view` by operations on the whole batch, by the parameters' names (B,) float32 each."""
    boxes = torch.stack([drawn[name] for name in ("top", "left", "height", "width")], dim=1)
    crops = operations.resized_crops(images, boxes, resolution)
    x = crops.to(torch.float32, memory_format=torch.contiguous_format) / 255
    x = torch.where(_of_each(drawn["flip"] != 0), x.flip(3), x)
    for place in range(4):
        for number, (operation, name, neutral) in _JITTER.items():
            here = (drawn[f"order_{place}"] == number) & (drawn[name] != neutral)
            x = _done_where(here, operation, x, drawn[name])
    x = _done_where(drawn["grey"] != 0, lambda y, _: operations.grey_(y), x, drawn["grey"])
    kernel_size, blurred = operations.blur_kernel_size(resolution), drawn["sigma"] > 0
    sigma = torch.where(blurred, drawn["sigma"], 1.0)
    x = _done_where(blurred, lambda y, s: operations.gaussian_blur_(y, s, kernel_size), x, sigma)
    x = _done_where(drawn["solarize"] != 0, lambda y, _: operations.solarize_(y), x, drawn["solarize"])
    operations.normalize_(x)
    return x.contiguous(memory_format=torch.channels_last)


def _done_where(here: Tensor, operation: Operation, x: Tensor, value: Tensor) -> Tensor:
    changed = x.clone()
    operation(changed, value)
    return torch.where(_of_each(here), changed, x)


def _of_each(value: Tensor) -> Tensor:
    return value.view(-1, 1, 1, 1)
