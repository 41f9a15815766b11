"""Which sizes of a batch fit the images, the processes and MoCo's queue, and the learning rate that belongs to a size.

Imports no torch.
"""

import math


def split_error(batch_size: int, split: str, images: int, processes: int) -> str:
    """Why a pretraining can't have batches of this size; empty if it can. images: the number of the split's images."""
    if batch_size > images:
        return (
            f"method.batch_size={batch_size} is larger than the split {split}, which has {images:,} images: "
            f"give method.batch_size={images} or less"
        )
    if batch_size % processes:
        return f"method.batch_size={batch_size} must be a multiple of the world size {processes}"
    return ""


def queue_error(batch_size: int, queue_size: int, bn_splits: int, symmetric: bool, processes: int) -> str:
    """Why MoCo can't have batches of this size; empty if it can.

    symmetric: whether both views are queries, and both give keys. bn_splits: the groups of a batch that are normalised
    separately.
    """
    if queue_size % (batch_size * (2 if symmetric else 1)):
        twice = "twice " if symmetric else ""
        return f"method.model.queue_size={queue_size} must be a multiple of {twice}method.batch_size={batch_size}"
    if batch_size % bn_splits:
        return f"method.batch_size={batch_size} must be a multiple of method.model.bn_splits={bn_splits}"
    if batch_size == bn_splits:
        return (
            f"method.batch_size={batch_size} leaves one image for each of the method.model.bn_splits={bn_splits} "
            f"groups, but batch normalisation needs two: give method.batch_size={2 * bn_splits} or more"
        )
    if bn_splits % processes:
        return f"method.model.bn_splits={bn_splits} must be a multiple of the {processes} processes"
    return ""


def queue_share(step: int, batch_size: int, queue_size: int, symmetric: bool) -> float:
    """The share of MoCo's queue that holds keys of images after `step` steps; the rest are the random vectors of its
    start. Each step replaces the oldest vectors by the keys of its batch."""
    return min(1.0, step * batch_size * (2 if symmetric else 1) / queue_size)


def peak_lr(base_lr: float, scaling: str, batch_size: int) -> float:
    """The learning rate after warm-up for batch size B: `base_lr` times B/256, sqrt(B/256) or 1, as `scaling` says."""
    return base_lr * {"linear": batch_size / 256, "sqrt": math.sqrt(batch_size / 256), "none": 1.0}[scaling]
