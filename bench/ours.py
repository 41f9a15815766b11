"""Our pretraining as a function to be timed: the code of the stage, without its run directory."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ssl_pkg.config.compose import load_config
from ssl_pkg.config.schema import Config
from ssl_pkg.data.dataset import open_dataset
from ssl_pkg.hardware.prepare import Hardware, prepare
from ssl_pkg.stages.pretrain import training
from ssl_pkg.training.step import Batch, Step, Task

BATCH = 256


def configuration(method: str, data: Path | str, resolution: int, *more: str) -> Config:
    """The configuration of budget `full` with this resolution in pixels and batches of BATCH images."""
    line = ["stage=pretrain", f"method={method}", "run_dir=-", f"data.root={data}", "budget=full"]
    return load_config([*line, f"budget.resolution={resolution}", f"method.batch_size={BATCH}", *more])


def build(config: Config) -> tuple[Task, Hardware]:
    """The task as the stage builds it, in train mode."""
    hardware = prepare(config)
    task = training(config, open_dataset(config.data), hardware)
    cast(nn.Module, task.model).train()
    return task, hardware


def make_step(task: Task, hardware: Hardware, batch: Callable[[int], Batch] | None = None) -> Callable[[], object]:
    """Returns a function that makes the next training step. `batch` replaces the task's source of batches."""
    advance, step = Step(replace(task, batch=batch) if batch else task, hardware), 0

    def make_next_step() -> None:
        nonlocal step
        metrics = advance(step)
        step += 1
        if step % 10 == 0:
            float(metrics["loss"])

    return make_next_step


def fixed_batch(task: Task) -> Callable[[int], Batch]:
    """A source of batches that returns the same views at every step, already on the device."""
    views, labels = task.batch(0)
    return lambda step: (views, labels)


def forward_backward_flops(task: Task, batch: Batch) -> int:
    """Floating-point operations of one step as torch counts them; a multiply-add counts as two."""
    views, labels = batch
    # counting during compilation would leave the network uncompiled
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
        loss, _ = task.model.loss(views, labels)
        torch.autograd.backward(loss)
    task.optimizer.zero_grad(set_to_none=True)
    return int(counter.get_total_flops())
