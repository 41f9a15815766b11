"""`make bench-learning DATA=DIR`: compares the accuracy of our SimCLR and lightly's after the same training time.

Both train at 64 px for the same number of minutes, one after the other on the whole machine. Both encoders are then
evaluated by kNN on a holdout split of train, and on test by the L-BFGS probe, whose penalty is chosen on the holdout
split. Our SimCLR has the settings of the `quick` budget, which suit some hundred steps. Writes bench/learning.json.
"""

from ssl_pkg.extras import require_or_exit

if __name__ == "__main__":
    require_or_exit("train", "bench")

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import nn

from bench.baselines import Lightly
from bench.ours import BATCH, make_step
from bench.timing import exit_status, finish, machine, positive, progress_bar, writable, write
from ssl_pkg.config.compose import load_config
from ssl_pkg.config.schema import Config
from ssl_pkg.data.dataset import open_dataset
from ssl_pkg.data.images import holdout
from ssl_pkg.data.stl10 import STL10
from ssl_pkg.evaluation.forward import outputs
from ssl_pkg.evaluation.knn import knn_predict
from ssl_pkg.evaluation.probe import fit_probe
from ssl_pkg.hardware.prepare import prepare
from ssl_pkg.stages.pretrain import training

RESOLUTION = 64
TRIAL = 8  # steps that are timed to estimate how many fit into the training time


def main() -> int:
    """Trains both, then prints and writes their accuracies."""
    parser = argparse.ArgumentParser(prog="python -m bench.learning", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--data", required=True, help="folder with stl10_binary/")
    parser.add_argument("--minutes", type=positive, default=10, help="minutes of each training (default: 10)")
    parser.add_argument("--out", type=writable, default=Path(__file__).with_name("learning.json"))
    options = parser.parse_args()
    line = ["stage=pretrain", "method=simclr", "run_dir=-", f"data.root={options.data}", "budget=quick"]
    config = load_config([*line, f"budget.resolution={RESOLUTION}"])
    dataset = open_dataset(config.data)
    found = {
        "machine": machine(),
        "data": dataset.manifest["name"],
        "minutes": options.minutes,
        "ours": _ours(config, line, dataset, options.minutes),
        "lightly": _lightly(config, dataset, options.minutes),
    }
    table = Table("", "pairs", "pairs/s", "kNN, holdout split", "probe, test")
    for name in ("ours", "lightly"):
        entry: Any = found[name]
        accuracies = [f"{100 * entry[key]:.1f} %" for key in ("knn", "probe")]
        table.add_row(name, f"{entry['pairs']:,}", f"{entry['pairs'] / entry['seconds']:.1f}", *accuracies)
    Console().print(table)
    write(options.out, json.dumps(found, indent=2) + "\n")
    return 0


def _ours(config: Config, line: list[str], dataset: STL10, minutes: int) -> dict[str, Any]:
    """Trains for the number of steps that fit into the time by a trial, so that the schedule ends with the training."""
    assert config.method is not None
    hardware, batch = prepare(config), config.method.batch_size
    trial = make_step(training(config, dataset, hardware), hardware)
    trial()
    seconds = _timed(trial, lambda done, _: done / TRIAL, "trial")[1] / TRIAL
    steps = int(minutes * 60 / seconds)
    epochs = -(-steps // (len(dataset.unlabeled) // batch))
    planned = load_config(
        [*line, f"budget.resolution={RESOLUTION}", f"method.epochs={epochs}", f"budget.max_steps={steps}"]
    )
    task = training(planned, dataset, hardware)
    step, limit = make_step(task, hardware), 60 * minutes
    done, seconds = _timed(step, lambda done, spent: max(done / steps, spent / limit), "ours")
    return {"pairs": done * batch, "seconds": seconds} | _evaluated(task.model.encoder, dataset, config, "ours")


def _lightly(config: Config, dataset: STL10, minutes: int) -> dict[str, Any]:
    """Trains until the time is over, which lightly's recipe allows because its learning rate is constant."""
    baseline = Lightly(dataset.unlabeled, RESOLUTION, workers=0)
    done, seconds = _timed(baseline.step, lambda _, spent: spent / (60 * minutes), "lightly")
    return {"pairs": done * BATCH, "seconds": seconds} | _evaluated(baseline.encoder(), dataset, config, "lightly")


def _timed(step: Callable[[], object], progress_of: Callable[[int, float], float], name: str) -> tuple[int, float]:
    """Repeats `step` until progress_of(steps, seconds) reaches 1; returns the number of steps and the seconds taken."""
    finish()
    done, start = 0, time.perf_counter()
    with progress_bar() as progress:
        bar = progress.add_task(name, total=1.0)
        while (part := progress_of(done, time.perf_counter() - start)) < 1:
            progress.update(bar, description=f"{name}: step {done}", completed=part)
            step()
            done += 1
    finish()
    return done, time.perf_counter() - start


def _evaluated(encoder: nn.Module, dataset: STL10, config: Config, name: str) -> dict[str, float]:
    device, labels = next(encoder.parameters()).device, dataset.train.labels
    with progress_bar() as progress:

        def bar(title: str) -> Callable[[int, int], None]:
            task = progress.add_task(f"{name}: {title}")
            return lambda done, total: progress.update(task, completed=done, total=total)

        splits = (dataset.train, "embedding train"), (dataset.test, "embedding test")
        train, test = (outputs(encoder, split, RESOLUTION, device, bar(title)) for split, title in splits)
        bank, queries = holdout(labels, config.probe.validation_fraction)
        neighbours = config.pretrain.knn_neighbours, config.pretrain.knn_temperature
        nearest = knn_predict(train[bank], labels[bank], train[queries], *neighbours)
        probe = fit_probe(train, labels, config.probe, bar("fitting the probe"))
    predicted = (test @ probe.weight.T + probe.bias).argmax(axis=1)
    accuracies = {
        "knn": float((nearest == labels[queries]).mean()),
        "probe": float((predicted == dataset.test.labels).mean()),
    }
    print(f"{name}: kNN {accuracies['knn']:.1%}, probe {accuracies['probe']:.1%}", flush=True)
    return accuracies


if __name__ == "__main__":
    torch.manual_seed(0)
    sys.exit(exit_status(main))
