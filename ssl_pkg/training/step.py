"""One step of a training: what moves, by what rate, on which batch, and how a GPU is kept busy with it."""

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

_WARM_UP = 3  # passes before a recording, in which libraries allocate and networks compile


@dataclass(frozen=True)
class Task:
    """One training: what moves, by what rate, on which batches, for how long. All are functions of the step."""

    phase: str
    model: Method
    loss: Loss  # of the model; where there are several processes, its gradient is that of the whole batch
    optimizer: torch.optim.Optimizer
    rate: Callable[[int], float]
    batch: Callable[[int], Batch]  # every batch has the same shapes
    indices: Callable[[int], Indices]  # of the images of the whole batch
    steps: int
    steps_per_epoch: int
    # after each epoch, by its number from 1: more to log, or nothing
    validate: Callable[[int], dict[str, float]] = lambda epoch: {}
    first_journal_step: int = 0  # where this training starts in the journal of a run that has several


class Step:
    """The steps of `task`, by their numbers; `scaler` is the state beside the model's and the optimizer's.

    Nothing waits for the device, but float16's scaler. On a GPU the loss and its gradients are recorded as a CUDA graph
    before the first step and launched as a whole: the host takes longer to launch their kernels one by one than an H100
    to compute them.
    """

    def __init__(self, task: Task, hardware: Hardware) -> None:
        self.scaler = hardware.scaler()
        self._task, self._hardware = task, hardware
        self._recording: _Recording | None = None

    def __call__(self, step: int) -> dict[str, Tensor]:
        """Makes step `step`. Returns the loss and what else is to be logged, as means over the ranks."""
        task = self._task
        views, labels = task.batch(step)
        views = [view.to(self._hardware.dtype) for view in views]  # autocast would, in each network anew
        for group in task.optimizer.param_groups:
            group["lr"] = task.rate(step) * group["rate"]
        metrics = self._differentiated(views, labels)
        self.scaler.step(task.optimizer)
        self.scaler.update()
        task.optimizer.zero_grad(set_to_none=True)
        task.model.after_step(step, task.steps)
        return all_reduce_mean(metrics)

    def _differentiated(self, views: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """The loss and the metrics of a batch; its gradients are left with the parameters."""
        if self._hardware.device.type != "cuda" or world_size() > 1:  # what ranks tell each other is not recorded
            return self._launched(views, labels)
        if self._recording is None:
            try:
                self._recording = _Recording(self._launched, cast(nn.Module, self._task.model), views, labels)
            except RuntimeError as error:
                error.add_note("(while the loss was recorded as a CUDA graph: it must not wait for the device)")
                raise
        return self._recording.repeated(views, labels)

    def _launched(self, views: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        with self._hardware.autocast():
            loss, metrics = self._task.loss(views, labels)
        torch.autograd.backward(self.scaler.scale(loss))
        return {"loss": loss.detach(), **metrics}


class _Recording:
    """What `differentiated` does to a batch, as a CUDA graph: the same kernels on the same memory, for any batch."""

    def __init__(
        self, differentiated: Callable[[list[Tensor], Tensor], dict[str, Tensor]], model: nn.Module,
        views: list[Tensor], labels: Tensor,
    ) -> None:  # fmt: skip
        self._inputs = [tensor.clone() for tensor in (*views, labels)]
        *own_views, own_labels = self._inputs
        # No step of a training is made before the recording, or the first ones after an interruption would differ from
        # those of a training that goes on: the passes here leave only batch statistics behind, which are taken back.
        kept = [buffer.clone() for buffer in model.buffers()]
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call] # torch's
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(_WARM_UP):
                differentiated(own_views, own_labels)
                model.zero_grad(set_to_none=True)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # of this thread only: another may be copying a checkpoint from the device
        with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
            self._metrics = differentiated(own_views, own_labels)
        self._gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
        for buffer, value in zip(model.buffers(), kept, strict=True):
            buffer.copy_(value)

    def repeated(self, views: list[Tensor], labels: Tensor) -> dict[str, Tensor]:
        """The same with this batch."""
        for own, tensor in zip(self._inputs, (*views, labels), strict=True):
            own.copy_(tensor)
        self._graph.replay()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient
        return {name: value.clone() for name, value in self._metrics.items()}
