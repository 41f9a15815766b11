"""`make bench-ablation`: what each item of PyTorch's performance tuning guide gives to SimCLR's step on this machine.

Each variant is our step without one item (or with one that we leave out); the table says how much faster the step is
with it. Items that don't apply have their reason. Writes bench/ablation.md.
"""

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

from bench.baselines import usual_batches
from bench.ours import BATCH, build, configuration, stepper
from bench.timing import Variant, machine, measure, positive, told, writable, write
from ssl_pkg.augment.views import resize
from ssl_pkg.data.dataset import open_dataset
from ssl_pkg.evaluation.forward import predict
from ssl_pkg.hardware import prepare
from ssl_pkg.hardware.prepare import Hardware
from ssl_pkg.models.convolution import SmallMapConv2d
from ssl_pkg.training.optimizers import LARS
from ssl_pkg.training.step import Batch, Task

Step = Callable[[], object]

NOT_APPLICABLE = (
    ("workers and pinned memory in the DataLoader", "there is no loader: views are made where the network trains"),
    ("no bias before a batch norm", "torchvision's ResNet has none; BYOL's heads have one, as the paper writes"),
    ("in-place activations", "torchvision's ResNet has them"),
    ("recomputed instead of kept activations", "a step's fit in memory, so it would only cost time"),
    ("debugging switched off", "no anomaly detection, profiler or gradcheck in a run"),
    ("NUMA and thread affinity", "one node here; a SLURM job binds its tasks to cores itself"),
    ("oneDNN Graph", "for inference by TorchScript, which no stage does"),
    ("avoiding waits for the device", "metrics are read once in ten steps; tests hold step and loop free of others"),
    ("cuDNN's autotuning", "it chooses by timing, so that a resumed run could go on with other roundings: left off"),
    ("overlapped reduction, buckets, no_sync", "more than one process: DistributedDataParallel's defaults"),
)


def main(arguments: list[str] | None = None) -> int:
    """Measures, prints and writes the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.ablation", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", default="synthetic", help="folder with stl10_binary/ (default: the synthetic images)")
    parser.add_argument("--resolution", type=int, default=96)
    parser.add_argument("--windows", type=positive, default=5, help="rounds of measurement (5)")
    parser.add_argument("--out", type=writable, default=Path(__file__).with_name("ablation.md"))
    parser.add_argument("--served", action="store_true", help=argparse.SUPPRESS)  # a process of `_giving_memory_back`
    options = parser.parse_args(arguments)
    if options.served:
        _serve(options.data, options.resolution)
        return 0

    task, hardware = build(configuration("simclr", options.data, options.resolution))
    base = Variant("as it is", stepper(task, hardware), BATCH)
    items = [
        (item, kind, Variant(item, step, BATCH)) for item, kind, step in _variants(options.data, options.resolution)
    ]
    measure([base, *(variant for _, _, variant in items)], options.windows, f"{options.resolution} px")
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
    """Item, whether it is used, and the step without it if it is used, with it if not."""
    configure = partial(configuration, "simclr", data, resolution)

    def ours(*more: str, change: Callable[[Task], Any] = lambda task: None) -> Step:
        """`change` changes the task in place, and may return another source of batches."""
        task, hardware = build(configure(*more))
        return stepper(task, hardware, change(task))

    task, hardware = build(configure())
    loader = usual_batches(open_dataset(configure().data).unlabeled, resolution, 0, hardware.device)
    yield "views made where the network trains, no loader", "used", stepper(task, hardware, loader)
    if hardware.dtype != torch.float32:
        yield f"mixed precision ({str(hardware.dtype).removeprefix('torch.')})", "used", ours("precision=float32")
    yield "channels_last", "used", ours(change=_contiguous)
    if hardware.device.type == "cpu":
        yield "memory allocator that keeps what is freed", "used", _giving_memory_back(data, resolution)
        yield "products in place of small convolutions", "used", ours(change=_plain_convolutions)
    yield "both views in one forward pass", "used", ours(change=_two_passes)
    yield "optimizer over all tensors at once (foreach)", "used", ours(change=_one_by_one)
    yield "gradients set to None", "used", ours(change=_zeroed)
    if hardware.compiles:
        yield "fusion by torch.compile, views and network", "used", ours("compile=never")
    else:
        yield "fusion by torch.compile", "left out", ours(change=_compiled)


def _not_here(hardware: Hardware) -> Iterator[tuple[str, str]]:
    """Items that this machine can't have, or that are on and can't be taken out, with the reason."""
    if hardware.device.type == "cpu":
        yield "TF32, tensor cores, CUDA graphs", "GPUs only; they are on there"
    else:
        yield "oneDNN's small convolutions, malloc", "CPUs only"
    if hardware.dtype == torch.float32:
        yield "mixed precision", "this processor multiplies neither bfloat16 nor float16; on others it is on"


def _contiguous(task: Task) -> Callable[[int], Batch]:
    """Weights and views: a convolution takes the layout of either if it is channels_last."""
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


def _zeroed(task: Task) -> None:
    optimizer: Any = task.optimizer
    zero_grad = optimizer.zero_grad
    optimizer.zero_grad = lambda set_to_none=True: zero_grad(set_to_none=False)


def _one_by_one(task: Task) -> None:
    """LARS that takes one parameter at a time."""
    assert isinstance(task.optimizer, LARS)
    groups = task.optimizer.param_groups
    groups[:] = [{**group, "params": [parameter]} for group in groups for parameter in group["params"]]


def _giving_memory_back(data: str, resolution: int) -> Step:
    """The step in a process whose glibc has its defaults: what was set once can't be taken back."""
    line = [sys.executable, "-m", "bench.ablation", "--served", f"--data={data}", f"--resolution={resolution}"]
    # in a session of its own, so that a Ctrl-C comes to this process alone; the other ends with its stdin
    process = subprocess.Popen(
        line, stdin=PIPE, stdout=PIPE, encoding="utf-8", errors="replace", start_new_session=True
    )
    assert process.stdin is not None and process.stdout is not None
    orders, answers = process.stdin, process.stdout

    def step() -> None:
        print(file=orders, flush=True)
        if not answers.readline():
            raise RuntimeError("the process with glibc's defaults has ended")

    return step


def _serve(data: str, resolution: int) -> None:
    """Makes a step for each line on stdin, with glibc as it is."""
    cast(Any, prepare).keep_freed_memory = lambda: None
    step = stepper(*build(configuration("simclr", data, resolution)))
    for _ in sys.stdin:
        step()
        print(flush=True)


def _evaluation(task: Task, options: argparse.Namespace) -> float:
    """How much faster the embedding of a split is without gradients."""
    data = open_dataset(configuration("simclr", options.data, options.resolution).data)
    part = data.test.subset(np.arange(min(1024, len(data.test))))
    device = next(task.model.encoder.parameters()).device

    def without_gradients() -> object:
        return predict(task.model.encoder, part, options.resolution, device)

    def with_gradients() -> Tensor:
        encoder = task.model.encoder.eval()
        batches = np.split(np.arange(len(part)), range(256, len(part), 256))
        embedded = [encoder(resize(part.load(rows, device)[0], options.resolution)) for rows in batches]
        encoder.train()
        return torch.cat(embedded)

    variants = [Variant("inference", without_gradients, len(part), 1), Variant("grad", with_gradients, len(part), 1)]
    measure(variants, options.windows, "evaluation")
    return variants[0].rate / variants[1].rate


def _markdown(rows: list[tuple[str, str, str]], base: Variant, options: argparse.Namespace) -> str:
    where = machine()
    lines = [
        f"SimCLR at {options.resolution} px in batches of {BATCH}: {base.rate:.1f} pairs a second as it is; "
        f"{where['gpu'] or where['cpu']}, {where['cores']} cores, torch {where['torch']}; medians of "
        f"{options.windows} windows, all variants in turn. What is used was taken out, what is left out was put in.",
        "",
        "| item | | worth |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {item} | {kind} | {worth} |" for item, kind, worth in rows]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(told(main))
