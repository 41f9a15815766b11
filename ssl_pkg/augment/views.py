"""Whole views: uint8 images on the training device in, normalised float32 batches out.

SimCLR's views of 256 images of 96 pixels, draws included, on one core of an AMD EPYC (Zen 4): 3,300 a second, beside
790 of torchvision's on Pillow images in the same run of `make bench`.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ssl_pkg.augment import operations
from ssl_pkg.augment.draws import BRIGHTNESS, CONTRAST, HUE, SATURATION, Integers, Parameters

# Samples that one CPU thread works on at a time: at 96 pixels they fill about a core's second-level cache.
CHUNK = 16


class _Step(NamedTuple):
    """An operation and the samples that it is for, in ascending order, on the host and on the device."""

    name: str
    members: list[int]
    on_device: Tensor


class _Work(NamedTuple):
    """What is to be done with a batch, on the device."""

    rows: Tensor  # (B,) int64, each sample's place in the batch
    boxes: Tensor  # (B, 4), top, left, height and width of its crop
    values: dict[str, Tensor]  # (B,) float32 each
    steps: list[_Step]


def make_view(images: Tensor, parameters: Parameters, resolution: int) -> Tensor:
    """One view of each image: cropped, resized, flipped, then jittered, greyed, blurred, solarized and normalised.

    images: (B, 3, H, W) uint8 on any device; may be transposed in memory, as STL-10 stores columns first.
    parameters: of these B views, drawn for images of H x W pixels.
    Returns (B, 3, resolution, resolution) float32 in channels_last memory format. A sample's view doesn't depend on
    the others in its batch, beyond the rounding of float32.
    """
    device, batch = images.device, len(parameters)
    shape = (batch, 3, resolution, resolution)
    views = torch.empty(shape, device=device, memory_format=torch.channels_last)
    rows = _side_by_side(parameters)
    work = _prepare(parameters.take(rows), rows, device)
    chunk = CHUNK * torch.get_num_threads() if device.type == "cpu" else batch
    with torch.autocast(device.type, enabled=False):  # its bfloat16 would keep 8 bits of a pixel's position
        crops = operations.resized_crops(images, work.rows, work.boxes, resolution)
        for first in range(0, batch, chunk):
            part = slice(first, min(first + chunk, batch))
            views.index_copy_(0, work.rows[part], _make(crops, work, part))
    return views


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


def _make(crops: Tensor, work: _Work, part: slice) -> Tensor:
    """The views of one part of the work, (n, 3, resolution, resolution)."""
    x = crops[part].to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    for step in work.steps:
        _apply(step, x, work.values[step.name][part], part)
    operations.normalize_(x)
    return x.contiguous(memory_format=torch.channels_last)


def _apply(step: _Step, x: Tensor, value: Tensor, part: slice) -> None:
    """Applies an operation to those of its samples that lie in this part of the batch, which x and value hold."""
    first, last = bisect_left(step.members, part.start), bisect_left(step.members, part.stop)
    if first == last:
        return
    operation = _OPERATIONS[step.name]
    start, stop = step.members[first] - part.start, step.members[last - 1] + 1 - part.start
    if stop - start == last - first:  # neighbours, which are worked on where they lie
        operation(x[start:stop], value[start:stop])
    else:
        members = step.on_device[first:last] - part.start
        samples = x.index_select(0, members)
        operation(samples, value.index_select(0, members))
        x.index_copy_(0, members, samples)


def _side_by_side(parameters: Parameters) -> Integers:
    """An order (B,) of the samples in which those with the same operations are neighbours.

    Then an operation's samples mostly are one slice of a chunk, which is worked on where it lies.
    """
    code = parameters.order @ 4 ** np.arange(3, -1, -1)  # alike orders lie together, as words in a dictionary
    return np.lexsort((parameters.flip, parameters.grey, parameters.sigma > 0, parameters.brightness != 1, code))


def _steps(parameters: Parameters) -> Iterator[tuple[str, Integers]]:
    """The operations after the crop, in their order, with the samples (at least one) that each is for."""
    jitter = {
        BRIGHTNESS: ("brightness", parameters.brightness != 1),
        CONTRAST: ("contrast", parameters.contrast != 1),
        SATURATION: ("saturation", parameters.saturation != 1),
        HUE: ("hue", parameters.hue != 0),
    }
    drawn = [("flip", parameters.flip)]
    drawn += [
        (name, changes & (parameters.order[:, place] == operation))
        for place in range(4)
        for operation, (name, changes) in jitter.items()
    ]
    drawn += [("grey", parameters.grey), ("sigma", parameters.sigma > 0), ("solarize", parameters.solarize)]
    for name, mask in drawn:
        if mask.any():
            yield name, np.flatnonzero(mask)


def _prepare(parameters: Parameters, rows: Integers, device: torch.device) -> _Work:
    """Moves what a batch needs to the device, in one copy that the host doesn't wait for."""
    p = parameters
    values = {
        "top": p.top,
        "left": p.left,
        "height": p.height,
        "width": p.width,
        "flip": p.flip,
        "brightness": p.brightness,
        "contrast": p.contrast,
        "saturation": p.saturation,
        "hue": p.hue,
        "grey": p.grey,
        "sigma": p.sigma,
        "solarize": p.solarize,
    }
    steps = list(_steps(p))
    table = np.stack(list(values.values()), dtype=np.float32)
    indices = [rows, *(members for _, members in steps)]
    words = torch.from_numpy(np.concatenate([table.view(np.int32).ravel(), *indices], dtype=np.int32))
    if device.type == "cuda":
        words = words.pin_memory().to(device, non_blocking=True)
    moved = words[: table.size].view(torch.float32).view(table.shape)
    moved_rows, *moved_members = words[table.size :].long().split_with_sizes([len(entry) for entry in indices])
    return _Work(
        rows=moved_rows,
        boxes=moved[:4].T,
        values=dict(zip(values, moved, strict=True)),
        steps=[
            _Step(name, members.tolist(), on_device)
            for (name, members), on_device in zip(steps, moved_members, strict=True)
        ],
    )


def _blur_(x: Tensor, sigma: Tensor) -> None:
    operations.gaussian_blur_(x, sigma, operations.blur_kernel_size(x.shape[-1]))


def _flip_(x: Tensor, _: Tensor) -> None:
    operations.flip_(x)


def _grey_(x: Tensor, _: Tensor) -> None:
    operations.grey_(x)


def _solarize_(x: Tensor, _: Tensor) -> None:
    operations.solarize_(x)


# By the name of the parameter that they take.
_OPERATIONS: dict[str, Callable[[Tensor, Tensor], None]] = {
    "flip": _flip_,
    "brightness": operations.adjust_brightness_,
    "contrast": operations.adjust_contrast_,
    "saturation": operations.adjust_saturation_,
    "hue": operations.adjust_hue_,
    "grey": _grey_,
    "sigma": _blur_,
    "solarize": _solarize_,
}
