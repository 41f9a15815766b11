"""The runs of test_stage_numbers.py, and slow or independent computations of what they report."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestNeighbors
from stage_runs import run
from torchvision.models import resnet18

from ssl_pkg.augment.views import resize
from ssl_pkg.data.images import Split
from ssl_pkg.data.synthetic import Sizes, generate
from ssl_pkg.rows import dimensions_of

NEIGHBOURS = 5
LINES = {
    "pretrain": ["stage=pretrain", "method=simclr", f"pretrain.knn_neighbours={NEIGHBOURS}"],
    "supervised": ["stage=finetune", "source=random"],
    "probe": ["stage=probe", "source=pretrain"],
    "random": ["stage=probe", "source=random", "seed=3"],
    "finetune": ["stage=finetune", "source=pretrain", "finetune.base_lrs=[0.001,1.0e-9]"],
    "few_labels": ["stage=few_labels", "source=pretrain"],
    "ood": ["stage=ood", "source=finetune"],
    "corruptions": ["stage=corruptions", "source=finetune"],
    "embed": ["stage=embed", "source=finetune", f"pretrain.knn_neighbours={NEIGHBOURS}"],
    "width": ["stage=width", "source=finetune"],
    "width-probe": ["stage=width", "source=probe"],
}
REAL = {  # run of the fake study -> run of LINES with the same stage and kind of source
    "finetune-random-s0": "supervised",
    "pretrain-simclr-s0": "pretrain",
    "probe-random-s0": "random",
    "probe-simclr-s0": "probe",
    "finetune-simclr-s0": "finetune",
    "few_labels-simclr-s0": "few_labels",
    "ood-simclr-finetune-s0": "ood",
    "corruptions-simclr-finetune-s0": "corruptions",
    "embed-simclr-finetune-s0": "embed",
    "width-simclr-finetune-s0": "width",
    "width-simclr-probe-s0": "width-probe",
}

EMBEDDING = """
import sys
import numpy as np
{lines}
assert not [name for name in sys.modules if name.startswith("ssl_pkg")]
np.save("embedded.npy", embed(torch.from_numpy(np.load("images.npy"))).numpy())
"""  # a program with lines of the README

Rows = dict[tuple[str, str], dict[str, Any]]  # without dimensions, by evaluation and metric


def run_all(root: Path) -> Path:
    """Makes a run directory for each entry of LINES in `root`, from a small set in `data`. Returns `root`."""
    generate(root / "data", Sizes(train_per_class=16, test_per_class=10, unlabeled=160, ood_per_class=10))
    for name, line in LINES.items():
        own = ("source=pretrain", "source=probe", "source=finetune")
        resolved = [f"source={root / entry.partition('=')[2]}" if entry in own else entry for entry in line]
        done = run(*resolved, f"run_dir={root / name}", f"data.root={root / 'data'}")
        assert done.returncode == 0, done.stderr
    return root


def readme_code() -> list[str]:
    """The blocks of Python in the README."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    return re.findall(r"```python\n(.*?)```", readme, re.S)


def rows(run: Path) -> Rows:
    found = json.loads((run / "result.json").read_text())["rows"]
    return {(row["evaluation"], row["metric"]): row for row in found if not dimensions_of(row)}


def metric_lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def network(file: Path) -> torch.nn.Module:
    plain = resnet18(num_classes=10)
    if file.name == "encoder.safetensors":
        plain.fc = torch.nn.Identity()
    plain.load_state_dict(load_file(file))
    return plain.eval()


@torch.no_grad()
def predict(module: torch.nn.Module, split: Split) -> np.ndarray:
    images, _ = split.load(np.arange(len(split)), torch.device("cpu"))
    return module(resize(images, 32)).numpy()


def probabilities(features: np.ndarray, labels: np.ndarray, l2: float, queries: np.ndarray) -> np.ndarray:
    """Of each class, by scikit-learn's logistic regression on standardised features with the penalty `l2`."""
    features, queries = (given.astype(np.float64) for given in (features, queries))  # in float32 it may not converge
    mean, scale = features.mean(axis=0), features.std(axis=0) + 1e-6
    model = LogisticRegression(C=1 / (len(labels) * l2), max_iter=20_000, tol=1e-8)
    return model.fit((features - mean) / scale, labels).predict_proba((queries - mean) / scale)


def knn(bank: np.ndarray, labels: np.ndarray, queries: np.ndarray) -> np.ndarray:
    distances, nearest = NearestNeighbors(n_neighbors=NEIGHBOURS, metric="cosine").fit(bank).kneighbors(queries)
    votes = np.zeros((len(queries), 10))
    for query, (row, others) in enumerate(zip(distances, nearest, strict=True)):
        for distance, other in zip(row, others, strict=True):
            votes[query, labels[other]] += np.exp((1 - distance) / 0.07)
    return votes.argmax(axis=1)


def keys(content: Any, prefix: str = "") -> set[str]:
    """The keys of nested mappings, joined by dots; a list of mappings has the keys of all its entries."""
    if isinstance(content, list):
        return set().union(*(keys(entry, prefix) for entry in content))
    if not isinstance(content, dict) or prefix.endswith("files."):  # the files of the data have other names
        return set()
    return {prefix + key for key in content} | set().union(
        *(keys(value, f"{prefix}{key}.") for key, value in content.items() if key != "rows")
    )


def kinds(result: dict[str, Any]) -> set[tuple[Any, ...]]:
    """What each row measures and which keys it has; classes and radii are only present or absent."""
    named = ("evaluation", "metric", "measure", "scope", "normalized")
    known = ("reason", "at_least", "at_most")  # only if a number could not be computed, which the weights decide
    return {(*(row.get(name) for name in named), frozenset(row).difference(known)) for row in result["rows"]}
