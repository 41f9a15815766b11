"""One training step: forward, backward and optimizer step. On a GPU, forward and backward are one CUDA graph."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ssl_pkg.data.images import Indices
from ssl_pkg.distributed.collectives import all_reduce_mean, world_size
from ssl_pkg.hardware.prepare import Hardware
from ssl_pkg.methods.base import Method

Batch = tuple[list[Tensor], Tensor]
Loss = Callable[[list[Tensor], Tensor], tuple[Tensor, dict[str, Tensor]]]

_WARM_UP = 3  # passes before the capture, in which libraries allocate memory and torch.compile compiles


@dataclass(frozen=True)
class Task:
    """One training. Its batches and its learning rate are functions of the step, and have no state."""

    phase: str
    model: Method
    loss: Loss  # the model's loss; in a process group DistributedDataParallel averages its gradient over the ranks
    optimizer: torch.optim.Optimizer
    lr: Callable[[int], float]  # learning rate at a step, from 0
    batch: Callable[[int], Batch]  # this rank's views and labels; every batch has the same shapes
    indices: Callable[[int], Indices]  # the images of the global batch
    steps: int
    steps_per_epoch: int
    validate: Callable[[int], dict[str, float]] = lambda epoch: {}  # metrics after an epoch, which counts from 1
    on_start: Callable[[], object] = lambda: None  # called before the first step, but not when the training is resumed
    step_offset: int = 0  # the steps of the run's earlier trainings, added to this one's in the metrics log


class Step:
    """Callable that performs the training step of a given number.

    The host never waits for the device, except with float16, where the gradient scaler reads a flag back. On a GPU in
    a single process, forward and backward are captured as a CUDA graph before the first step, because launching their
    kernels one by one takes longer than an H100 needs to compute them.

    scaler: the gradient scaler. Its state belongs in a checkpoint, beside the model's and the optimizer's.
    """

    def __init__(self, task: Task, hardware: Hardware) -> None:
        self.scaler = hardware.scaler()
        self._task, self._hardware = task, hardware
        self._graph: _Graph | None = None

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Performs step `step`, from 0. Returns the loss and the method's metrics, each the mean over the ranks."""
        task = self._task
        views, labels = task.batch(step)
        # autocast would cast the views once for each network that takes them
        views = [view.to(self._hardware.dtype) for view in views]
        for group in task.optimizer.param_groups:
            group["lr"] = task.lr(step) * group["lr_multiplier"]
        metrics = self._forward_backward(views, labels)
        self.scaler.step(task.optimizer)
        self.scaler.update()
        task.optimizer.zero_grad(set_to_none=True)
        task.model.after_step(step, task.steps)
        return all_reduce_mean(metrics)

    def _forward_backward(self, views: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Accumulates the batch's gradients in the parameters. Returns its loss and metrics."""
        if self._hardware.device.type != "cuda" or world_size() > 1:  # collectives are not captured
            return self._eager(views, labels)
        if self._graph is None:
            try:
                self._graph = _Graph(self._eager, cast(nn.Module, self._task.model), views, labels)
            except RuntimeError as error:
                error.add_note("(while the loss was captured as a CUDA graph: it must not synchronise with the device)")
                raise
        return self._graph.replay(views, labels)

    def _eager(self, views: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        with self._hardware.autocast():
            loss, metrics = self._task.loss(views, labels)
        torch.autograd.backward(self.scaler.scale(loss))
        return {"loss": loss.detach(), **metrics}


class _Graph:
    """`forward_backward` as a CUDA graph: the same kernels on the same memory for every batch."""

    def __init__(
        self, forward_backward: Callable[[list[Tensor], Tensor], dict[str, Tensor]], model: nn.Module,
        views: list[Tensor], labels: Tensor,
    ) -> None:  # fmt: skip
        self._inputs = [tensor.clone() for tensor in (*views, labels)]
        *static_views, static_labels = self._inputs
        # The warm-up passes must not count as training steps, because a resumed training captures again and must equal
        # an uninterrupted one. They change only the batch statistics, which are restored below.
        saved = [buffer.clone() for buffer in model.buffers()]
        side_stream = torch.cuda.Stream()  # type: ignore[no-untyped-call] # torch's
        side_stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side_stream):
            for _ in range(_WARM_UP):
                forward_backward(static_views, static_labels)
                model.zero_grad(set_to_none=True)
        torch.cuda.current_stream().wait_stream(side_stream)
        self._graph = torch.cuda.CUDAGraph()
        # thread_local, because another thread may be copying a checkpoint from the device
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._metrics = forward_backward(static_views, static_labels)
        self._gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
        for buffer, value in zip(model.buffers(), saved, strict=True):
            buffer.copy_(value)

    def replay(self, views: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """Runs the graph on another batch."""
        for static, tensor in zip(self._inputs, (*views, labels), strict=True):
            static.copy_(tensor)
        self._graph.replay()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        return {name: value.clone() for name, value in self._metrics.items()}
