"""What the runs of FakeStudy contain: metric lines, numbers of some evaluations and a method's configuration."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from analysis.names import Model

CORRUPTIONS = ("gaussian_noise", "gaussian_blur", "brightness", "contrast", "pixelate", "jpeg")
SEVERITIES = (1, 3, 5)


def measurements(*, head: bool) -> list[tuple[str, dict[str, Any]]]:
    """The metric and the dimensions of each row of the stage `width`; some rows of a real run are left out."""

    def measure(name: str, radius: float | None = None, normalized: bool = False, **more: Any) -> dict[str, Any]:
        dimensions = {"measure": name, **({} if radius is None else {"radius": radius})}
        return dimensions | {"scope": "network", "normalized": normalized} | more

    found = []
    for radius in (0.00025, 0.0005, 0.001):
        for normalized in (True, False):
            worst = measure("adaptive_worst", radius, normalized)
            found += [("width", worst), ("first_order", worst)]
    found += [("width", measure("adaptive_average", radius)) for radius in (0.01, 0.03, 0.1)]
    found += [("width", measure(name)) for name in ("pac_bayes_sigma", "keskar", "hessian_trace")]
    found += [("width", measure("hessian_eigenvalue", eigenvalue=place)) for place in (1, 2, 3)]
    found += [("loss", {}), ("width", measure("adaptive_average", 0.03, True))]
    for penalty in ("chosen", "common") if head else ():
        of_head = {"scope": "head", "penalty": penalty}
        found += [("width", measure("adaptive_worst", 0.0005, True, **of_head))]
        found += [("width", measure("hessian_eigenvalue", eigenvalue=1, **of_head))]
        found += [("loss", of_head), ("accuracy", of_head)] if penalty == "common" else []
    return [*found, ("accuracy", {})]


def method_config(name: str) -> dict[str, Any]:
    """The section `method` of config.yaml."""
    view = {"crop_area": [0.2, 1.0], "flip": 0.5, "grey": 0.2, "blur": 0.5, "solarize": 0.0}
    view |= {"jitter": {"probability": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1}}
    fields: dict[str, dict[str, Any]] = {"byol": {"out": 256}, "moco": {"temperature": 0.2, "queue_size": 512}}
    model = {"_target_": f"ssl_pkg.methods.{name}.X"} | fields.get(name, {"temperature": 0.2})
    optimizer = {"name": "lars", "base_lr": 0.3, "lr_scaling": "linear", "weight_decay": 1e-6, "momentum": 0.9}
    plan = {"epochs": 4, "warmup_epochs": 0.5, "batch_size": 256}
    titles = {"simclr": "SimCLR", "byol": "BYOL", "moco": "MoCo v2"}
    return {
        "name": name,
        "title": titles.get(name, name),
        "papers": [f"The paper of {name}"],
        "model": model,
        "split": "unlabeled",
        **plan,
        "optimizer": optimizer,
        "views": [view, view],
    }


def provenance(data: str) -> dict[str, Any]:
    """The content of provenance.json of a run on the set `data`."""
    files = {"stl10_binary/test_X.bin": {"bytes": 12345, "md5": "7f263ba9f9e0b06b93213547f721ac82"}}
    return {
        "commit": "0123456789ab",
        "versions": {"python": "3.11.7", "torch": "2.14.1"},
        "data": {"name": data, "root": "/data/fake", "files": files},
        "hardware": {"device": "cpu", "name": "x86_64", "precision": "float32", "threads": 1},
        "world_size": 1,
    }


def training(split: str, settings: Mapping[str, Any], steps: int) -> dict[str, Any]:
    """The entry `training` of result.json, of a training with the epochs and the batch size of `settings`."""
    size, epochs = settings["batch_size"], settings["epochs"]
    length = {"split": split, "images": size * max(1, steps // epochs), "batch_size": size}
    return length | {"epochs": epochs, "passes": 1, "steps": steps}


def pretraining_lines(method: str, steps: int, draws: np.random.Generator) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl of a pretraining."""
    loss = 2.5 * np.exp(-np.linspace(0, 2, steps)) + np.cumsum(draws.normal(0, 0.01, steps)) + 0.5
    lines = []
    for step in range(steps):
        line: dict[str, Any] = {"loss": float(loss[step]), "lr": 0.3 * float(np.cos(np.pi * step / steps / 2))}
        line["z_std"] = 0.06 + 0.005 * float(draws.normal())
        line |= {"alignment": 0.5 - 0.3 * step / steps, "uniformity": -3.0 * step / steps}
        if method != "byol":
            line["contrast_accuracy"] = 0.9 * step / steps
        if step % 10 == 9:
            line |= {"knn": 0.3 + 0.3 * step / steps, "effective_rank": 20.0 + step}
        lines.append({"step": step + 1, "epoch": (step + 1) / 10, "phase": "train", "seconds": float(step)} | line)
    return lines


def labelled_lines(trials: Sequence[str]) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl of these trials of a fine-tuning, and of its final training."""
    lines = []
    for trial, phase in enumerate([*trials, "final"]):
        for step in range(1, 6):
            line = {"step": 5 * trial + step, "epoch": step, "phase": phase, "seconds": 1.0, "loss": 2 / step}
            key = "accuracy" if phase == "final" else "val_accuracy"
            more = {} if phase == "final" else {"val_loss": 2.2 / step}
            lines.append(line | {key: 0.5 + 0.05 * step + 0.02 * trial} | more)
    return lines


def corruption_hits(skill: float, difficulty: np.ndarray, draws: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Hits on clean images (n,) and under each corruption and severity (6, 3, n), of images with this difficulty (n,).

    Half of the difficulty belongs to the image, because real models find the same images hard.
    """
    hard = 0.5 * difficulty + 0.5 * draws.random((len(CORRUPTIONS), len(SEVERITIES), len(difficulty)))
    limits = skill - 0.05 * np.arange(len(CORRUPTIONS))[:, None] - 0.05 * np.array(SEVERITIES)
    return (hard[0, 0] < skill).astype(np.int8), (hard < limits[..., None]).astype(np.int8)


def corruption_numbers(clean: np.ndarray, hits: np.ndarray) -> list[tuple[str, float, dict[str, Any]]]:
    """Metric, value and dimensions of each row of the stage `corruptions`."""
    found: list[tuple[str, float, dict[str, Any]]] = [("clean_accuracy", float(clean.mean()), {})]
    for corruption, own in zip(CORRUPTIONS, hits, strict=True):
        keys = [{"corruption": corruption, "severity": severity} for severity in SEVERITIES]
        found += [("accuracy", float(at.mean()), key) for at, key in zip(own, keys, strict=True)]
        found.append(("mean_accuracy", float(own.mean()), {"corruption": corruption}))
    mean = float(hits.mean())
    return [*found, ("mean_accuracy", mean, {}), ("relative_accuracy", mean / float(clean.mean()), {})]


def row(evaluation: str, metric: str, value: float, n: int, hits: Any = None, **dimensions: Any) -> dict[str, Any]:
    """A row of result.json; hits (n,) give it an interval."""
    half = None if hits is None else 1.96 * np.sqrt(max(value * (1 - value), 1e-9) / len(hits))
    low, high = (None, None) if half is None else (max(0.0, value - half), min(1.0, value + half))
    content = {"evaluation": evaluation, "metric": metric, **dimensions}
    return content | {"value": value, "low": low, "high": high, "n": n}


def logits_of(labels: np.ndarray, classes: int, skill: float, seed: int, draws: np.random.Generator) -> np.ndarray:
    """Logits (n, C) of a model that is right for a share `skill` of the images.

    Half of the difficulty belongs to the image, because real models find the same images hard.
    """
    count = len(labels)
    ease = 0.5 * np.random.default_rng(seed).random(count) + 0.5 * draws.random(count)
    wrong = (labels + draws.integers(1, classes, count)) % classes
    predicted = np.where(ease < np.quantile(ease, skill), labels, wrong)
    logits = draws.normal(0, 1, (count, classes)).astype(np.float32)
    logits[np.arange(count), predicted] = 3.5 + np.abs(draws.normal(0, 2.5, count))
    return logits


def model_of(name: str, variant: str = "") -> Model:
    """The model with this name: `simclr-probe`, `supervised`."""
    method, _, adaptation = name.rpartition("-")
    return Model(method, adaptation, variant) if adaptation in ("probe", "finetune") else Model(name, None, variant)


def models_of(*names: str) -> list[Model]:
    """The models with these names."""
    return [model_of(name) for name in names]
