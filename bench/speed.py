"""`make bench`: images per second of each method's pretraining, of its upper limit and of two baselines.

    full         the pretraining as in a run, in pairs of views per second
    limit        the same step with views that are already on the device
    lightly      lightly's SimCLR as in its documentation, with 0 or 2 loader workers, whichever is faster
    torchvision  our step with torchvision's transforms of Pillow images in a DataLoader, with 0 or 2 workers likewise

Prints a table and writes bench/latest.json.
"""

from ssl_pkg.extras import require_or_exit

if __name__ == "__main__":
    require_or_exit("train", "bench")

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Column, Table

from bench.baselines import Lightly, dataloader_batches, torchvision_transform
from bench.ours import BATCH, build, configuration, fixed_batch, forward_backward_flops, make_step
from bench.timing import Variant, exit_status, machine, measure, positive, pretraining, writable, write
from ssl_pkg.augment.parameters import sample_parameters
from ssl_pkg.augment.views import make_view
from ssl_pkg.data.dataset import open_dataset
from ssl_pkg.errors import INTERRUPTED
from ssl_pkg.hardware import memory
from ssl_pkg.hardware.prepare import Hardware

METHODS = ("simclr", "byol", "moco")
SIDE = {"cpu": 2048, "cuda": 8192}  # of the square matrices whose multiplication is timed as the machine's peak
PRODUCTS = 20  # matrix products in one timed call
MAX_IMAGES = 20_000  # that each baseline holds in memory
STEPS = 12  # after which memory is read; it grew until the tenth step at the latest


def main() -> int:
    """Measures, prints and writes the results."""
    options = _parser().parse_args()
    found: dict[str, Any] = {"machine": machine(), "batch": BATCH, "data": options.data}
    found |= _trainings(options, 96, METHODS)
    found["at_64px"] = _trainings(options, 64, ("simclr",))
    found |= _views(options) | _start(options.data)
    _print(found)
    write(options.out, json.dumps(found, indent=2) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.speed", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", default="synthetic", help="folder with stl10_binary/ (default: the synthetic images)")
    parser.add_argument("--rounds", type=positive, default=5, help="timings of each variant (default: 5)")
    parser.add_argument("--out", type=writable, default=Path(__file__).with_name("latest.json"))
    return parser


def _trainings(options: argparse.Namespace, resolution: int, methods: tuple[str, ...]) -> dict[str, Any]:
    """Rates of each method, full and limit, and for SimCLR the baselines and the share of the peak FLOP/s."""
    variants: dict[tuple[str, str], Variant] = {}
    for method in methods:
        task, hardware = build(configuration(method, options.data, resolution))
        variants[method, "full"] = Variant(f"{method} full", make_step(task, hardware), BATCH)
        limit = make_step(task, hardware, fixed_batch(task))
        variants[method, "limit"] = Variant(f"{method} limit", limit, BATCH)
        if method != "simclr":
            continue
        flops = forward_backward_flops(task, task.batch(0))
        unlabeled = open_dataset(configuration(method, options.data, resolution).data).unlabeled
        unlabeled = unlabeled.subset(np.arange(min(MAX_IMAGES, len(unlabeled))))
        for workers in (0, 2):
            baseline = Lightly(unlabeled, resolution, workers)
            settle = 2 if workers else 0
            name = f"lightly, {workers} workers"
            variants[method, name] = Variant(name, baseline.step, BATCH, settle=settle)
            name = f"torchvision, {workers} workers"
            batch = dataloader_batches(unlabeled, resolution, workers, hardware.device)
            variants[method, name] = Variant(name, make_step(task, hardware, batch), BATCH, settle=settle)
        flop = PRODUCTS * 2 * SIDE[hardware.device.type] ** 3
        variants[method, "gemm"] = Variant("matrix products", _products(hardware), flop)
    measure(list(variants.values()), options.rounds, f"{resolution} px")

    found: dict[str, Any] = {method: {} for method in methods}
    for (method, name), variant in variants.items():
        kind = name.partition(",")[0]  # the faster of the two numbers of workers counts
        if kind != "gemm" and variant.rate > found[method].get(kind, 0):
            found[method] |= {kind: variant.rate, f"{kind}_timings": variant.rates}
    gemm, precision = variants["simclr", "gemm"].rate, str(hardware.dtype).removeprefix("torch.")
    used = flops * variants["simclr", "limit"].rate / BATCH
    return found | {
        "gemm_tflops": gemm / 1e12,
        "precision": precision,
        "step_gflop": flops / 1e9,
        "gemm_utilisation": used / gemm,
    }


def _products(hardware: Hardware) -> Callable[[], object]:
    """Returns a function that multiplies square matrices in the dtype of the training step."""
    side = SIDE[hardware.device.type]
    a, b = (torch.randn(side, side, device=hardware.device, dtype=hardware.dtype) for _ in range(2))

    def multiply() -> None:
        for _ in range(PRODUCTS):
            torch.mm(a, b)

    return multiply


def _views(options: argparse.Namespace) -> dict[str, Any]:
    """SimCLR's views of 96 px per second on one core, including the sampling of their parameters."""
    config = configuration("simclr", options.data, 96)
    assert config.method is not None
    view, images = config.method.views[0], open_dataset(config.data).unlabeled
    chosen = np.arange(min(BATCH, len(images)))
    pixels, _ = images.load(chosen, torch.device("cpu"))
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pixels]
    transform, threads = torchvision_transform(96), torch.get_num_threads()

    def ours() -> None:
        make_view(pixels, sample_parameters(view, 0, 0, chosen, 0, *pixels.shape[-2:]), 96)

    def theirs() -> None:
        for picture in pictures:
            transform(picture)

    torch.set_num_threads(1)
    variants = [Variant("views", ours, len(chosen), steps=5), Variant("torchvision's views", theirs, len(chosen))]
    measure(variants, max(5, options.rounds), "one core")
    torch.set_num_threads(threads)
    return {"views_per_core": variants[0].rate, "torchvision_views_per_core": variants[1].rate}


def _start(data: str) -> dict[str, Any]:
    """Seconds from the start of a run to the first metric line, and peak memory in excess of the images.

    The run is started with empty caches and then resumed. The memory is None if the system doesn't report it.
    """
    config = configuration("simclr", data, 96).data
    dataset = open_dataset(config)  # generates the synthetic set if necessary
    size = dataset.unlabeled.pixels.nbytes
    resident = size if size <= config.resident_gb * 1e9 else 0
    with tempfile.TemporaryDirectory() as folder:
        cold, new = _first_steps(dataset.manifest["root"], Path(folder))
        warm, resumed = _first_steps(dataset.manifest["root"], Path(folder))
    return {
        "first_step_cold_s": cold,
        "first_step_warm_s": warm,
        "start_jemalloc": memory.find_jemalloc() is not None and "LD_PRELOAD" not in os.environ,
        "peak_memory_over_data_gb": (max(new, resumed) - resident) / 1e9 if new and resumed else None,
    }


def _first_steps(root: str, folder: Path) -> tuple[float, int]:
    """Starts or resumes the run in `folder` for STEPS steps; returns the seconds to the first and the peak bytes."""
    line = ["stage=pretrain", "method=simclr", "budget=full", f"method.batch_size={BATCH}", "log_every=1"]
    line += [f"run_dir={folder / 'run'}", f"data.root={root}", f"budget.max_steps={4 * STEPS}"]
    environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)  # set for this process
    metrics, start = folder / "run/metrics.jsonl", time.perf_counter()
    before, seconds, peak = _lines(metrics), None, 0
    with pretraining(line, folder / "log", environment) as (process,):
        while process.poll() is None and _lines(metrics) < before + STEPS:
            time.sleep(0.02)
            if seconds is None and _lines(metrics) > before:
                seconds = time.perf_counter() - start
            peak = max(peak, _peak_memory(process.pid))
        process.terminate()
        if process.wait() != INTERRUPTED or seconds is None:
            raise RuntimeError(f"a pretraining ended with exit status {process.returncode} in its first {STEPS} steps")
    return seconds, peak


def _lines(file: Path) -> int:
    return file.read_bytes().count(b"\n") if file.exists() else 0


def _peak_memory(pid: int) -> int:
    """The process's peak resident set in bytes. Not from `wait4`, which includes the parent's memory at the fork."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _print(found: dict[str, Any]) -> None:
    console = Console()
    heads = ("full", "limit", "full /\nlimit", "lightly", "full /\nlightly", "torch-\nvision", "full /\ntorch-\nvision")
    columns = [Column("", no_wrap=True), *(Column(head, justify="right") for head in heads)]
    table = Table(*columns, box=None, pad_edge=False)
    rows = [(f"{method} 96 px", found[method]) for method in METHODS]
    for name, entry in [*rows, ("simclr 64 px", found["at_64px"]["simclr"])]:
        cells = [f"{entry['full']:.1f}", f"{entry['limit']:.1f}", f"{entry['full'] / entry['limit']:.3f}"]
        for baseline in ("lightly", "torchvision"):
            rate = entry.get(baseline)
            cells += [f"{rate:.1f}", f"{entry['full'] / rate:.2f}"] if rate else ["", ""]
        table.add_row(name, *cells)
    table.title = f"images (pairs) per second, batches of {BATCH}: {found['machine']['gpu'] or found['machine']['cpu']}"
    console.print(table)
    facts = Table.grid(padding=(0, 2))
    ratio = found["views_per_core"] / found["torchvision_views_per_core"]
    used = f"{found['gemm_utilisation']:.2f}, at 64 px {found['at_64px']['gemm_utilisation']:.2f}"
    facts.add_row("views per second on one core", f"{found['views_per_core']:.0f}, {ratio:.1f} times torchvision's")
    facts.add_row(f"share of the peak in {found['precision']}", f"{used} of {found['gemm_tflops']:.2f} TFLOP/s")
    facts.add_row(
        "start to first step", f"{found['first_step_cold_s']:.1f} s, {found['first_step_warm_s']:.1f} s resumed"
    )
    peak = found["peak_memory_over_data_gb"]
    facts.add_row("peak memory without the images", f"{peak:.2f} GB" if peak else "unknown")
    console.print(facts)
    console.print(
        "full: the pretraining as in a run. limit: the same step with views that are already on the device. lightly: "
        "SimCLR as in its documentation. torchvision: our step with torchvision's views. peak: large matrix products."
    )


if __name__ == "__main__":
    sys.exit(exit_status(main))
