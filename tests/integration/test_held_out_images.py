"""Test images decide nothing: random ones change only the final numbers, and labels without meaning give chance."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import binomtest
from stage_runs import run

from ssl_pkg import catalogue
from ssl_pkg.data.synthetic import Sizes, generate

STAGES = {
    "pretrain": ["stage=pretrain", "method=simclr"],
    "probe": ["stage=probe", "source=pretrain"],
    "finetune": ["stage=finetune", "source=pretrain"],
    "supervised": ["stage=finetune", "source=random"],
    "width": ["stage=width", "source=probe"],
    "few_labels": ["stage=few_labels", "source=random"],
}
ON_TEST = {"test", "folds", "few_labels", "few_labels_ood"}  # the evaluations of these stages that look at test images
Results = dict[str, dict[str, Any]]


def run_stages(root: Path, names: list[str]) -> Results:
    """Runs the stages on ROOT/data, each into ROOT/NAME. Returns their results."""
    for name in names:
        stage, of = STAGES[name]
        source = of.partition("=")[2]
        own = [stage, f"source={root / source}" if source in STAGES else of]
        done = run(*own, f"data.root={root / 'data'}", f"run_dir={root / name}")
        assert done.returncode == 0, done.stderr
    return {name: json.loads((root / name / "result.json").read_text()) for name in names}


def rewrite(file: Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    content = np.fromfile(file, np.uint8)
    file.write_bytes(change(content).astype(np.uint8).tobytes())


def mark_as_own(data: Path) -> None:
    """Removes the file by which the synthetic set is recognised, because its checksums no longer hold."""
    (data / "synthetic.json").unlink()


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set in `data`, and a run directory for each of STAGES."""
    root = tmp_path_factory.mktemp("clean")
    generate(root / "data", Sizes(train_per_class=40, test_per_class=40, unlabeled=160, ood_per_class=2))
    mark_as_own(root / "data")
    run_stages(root, list(STAGES))
    return root


def results(root: Path) -> Results:
    return {name: json.loads((root / name / "result.json").read_text()) for name in STAGES}


def decided(result: dict[str, Any]) -> dict[str, Any]:
    """Everything in a result but the numbers of test images: what was learned, tried, chosen and validated."""
    headline = catalogue.STAGES[result["stage"]].headline
    free = {"seconds"} | ({"headline"} if headline and headline.evaluation in ON_TEST else set())
    rows = [row for row in result["rows"] if row["evaluation"] not in ON_TEST]
    return {key: value for key, value in result.items() if key not in free} | {"rows": rows}


def test_random_test_images_and_labels_change_only_the_final_numbers(clean: Path, tmp_path: Path) -> None:
    shutil.copytree(clean / "data", tmp_path / "data")
    noise = np.random.default_rng(0)
    folder = tmp_path / "data/stl10_binary"
    rewrite(folder / "test_X.bin", lambda pixels: noise.integers(0, 256, pixels.shape))
    rewrite(folder / "test_y.bin", lambda labels: noise.integers(1, 11, labels.shape))
    rewrite(
        tmp_path / "data/cifar-10-batches-bin/test_batch.bin",  # a label and 3 x 32 x 32 pixels, twenty times
        lambda batch: np.column_stack(
            [noise.integers(0, 10, (20, 1)), noise.integers(0, 256, (20, batch.size // 20 - 1))]
        ),
    )
    expected, found = results(clean), run_stages(tmp_path, list(STAGES))
    for name in STAGES:
        assert decided(found[name]) == decided(expected[name]), name
    for name in ("probe", "finetune", "supervised"):  # the random images did reach the final evaluation
        assert found[name]["weights_sha256"]
        assert accuracy(found[name]) != accuracy(expected[name])
    assert found["few_labels"]["rows"] != expected["few_labels"]["rows"]


def test_permuted_training_labels_give_chance(clean: Path, tmp_path: Path) -> None:
    shutil.copytree(clean / "data", tmp_path / "data")
    order = np.random.default_rng(0).permutation(400)
    rewrite(tmp_path / "data/stl10_binary/train_y.bin", lambda labels: labels[order])
    found = run_stages(tmp_path, ["pretrain", "probe", "finetune", "supervised"])
    expected = results(clean)
    for evaluation, name in (("knn_validation", "pretrain"), ("test", "probe"), ("test", "finetune")):
        assert is_chance(found[name], evaluation), name
        if name != "finetune":  # a tiny fine-tuning need not learn
            assert not is_chance(expected[name], evaluation), name
    assert is_chance(found["supervised"], "test")


def accuracy(result: dict[str, Any], evaluation: str = "test") -> float:
    (value,) = (
        row["value"]
        for row in result["rows"]
        if row["evaluation"] == evaluation and row["metric"] == "accuracy" and "class" not in row
    )
    return float(value)


def is_chance(result: dict[str, Any], evaluation: str) -> bool:
    """Whether the 99.9 % interval of the accuracy contains one in ten."""
    (row,) = (
        row
        for row in result["rows"]
        if row["evaluation"] == evaluation and row["metric"] == "accuracy" and "class" not in row
    )
    interval = binomtest(round(row["value"] * row["n"]), row["n"]).proportion_ci(0.999, method="wilson")
    return bool(interval.low <= 0.1 <= interval.high)
