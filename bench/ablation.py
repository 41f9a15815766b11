"""`make bench-ablation`: the effect of each item of PyTorch's performance tuning guide on the step of SimCLR.

Each variant is our step without an item that we use, or with an item that we don't use. The table says how much faster
the step is with the item. Items that don't apply are listed with the reason. Writes bench/ablation.md.
"""

from ssl_pkg.extras import require_or_exit

if __name__ == "__main__":
    require_or_exit("train", "bench")

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from subprocess import PIPE
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.markdown import Markdown
from torch import Tensor, nn

from bench.baselines import dataloader_batches
from bench.ours import BATCH, build, configuration, make_step
from bench.timing import Variant, exit_status, machine, measure, positive, writable, write
from ssl_pkg.augment.views import resize
from ssl_pkg.data.dataset import open_dataset
from ssl_pkg.evaluation.forward import outputs
from ssl_pkg.hardware import prepare
from ssl_pkg.hardware.prepare import Hardware
from ssl_pkg.models.convolution import SmallMapConv2d
from ssl_pkg.training.optimizers import LARS
from ssl_pkg.training.step import Batch, Task

Step = Callable[[], object]

NOT_APPLICABLE = (
    ("workers and pinned memory in the DataLoader", "there is no DataLoader: views are made on the training device"),
    ("no bias before a batch norm", "torchvision's ResNet has none; BYOL's heads have one, as in the paper"),
    ("in-place activations", "torchvision's ResNet has them"),
    ("activation checkpointing", "the activations of a step fit in memory, so it would only cost time"),
    ("no debugging APIs", "runs use no anomaly detection, profiler or gradcheck"),
    ("NUMA and thread affinity", "the benchmark runs on one node; SLURM binds the tasks of a job to cores"),
    ("oneDNN Graph", "for inference with TorchScript, which no stage uses"),
    (
        "avoiding CPU-GPU synchronisation",
        "metrics are read once in ten steps; tests check that nothing else synchronises",
    ),
    ("cuDNN's autotuning", "not used, because it chooses by timing and a resumed run could round differently"),
    ("overlapped reduction, buckets, no_sync", "needs several processes; DistributedDataParallel's defaults are used"),
)


def main() -> int:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.ablation", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", default="synthetic", help="folder with stl10_binary/ (default: the synthetic images)")
    parser.add_argument("--resolution", type=int, default=96)
    parser.add_argument("--rounds", type=positive, default=5, help="timings of each variant (default: 5)")
    parser.add_argument("--out", type=writable, default=Path(__file__).with_name("ablation.md"))
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)  # the process of `_glibc_defaults`
    options = parser.parse_args()
    if options.serve:
        _serve(options.data, options.resolution)
        return 0

    task, hardware = build(configuration("simclr", options.data, options.resolution))
    base = Variant("as it is", make_step(task, hardware), BATCH)
    items = [
        (item, kind, Variant(item, step, BATCH)) for item, kind, step in _variants(options.data, options.resolution)
    ]
    measure([base, *(variant for _, _, variant in items)], options.rounds, f"{options.resolution} px")
    rows = []
    for item, kind, variant in items:
        gain = base.rate / variant.rate if kind == "used" else variant.rate / base.rate
        rows.append((item, kind, f"x{gain:.2f}"))
    rows.append(("no gradients in evaluation", "used", f"x{_evaluation(task, options):.2f} of an evaluation"))
    rows += [(item, "not applicable", reason) for item, reason in (*NOT_APPLICABLE, *_not_here(hardware))]
    text = _markdown(rows, base, options)
    Console().print(Markdown(text))
    write(options.out, text)
    return 0


def _variants(data: str, resolution: int) -> Iterator[tuple[str, str, Step]]:
    """Yields an item, "used" or "left out", and the step without the item if it is used, else with the item."""
    configure = partial(configuration, "simclr", data, resolution)

    def ours(*more: str, change: Callable[[Task], Any] = lambda task: None) -> Step:
        """The step of a task that `change` modifies in place; `change` may return another source of batches."""
        task, hardware = build(configure(*more))
        return make_step(task, hardware, change(task))

    task, hardware = build(configure())
    loader = dataloader_batches(open_dataset(configure().data).unlabeled, resolution, 0, hardware.device)
    yield "views made on the training device, no DataLoader", "used", make_step(task, hardware, loader)
    if hardware.dtype != torch.float32:
        yield f"mixed precision ({str(hardware.dtype).removeprefix('torch.')})", "used", ours("precision=float32")
    yield "channels_last", "used", ours(change=_contiguous)
    if hardware.device.type == "cpu":
        yield "memory allocator that keeps freed memory", "used", _glibc_defaults(data, resolution)
        yield "im2col for small convolutions", "used", ours(change=_plain_convolutions)
    yield "both views in one forward pass", "used", ours(change=_two_passes)
    yield "optimizer over all tensors at once (foreach)", "used", ours(change=_parameter_by_parameter)
    yield "gradients set to None", "used", ours(change=_gradients_set_to_zero)
    if hardware.compiles:
        yield "fusion by torch.compile, views and network", "used", ours("compile=never")
    else:
        yield "fusion by torch.compile", "left out", ours(change=_compiled)


def _not_here(hardware: Hardware) -> Iterator[tuple[str, str]]:
    """Items that this machine doesn't support, or that can't be switched off, with the reason."""
    if hardware.device.type == "cpu":
        yield "TF32, tensor cores, CUDA graphs", "GPUs only, where they are used"
    else:
        yield "oneDNN's small convolutions, malloc", "CPUs only"
    if hardware.dtype == torch.float32:
        yield "mixed precision", "this processor has no fast bfloat16 or float16; others use it"


def _contiguous(task: Task) -> Callable[[int], Batch]:
    """Changes the memory format of weights and views, because either in channels_last makes a convolution use it."""
    cast(Any, task.model).to(memory_format=torch.contiguous_format)

    def batch(step: int) -> Batch:
        views, labels = task.batch(step)
        return [view.contiguous() for view in views], labels

    return batch


def _plain_convolutions(task: Task) -> None:
    for module in task.model.encoder.modules():
        if isinstance(module, SmallMapConv2d):
            cast(Any, module).__class__ = nn.Conv2d


def _two_passes(task: Task) -> None:
    encoder: Any = task.model.encoder
    forward = encoder.forward
    encoder.forward = lambda views: torch.cat([forward(view) for view in views.chunk(2)])


def _compiled(task: Task) -> None:
    _plain_convolutions(task)
    task.model.encoder.compile(dynamic=False)


def _gradients_set_to_zero(task: Task) -> None:
    optimizer: Any = task.optimizer
    zero_grad = optimizer.zero_grad
    optimizer.zero_grad = lambda set_to_none=True: zero_grad(set_to_none=False)


def _parameter_by_parameter(task: Task) -> None:
    """Makes LARS update one parameter at a time."""
    assert isinstance(task.optimizer, LARS)
    groups = task.optimizer.param_groups
    groups[:] = [{**group, "params": [parameter]} for group in groups for parameter in group["params"]]


def _glibc_defaults(data: str, resolution: int) -> Step:
    """The step in a process with glibc's default malloc settings, because a process can't restore them."""
    line = [sys.executable, "-m", "bench.ablation", "--serve", f"--data={data}", f"--resolution={resolution}"]
    # in its own session, so that Ctrl-C interrupts only this process; the child ends when its stdin is closed
    process = subprocess.Popen(
        line, stdin=PIPE, stdout=PIPE, encoding="utf-8", errors="replace", start_new_session=True
    )
    assert process.stdin is not None and process.stdout is not None
    requests, responses = process.stdin, process.stdout

    def step() -> None:
        print(file=requests, flush=True)
        if not responses.readline():
            raise RuntimeError("the process with glibc's default settings ended unexpectedly")

    return step


def _serve(data: str, resolution: int) -> None:
    """Makes one step for each line on stdin, with glibc's default settings."""
    cast(Any, prepare).keep_freed_memory = lambda: None
    step = make_step(*build(configuration("simclr", data, resolution)))
    for _ in sys.stdin:
        step()
        print(flush=True)


def _evaluation(task: Task, options: argparse.Namespace) -> float:
    """The speed-up of embedding a split without recording gradients."""
    data = open_dataset(configuration("simclr", options.data, options.resolution).data)
    part = data.test.subset(np.arange(min(1024, len(data.test))))
    device = next(task.model.encoder.parameters()).device

    def without_gradients() -> object:
        return outputs(task.model.encoder, part, options.resolution, device)

    def with_gradients() -> Tensor:
        encoder = task.model.encoder.eval()
        batches = np.split(np.arange(len(part)), range(256, len(part), 256))
        embedded = [encoder(resize(part.load(rows, device)[0], options.resolution)) for rows in batches]
        encoder.train()
        return torch.cat(embedded)

    variants = [Variant("inference", without_gradients, len(part), 1), Variant("grad", with_gradients, len(part), 1)]
    measure(variants, options.rounds, "evaluation")
    return variants[0].rate / variants[1].rate


def _markdown(rows: list[tuple[str, str, str]], base: Variant, options: argparse.Namespace) -> str:
    where = machine()
    lines = [
        f"SimCLR at {options.resolution} px in batches of {BATCH}: {base.rate:.1f} pairs per second as it is; "
        f"{where['gpu'] or where['cpu']}, {where['cores']} cores, torch {where['torch']}; medians of "
        f"{options.rounds} timings, all variants in turn. Used items were removed, items left out were added.",
        "",
        "| item | | speed-up |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {item} | {kind} | {speed_up} |" for item, kind, speed_up in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(exit_status(main))
