"""Compares batches and epochs with the number of images, before the first run of a study starts. Imports no torch.

Fine-tuning and the supervised baseline need no check, because their batches have at most all images of their split.
"""

from collections.abc import Mapping, Sequence

from jobs.plan.estimate import images_of
from jobs.plan.graph import Job
from ssl_pkg.config.batch_sizes import queue_error, split_error
from ssl_pkg.config.compose import load_config
from ssl_pkg.config.schema import MethodConfig
from ssl_pkg.config.training_length import training_length
from ssl_pkg.errors import BadInput


def check_batch_sizes(jobs: Sequence[Job], root: str | None, processes: int = 1) -> None:
    """Raises BadInput if the batch size of a missing pretraining is impossible. The message has one that fits them all.

    root: the folder of the images, or `synthetic`; None stands for STL-10 as published. processes: of a pretraining.
    """
    missing = {(job.method, job.settings): job for job in jobs if job.stage == "pretrain" and not job.complete}
    methods = [method for job in missing.values() if (method := load_config(job.overrides).method)]
    images = _images(root)
    found = {method.name: _error(method, method.batch_size, images, processes) for method in methods}
    errors = {name: error for name, error in found.items() if error}
    if not errors:
        return
    causes = "; ".join(dict.fromkeys(error.partition(": ")[0] for error in errors.values()))
    largest = min(min(method.batch_size, images.get(method.split, method.batch_size)) for method in methods)
    fitting = (
        size for size in range(largest, 1, -1) if not any(_error(method, size, images, processes) for method in methods)
    )
    size = next(fitting, None)
    remedy = f"give method.batch_size={size}" if size else "no other fits: add images, or leave methods out"
    raise BadInput(f"the batches of {', '.join(errors)} don't fit ({causes}): {remedy}")


def repeated_passes(jobs: Sequence[Job], root: str) -> list[str]:
    """A sentence for each kind of missing training whose epochs pass over the images several times.

    root: the folder of the images, or `synthetic`.
    """
    trainings = [job for job in jobs if job.stage in ("pretrain", "finetune") and not job.complete]
    distinct = {(job.stage, job.method if job.stage == "pretrain" else "", job.settings): job for job in trainings}
    images, found = _images(root), []
    for job in distinct.values():
        config = load_config(job.overrides)
        split = config.method.split if config.method else "train"
        if split in images and (length := training_length(config, images[split])).passes > 1:
            found.append(f"few images for {job.stage}: {length}")
    return list(dict.fromkeys(found))


def _images(root: str | None) -> dict[str, int]:
    """The number of images of each split to train on that is there."""
    return {name: count for name, count in images_of(root).items() if count}


def _error(method: MethodConfig, size: int, images: Mapping[str, int], processes: int) -> str:
    """Why `method` can't have batches of this size; empty if it can, or if its split is not in `images`."""
    found = split_error(size, method.split, images.get(method.split, size), processes)
    queue, groups = (method.model.get(name) for name in ("queue_size", "bn_splits"))
    if not found and isinstance(queue, int) and isinstance(groups, int) and groups > 0:  # else the stage refuses it
        found = queue_error(size, queue, groups, bool(method.model.get("symmetric")), processes)
    return found
