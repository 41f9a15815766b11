"""Fine-tuning on the data set's predefined folds, STL-10's protocol."""

import json
from pathlib import Path

import numpy as np
import pytest
from stage_runs import run

from ssl_pkg.data.images import random_per_class
from ssl_pkg.data.stl10 import open_stl10
from ssl_pkg.data.synthetic import Sizes, generate

LINE = ("stage=few_labels", "source=random", "few_labels.folds=true", "few_labels.labels_per_class=[4]")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    generate(tmp_path / "data", Sizes(train_per_class=8, test_per_class=10, unlabeled=20, ood_per_class=4))
    return tmp_path / "data"


def write_folds(data: Path, folds: list[list[int]]) -> None:
    lines = [" ".join(map(str, fold)) for fold in folds]
    (data / "stl10_binary" / "fold_indices.txt").write_text("\n".join(lines) + "\n")


def test_a_fold_with_the_images_of_a_draw_gives_the_model_of_that_draw(data: Path, tmp_path: Path) -> None:
    labels = open_stl10(data).train.labels
    write_folds(data, [random_per_class(labels, 4, draw).tolist() for draw in (1, 0)])
    done = run(*LINE, "few_labels.draws=2", f"run_dir={tmp_path / 'run'}", f"data.root={data}")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "run/few_labels.npz") as arrays:
        drawn = arrays["hits"][arrays["finetuned"] == 1]
        assert np.array_equal(arrays["fold_hits"], drawn[::-1])
    assert not np.array_equal(drawn[0], drawn[1])
    found = json.loads((tmp_path / "run/result.json").read_text())["rows"]
    folds = {(row["metric"], row.get("fold")): row for row in found if row["evaluation"] == "folds"}
    accuracies = drawn[::-1].mean(axis=1)
    assert [folds["accuracy", fold]["value"] for fold in (0, 1)] == pytest.approx(accuracies.tolist())
    assert folds["accuracy", None]["value"] == pytest.approx(accuracies.mean())
    assert folds["accuracy_sd", None]["value"] == pytest.approx(accuracies.std(ddof=1))
    assert {row["adaptation"] for row in folds.values()} == {"finetune"}


@pytest.mark.parametrize("folds", [[], [[0, 1, 2]]])
def test_folds_that_cannot_be_trained_on_are_refused_before_the_first_step(
    data: Path, tmp_path: Path, folds: list[list[int]]
) -> None:
    write_folds(data, folds)
    if not folds:
        (data / "stl10_binary" / "fold_indices.txt").unlink()
    done = run(*LINE, f"run_dir={tmp_path / 'run'}", f"data.root={data}")
    assert done.returncode == 2
    assert "few_labels.folds=true needs" in done.stderr
    assert not (tmp_path / "run").exists()
