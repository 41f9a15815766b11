"""A small made-up study on disk in the layout of `ssl_pkg/run/directory.py`, with numbers that the tests know.

An integration test (test_stage_numbers.py) checks that its files, keys and rows exist in real runs.
"""

import datetime
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from fake_contents import (
    CORRUPTIONS,
    SEVERITIES,
    corruption_hits,
    corruption_numbers,
    labelled_lines,
    logits_of,
    measurements,
    method_config,
    model_of,
    pretraining_lines,
    provenance,
    row,
    training,
)

from jobs.plan.graph import plan
from jobs.plan.record import record_plan
from ssl_pkg.catalogue import adapted
from ssl_pkg.config.schema import StudyConfig
from ssl_pkg.run.directory import RunDirectory, metrics_sha256, model_name, write_json
from ssl_pkg.run.study_plan import PLAN

CLASSES = ["airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"]
DATE = datetime.date(2026, 1, 2)
AWKWARD = "#1 *best*_ $x$ <a> @b \\ | [c]"  # a class name that is markup to typst, to matplotlib and to Markdown
SKILL = {"random": 0.35, "supervised": 0.66, "simclr": 0.72, "byol": 0.74, "moco": 0.71}
# the accuracies with few labels, unless a test gives others
FEW = {(10, "probe"): 0.5, (50, "probe"): 0.6, (10, "finetune"): 0.3, (50, "finetune"): 0.6}


@dataclass
class FakeStudy:
    """Writes run directories in `path`. images: number on test and on OOD. points: number on a t-SNE map."""

    path: Path
    methods: Sequence[str] = ("supervised", "simclr", "byol", "moco")
    seeds: Sequence[int] = (0,)
    data: str = "synthetic"
    classes: Sequence[str] = tuple(CLASSES)
    images: int = 200
    points: int = 60
    steps: int = 40
    written: list[dict[str, Any]] = field(default_factory=list)  # every row, with its model and seed

    def whole(self) -> "FakeStudy":
        """Every run of every method and seed."""
        for seed in self.seeds:
            self.probe("random", seed)
            self.few_labels("random", seed)
            for method in self.methods:
                if method == "supervised":
                    self.finetune("random", seed)
                    continue
                self.pretrain(method, seed)
                self.probe(method, seed)
                self.finetune(method, seed)
                self.few_labels(method, seed)
            for model in self.finals():
                self.ood(model, seed)
                self.corruptions(model, seed)
                self.embed(model, seed)
                self.width(model, seed)
        return self

    def finals(self) -> list[str]:
        encoders = [method for method in self.methods if method != "supervised"]
        uses = [f"{method}-{use}" for method in encoders for use in ("probe", "finetune")]
        return ["random-probe", *(["supervised"] if "supervised" in self.methods else []), *uses]

    def pretrain(self, method: str, seed: int = 0, *, complete: bool = True) -> Path:
        draws = self._draws("pretrain", method, seed)
        lines = pretraining_lines(method, self.steps, draws)
        config: dict[str, Any] = {"method": method_config(method), "pretrain": {"knn_every": 1, "knn_neighbours": 20}}
        run = self._open(f"pretrain-{method}-s{seed}", seed, None, config, lines)
        if complete:
            rows = [row("knn_validation", "accuracy", SKILL.get(method, 0.6) - 0.1, 100)]
            self._close(run, method, seed, rows, training=training("unlabeled", config["method"], self.steps))
        else:
            self._interrupt(run)
        return run

    def probe(self, method: str, seed: int = 0) -> Path:
        l2 = np.geomspace(1e-6, 1e5, 12)
        values = 0.5 - 0.01 * (np.log10(l2) + 1) ** 2
        tried = [
            {"l2": float(a), "accuracy": float(b), "log_loss": float(2 - b), "converged": True}
            for a, b in zip(l2, values, strict=True)
        ]
        config = {"probe": {"l2_low": 1e-6, "l2_high": 1e5, "l2_count": 12, "validation_fraction": 0.2}}
        source = "random" if method == "random" else f"runs/x/pretrain-{method}-s{seed}"
        run = self._open(f"probe-{method}-s{seed}", seed, source, config, [])
        rows = self._tested(run, method, f"{method}-probe", seed)
        rows += [
            row("validation", "accuracy", 0.5, 40),
            row("validation", "nll", 1.5, 40),
            row("validation", "l2", float(l2[values.argmax()]), 40),
        ]
        self._close(run, f"{method}-probe", seed, rows, tried=tried, notes=[])
        return run

    def finetune(self, method: str, seed: int = 0, candidates: int = 2, *, complete: bool = True) -> Path:
        """Of the method `random`, the supervised baseline."""
        name, adaptation = adapted(method, "finetune")
        phases = [f"trial {number}" for number in range(1, candidates + 1)]
        config: dict[str, Any] = {
            "finetune": {"epochs": 5, "batch_size": 64, "base_lrs": [3e-4, 1e-3], "weight_decays": [0.05]}
        }
        source = "random" if method == "random" else f"pretrain-{method}-s{seed}"
        run = self._open(f"finetune-{method}-s{seed}", seed, source, config, labelled_lines(phases))
        if not complete:
            self._interrupt(run)
            return run
        rows = self._tested(run, name, model_name(name, adaptation), seed, bonus=0.04 if adaptation else 0.0)
        rows += [row("validation", "accuracy", 0.7, 40), row("validation", "nll", 0.9, 40)]
        tried = [
            {"phase": phase, "lr": lr, "weight_decay": 0.05, "jitter": False, "head": "probe"}
            | {"accuracy": 0.7 - number / 20, "log_loss": 0.9 + number / 10, "n": 40}
            for number, (phase, lr) in enumerate(zip(phases, (3e-4, 1e-3), strict=False))
        ]
        length = training("train", config["finetune"], steps=5)
        self._close(run, model_name(name, adaptation), seed, rows, tried=tried, chosen=phases[0], training=length)
        return run

    def few_labels(
        self, method: str, seed: int = 0, *, skills: dict[tuple[int, str], float] = FEW, draws: int = 4
    ) -> Path:
        """skills: the accuracy at each number of labels per class, of each adaptation."""
        run = self._open(f"few_labels-{method}-s{seed}", seed, self._source(method, seed), {}, [])
        models = [(size, adaptation, draw) for size, adaptation in skills for draw in range(draws)]
        generator = self._draws("few_labels", method, seed)
        hits = np.array([generator.random(self.images) < skills[size, name] for size, name, _ in models])
        generator = self._draws("few_labels_ood", method, seed)
        ood_hits = np.array([generator.random(self.images) < 0.7 * skills[size, name] for size, name, _ in models])
        np.savez_compressed(
            run / "few_labels.npz",
            hits=hits.astype(np.int8),
            ood_hits=ood_hits.astype(np.int8),
            labels_per_class=[size for size, _, _ in models],
            draw=[draw for _, _, draw in models],
            finetuned=[int(name == "finetune") for _, name, _ in models],
        )
        rows = [
            row("few_labels", "accuracy", float(own.mean()), self.images, own, labels_per_class=size, draw=draw)
            | {"adaptation": name}
            for own, (size, name, draw) in zip(hits, models, strict=True)
        ]
        self._close(run, method, seed, rows)
        return run

    def ood(self, model: str, seed: int = 0) -> Path:
        run = self._open(f"ood-{model}-s{seed}", seed, self._source(model, seed), {}, [])
        hits, rows = self._predict(run, model, seed, "ood", 0.72 * SKILL.get(model.partition("-")[0], 0.6))
        shared = hits[self._labels() != 7]
        with np.load(run / "predictions.npz") as arrays:
            logits, labels = arrays["logits"], arrays["labels"]
        logits[:, 7] = -np.inf
        masked = (logits.argmax(1) == labels)[labels != 7]
        for metric, own in (("accuracy_shared", shared), ("accuracy_masked", masked)):
            rows.append(row("ood", metric, float(own.mean()), len(own), own))
        rows += [row("ood", "mean_confidence", 0.8, self.images), row("ood", "ece", 0.2, self.images)]
        self._close(run, model, seed, rows, substituted=["monkey"])
        return run

    def corruptions(self, model: str, seed: int = 0) -> Path:
        run = self._open(f"corruptions-{model}-s{seed}", seed, self._source(model, seed), {}, [])
        skill, draws = SKILL.get(model.partition("-")[0], 0.6), self._draws("corruptions", model, seed)
        clean, hits = corruption_hits(skill, np.random.default_rng(seed).random(self.images), draws)
        np.savez(run / "corruptions.npz", clean=clean, hits=hits)
        numbers = corruption_numbers(clean, hits)
        rows = [row("corruptions", metric, value, self.images, clean, **key) for metric, value, key in numbers]
        self._close(run, model, seed, rows, corruptions=list(CORRUPTIONS), severities=list(SEVERITIES))
        return run

    def embed(self, model: str, seed: int = 0) -> Path:
        draws = self._draws("embed", model, seed)
        run = self._open(f"embed-{model}-s{seed}", seed, self._source(model, seed), {"embed": {"points": None}}, [])
        labels = np.arange(self.points) % len(self.classes)
        spread = draws.normal(0, 25, (len(self.classes), 2))
        maps = {split: spread[labels] + draws.normal(0, 5, (self.points, 2)) for split in ("train", "test")}
        arrays = maps | {"train_labels": labels, "test_labels": labels}
        if model.endswith("finetune"):
            ways = np.linspace(0.3, 1, 5)[:, None, None] * maps["test"]
            arrays |= {"frames": ways, "frame_steps": np.arange(5) * 10, "frame_labels": labels}
        np.savez(run / "tsne.npz", **arrays)
        skill = SKILL.get(model.partition("-")[0], 0.6) - 0.05
        rows = [row("knn", "accuracy", skill, self.images)]
        rows += [row("tsne", "perplexity", 30.0, 2 * self.points)]
        rows += [row("tsne", "trustworthiness", 0.9 + 0.01 * float(draws.normal()), 2 * self.points)]
        rows += [row("tsne", "knn_accuracy", skill - 0.02, self.points)]
        self._close(run, model, seed, rows)
        return run

    def width(self, model: str, seed: int = 0) -> Path:
        draws = self._draws("width", model, seed)
        run = self._open(
            f"width-{model}-s{seed}",
            seed,
            self._source(model, seed),
            {"width": {"images": 1000, "ascent_images": 128, "common_l2": 0.01}},
            [],
        )
        alphas, grid = np.linspace(-1, 1, 21), np.linspace(-1, 1, 11)
        curve = 0.05 + float(draws.uniform(1, 5)) * alphas**2
        plane = 0.05 + float(draws.uniform(1, 5)) * (grid[:, None] ** 2 + grid**2)
        accuracy = 1 / (1 + curve)
        np.savez(run / "landscape.npz", alphas=alphas, loss=curve, accuracy=accuracy, grid=grid, plane=plane)
        rows = []
        for metric, dimensions in measurements(head=model.endswith("probe")):
            value = float(np.exp(draws.normal(0, 1.5)))
            if metric == "accuracy":
                value = value / (1 + value)
            sizes = {("hessian_trace", None): 4e5, ("adaptive_average", 0.01): 3e-3}  # real measures differ as much
            value *= sizes.get((dimensions.get("measure"), dimensions.get("radius")), 1.0)
            rows.append(row("width", metric, value, 1000, **dimensions))
        self._close(run, model, seed, rows)
        return run

    def write_plan(self, *overrides: str) -> None:
        """Writes plan.json as `jobs` does for these methods and seeds, with the stages that this class can write."""
        preset = StudyConfig(name=self.path.name, methods=tuple(self.methods), seeds=tuple(self.seeds), cpus=1)
        folders = {"runs": self.path.parent, "reports": self.path.parent}
        jobs = plan(preset, **folders, data_root=self.data, overrides=overrides)
        record_plan(self.path, [job for job in jobs if hasattr(self, job.stage)])

    def _interrupt(self, run: Path) -> None:
        status = {"phase": "pretrain", "step": self.steps, "steps": 3 * self.steps, "rate": 1.0, "heartbeat": 0.0}
        write_json(run / "status", status)

    def _source(self, model: str, seed: int) -> str:
        method, _, use = model.partition("-")
        return f"runs/x/{use}-{method}-s{seed}" if use else f"runs/x/finetune-random-s{seed}"

    def _labels(self) -> np.ndarray[Any, Any]:
        return np.arange(self.images) % len(self.classes)

    def _tested(self, run: Path, method: str, model: str, seed: int, bonus: float = 0.0) -> list[dict[str, Any]]:
        _, rows = self._predict(run, model, seed, "test", SKILL.get(method, 0.6) + bonus)
        return [*rows, row("test", "nll", 0.9, self.images), row("test", "ece", 0.08, self.images)]

    def _predict(
        self, run: Path, model: str, seed: int, evaluation: str, skill: float
    ) -> tuple[Any, list[dict[str, Any]]]:
        """Logits of a model that is right with probability `skill`; the rows are counted from these logits."""
        draws, labels = self._draws(evaluation, model, seed), self._labels()
        logits = logits_of(labels, len(self.classes), skill, seed, draws)
        np.savez(run / "predictions.npz", logits=logits, labels=labels)
        hits = logits.argmax(1) == labels
        rows = [row(evaluation, "accuracy", float(hits.mean()), self.images, hits)]
        rows += [row(evaluation, "mean_class_accuracy", float(hits.mean()), self.images)]
        for index, name in enumerate(self.classes):
            own = hits[labels == index]
            rows.append(row(evaluation, "accuracy", float(own.mean()), len(own), own, **{"class": name}))
        return hits, rows

    def _draws(self, stage: str, model: str, seed: int) -> np.random.Generator:
        return np.random.default_rng([seed, *f"{stage} {model}".encode()])

    def _open(self, name: str, seed: int, source: str | None, more: Any, lines: list[dict[str, Any]]) -> Path:
        run, stage = self.path / name, name.partition("-")[0]
        run.mkdir(parents=True)
        if not (self.path / PLAN).exists():
            self.write_plan()
        study = {"name": self.path.name, "methods": list(self.methods), "seeds": list(self.seeds), "cpus": 1}
        config = {"stage": stage, "run_dir": str(run), "source": source, "seed": seed, "method": None, "study": study}
        config |= {"budget": {"name": "fake", "resolution": 48, "max_steps": None}, "precision": "float32"}
        (run / "config.yaml").write_text(yaml.safe_dump(config | more, sort_keys=False))
        write_json(run / "provenance.json", provenance(self.data))
        (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        return run

    def _close(self, run: Path, model: str, seed: int, rows: list[dict[str, Any]], **more: Any) -> None:
        stage = run.name.partition("-")[0]
        seconds = {"pretrain": 600.0, "finetune": 200.0}.get(stage, 20.0)
        method, adaptation = model_of(model).method, model_of(model).adaptation
        result = {"stage": stage, "model": model, "method": method, "adaptation": adaptation, "seed": seed}
        result |= {"data": self.data, "resolution": 48}
        result |= {"classes": list(self.classes), "seconds": seconds, "rows": rows}
        result |= {"metrics_sha256": metrics_sha256(RunDirectory(run).metrics())}
        write_json(run / "result.json", result | more)
        for entry in rows:
            name = model_name(*adapted(method, entry["adaptation"])) if "adaptation" in entry else model
            self.written.append({"model": name, **entry, "seed": seed})
