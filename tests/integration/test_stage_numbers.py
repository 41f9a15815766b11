"""Recomputes the values that stages report from their files, with other libraries where possible."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from fake_study import FakeStudy
from recomputed import (
    EMBEDDING,
    LINES,
    NEIGHBOURS,
    REAL,
    keys,
    kinds,
    knn,
    metric_lines,
    network,
    predict,
    probabilities,
    readme_code,
    rows,
    run_all,
)
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression
from sklearn.manifold import trustworthiness
from sklearn.metrics import log_loss
from torchvision.models import resnet18
from torchvision.transforms.v2 import functional as F

from ssl_pkg.catalogue import STAGES
from ssl_pkg.data.cifar10 import open_cifar10
from ssl_pkg.data.contact_sheet import contact_sheet
from ssl_pkg.data.images import Split, balanced, holdout
from ssl_pkg.data.stl10 import STL10, open_stl10
from ssl_pkg.rows import dimensions_of


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory for each entry of LINES, and the folder `data`."""
    return run_all(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def stl10(study: Path) -> STL10:
    return open_stl10(study / "data")


def test_every_result_has_the_headline_of_its_stage(study: Path) -> None:
    results = [json.loads((study / name / "result.json").read_text()) for name in LINES]
    labels = {result["stage"]: result["headline"] and result["headline"]["label"] for result in results}
    assert labels == {name: stage.headline and stage.headline.label for name, stage in STAGES.items()}
    of_probe = json.loads((study / "probe/result.json").read_text())
    assert of_probe["headline"]["value"] == rows(study / "probe")[("test", "accuracy")]["value"]


def test_only_pretrain_and_ood_write_contact_sheets(study: Path, stl10: STL10) -> None:
    sheets = {run.name: (run / "contact_sheet.png").exists() for run in study.iterdir() if run.name in LINES}
    assert {name for name, exists in sheets.items() if exists} == {"pretrain", "ood"}
    expected = contact_sheet([stl10.train, stl10.test], stl10.unlabeled, stl10.classes)
    assert (study / "pretrain/contact_sheet.png").read_bytes() == expected


@pytest.mark.parametrize("name", ["supervised", "probe", "finetune"])
def test_the_readmes_code_computes_the_test_accuracy_of_each_final_model(study: Path, name: str) -> None:
    _, lines, _ = readme_code()
    for path, own in {"runs/mine/probe": study / name, "data/synthetic/": f"{study / 'data'}/"}.items():
        assert path in lines
        lines = lines.replace(path, str(own))
    lines += '\nimport sys\nassert not [name for name in sys.modules if name.startswith("ssl_pkg")]\n'
    done = subprocess.run([sys.executable, "-c", lines], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == rows(study / name)["test", "accuracy"]["value"]


def test_the_readmes_code_embeds_as_the_evaluation_does(study: Path, stl10: STL10, tmp_path: Path) -> None:
    lines, *_ = readme_code()
    path = "runs/mine/pretrain/encoder.safetensors"
    assert path in lines
    lines = lines.replace(path, str(study / "pretrain/encoder.safetensors"))
    images, _ = stl10.test.load(np.arange(len(stl10.test)), torch.device("cpu"))
    np.save(tmp_path / "images.npy", images.contiguous().numpy())
    command = [sys.executable, "-c", EMBEDDING.format(lines=lines)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    head = load_file(study / "probe/model.safetensors")  # of the same encoder
    logits = np.load(tmp_path / "embedded.npy") @ head["fc.weight"].numpy().T + head["fc.bias"].numpy()
    with np.load(study / "probe/predictions.npz") as predicted:
        np.testing.assert_allclose(logits, predicted["logits"], atol=1e-3)


def test_pretraining_is_validated_on_the_holdout_split(study: Path, stl10: STL10) -> None:
    features, labels = predict(network(study / "pretrain/encoder.safetensors"), stl10.train), stl10.train.labels
    kept, held = holdout(labels, 0.2)
    expected = (knn(features[kept], labels[kept], features[held]) == labels[held]).mean()
    assert rows(study / "pretrain")["knn_validation", "accuracy"]["value"] == pytest.approx(expected)


def test_the_learning_rate_follows_the_methods_schedule(study: Path) -> None:
    lines = metric_lines(study / "pretrain")
    # budget tiny: batches of 32, 5 an epoch, 8 steps, half an epoch's warm-up
    peak, warmup = 1.2 * (32 / 256) ** 0.5, 2
    for line in lines:
        step = line["step"] - 1
        factor = (step + 1) / warmup if step < warmup else 0.5 * (1 + np.cos(np.pi * (step - warmup) / (8 - warmup)))
        assert line["lr"] == pytest.approx(peak * factor)


def test_the_probe_is_chosen_on_the_holdout_split_and_fitted_on_all_of_train(study: Path, stl10: STL10) -> None:
    entry, labels = rows(study / "probe"), stl10.train.labels
    kept, held = holdout(labels, 0.2)
    assert entry["validation", "accuracy"]["n"] == len(held)
    encoder = network(study / "pretrain/encoder.safetensors")
    train, test = predict(encoder, stl10.train), predict(encoder, stl10.test)
    l2 = entry["validation", "l2"]["value"]

    def accuracy(rows: np.ndarray, queries: np.ndarray, wanted: np.ndarray) -> float:
        return float((probabilities(train[rows], labels[rows], l2, queries).argmax(axis=1) == wanted).mean())

    chosen = accuracy(kept, train[held], labels[held])
    assert entry["validation", "accuracy"]["value"] == pytest.approx(chosen, abs=0.001)
    final = accuracy(np.arange(len(labels)), test, stl10.test.labels)
    assert entry["test", "accuracy"]["value"] == pytest.approx(final, abs=0.001)


def test_the_probe_of_a_fold_sees_only_the_fold(study: Path, stl10: STL10) -> None:
    encoder = network(study / "pretrain/encoder.safetensors")
    fold, test = stl10.folds[3], stl10.test
    features, labels, queries = predict(encoder, stl10.train)[fold], stl10.train.labels[fold], predict(encoder, test)
    kept, held = holdout(labels, 0.2)

    def fitted(part: np.ndarray, l2: float, wanted: np.ndarray) -> np.ndarray:
        return probabilities(features[part], labels[part], l2, wanted)

    grid = np.geomspace(1e-6, 1e5, 3)
    best = min(grid, key=lambda l2: log_loss(labels[held], fitted(kept, l2, features[held])))
    expected = (fitted(np.arange(len(fold)), best, queries).argmax(axis=1) == test.labels).mean()
    found = json.loads((study / "probe/result.json").read_text())["rows"]
    by_fold = {row["fold"]: row["value"] for row in found if row["evaluation"] == "folds" and "fold" in row}
    assert by_fold[3] == pytest.approx(expected, abs=0.011)  # one image of 100
    assert rows(study / "probe")["folds", "accuracy"]["value"] == pytest.approx(np.mean(list(by_fold.values())))
    assert rows(study / "probe")["folds", "accuracy_sd"]["value"] == pytest.approx(np.std([*by_fold.values()], ddof=1))


def test_the_hits_with_few_labels_are_those_of_the_rows(study: Path) -> None:
    found = json.loads((study / "few_labels/result.json").read_text())["rows"]
    with np.load(study / "few_labels/few_labels.npz") as arrays:
        models = list(zip(arrays["labels_per_class"], arrays["draw"], arrays["finetuned"], strict=True))
        for name, evaluation in (("hits", "few_labels"), ("ood_hits", "few_labels_ood")):
            values = {
                (row["labels_per_class"], row["draw"], row["adaptation"] == "finetune"): row["value"]
                for row in found
                if (row["evaluation"], row["metric"]) == (evaluation, "accuracy")
            }
            assert values == pytest.approx(dict(zip(models, arrays[name].mean(axis=1), strict=True)))


def test_the_status_counts_the_parts_of_a_run(study: Path) -> None:
    made = {name: json.loads((study / name / "result.json").read_text()) for name in LINES}
    drawn = {(row["labels_per_class"], row["draw"]) for row in made["few_labels"]["rows"]}
    folds = {row["fold"] for row in made["probe"]["rows"] if "fold" in row}
    expected = {
        "few_labels": len(drawn),
        "finetune": len(made["finetune"]["tried"]) + 1,  # the final training
        "corruptions": len(made["corruptions"]["corruptions"]) * len(made["corruptions"]["severities"]) + 1,  # clean
        "probe": len(folds) + 1,  # all of train
    }
    for name, parts in expected.items():
        status = json.loads((study / name / "status").read_text())
        assert (status["part"], status["parts"]) == (parts, parts), name
        assert parts > 1 or name == "few_labels"
    assert json.loads((study / "pretrain/status").read_text())["parts"] is None


def test_the_random_network_depends_on_the_seed(study: Path) -> None:
    torch.manual_seed(3)
    made, expected = load_file(study / "random/model.safetensors"), resnet18().state_dict()
    assert torch.equal(made["conv1.weight"], expected["conv1.weight"])


def test_fine_tuning_selects_the_better_trial(study: Path) -> None:
    made = json.loads((study / "finetune/result.json").read_text())
    tried = made["tried"]
    entry = rows(study / "finetune")
    assert [trial["lr"] for trial in tried] == [0.001, 1.0e-9]
    best = min(tried, key=lambda trial: (-trial["accuracy"], trial["log_loss"]))
    assert made["chosen"] == best["phase"]
    assert entry["validation", "accuracy"]["value"] == best["accuracy"]
    assert entry["validation", "nll"]["value"] == best["log_loss"]
    assert entry["validation", "accuracy"]["n"] == 30
    lines = metric_lines(study / "finetune")
    trial = [line["lr"] for line in lines if line["phase"] == "trial 1"]
    assert trial == pytest.approx([0.001 * 0.5 * (1 + np.cos(np.pi * (step - 1) / 2)) for step in (2,)])


def test_out_of_distribution_accuracy_with_and_without_the_substituted_class(study: Path, stl10: STL10) -> None:
    ood = open_cifar10(study / "data", stl10.classes)
    logits = predict(network(study / "finetune/model.safetensors"), ood.test)
    hits = logits.argmax(axis=1) == ood.test.labels
    assert rows(study / "ood")["ood", "accuracy"]["value"] == pytest.approx(hits.mean())
    shared = ~np.isin(ood.test.labels, ood.substituted)
    assert rows(study / "ood")["ood", "accuracy_shared"]["value"] == pytest.approx(hits[shared].mean())
    logits[:, list(ood.substituted)] = -np.inf
    masked = logits[shared].argmax(axis=1) == ood.test.labels[shared]
    assert rows(study / "ood")["ood", "accuracy_masked"]["value"] == pytest.approx(masked.mean())


def test_accuracies_under_corruption_are_those_of_the_saved_hits(study: Path, stl10: STL10) -> None:
    chosen = stl10.test.subset(balanced(stl10.test.labels, 20))
    plain = network(study / "finetune/model.safetensors")
    found = json.loads((study / "corruptions/result.json").read_text())["rows"]
    with np.load(study / "corruptions/corruptions.npz") as saved:
        clean, hits = saved["clean"], saved["hits"]
    assert np.array_equal(clean, predict(plain, chosen).argmax(axis=1) == chosen.labels)
    images, _ = chosen.load(np.arange(20), torch.device("cpu"))
    with pytest.warns(DeprecationWarning, match="TorchCodec"):
        compressed = F.jpeg(images.contiguous(), 25)  # severity 5, the last of the budget `tiny`
    expected = predict(plain, Split("jpeg", compressed.numpy(), chosen.labels)).argmax(axis=1) == chosen.labels
    assert (hits[-1, -1] != expected).sum() <= 1  # Pillow and torchvision may have different versions of libjpeg
    values = {row["metric"]: row["value"] for row in found if not dimensions_of(row)}
    relative = hits.mean() / clean.mean()
    expected = {"clean_accuracy": clean.mean(), "mean_accuracy": hits.mean(), "relative_accuracy": relative}
    assert values == pytest.approx(expected)
    conditions = [row["value"] for row in found if "severity" in row]
    assert conditions == pytest.approx(hits.mean(axis=2).ravel())


def test_knn_classifies_test_images_by_train_images(study: Path, stl10: STL10) -> None:
    with np.load(study / "embed/embeddings.npz") as saved:
        train, test = saved["train"].astype(np.float32), saved["test"].astype(np.float32)  # saved in float16
    expected = (knn(train, stl10.train.labels, test) == stl10.test.labels).mean()
    assert rows(study / "embed")["knn", "accuracy"]["value"] == pytest.approx(expected, abs=0.021)


def test_the_figures_of_merit_of_the_map_are_those_of_its_points(study: Path, stl10: STL10) -> None:
    with np.load(study / "embed/embeddings.npz") as saved, np.load(study / "embed/tsne.npz") as maps:
        subsets = [balanced(split.labels, 60) for split in (stl10.train, stl10.test)]  # budget tiny: embed.points
        embeddings = np.concatenate([saved["train"][subsets[0]], saved["test"][subsets[1]]]).astype(np.float32)
        points = np.concatenate([maps["train"], maps["test"]])
        assert np.array_equal(maps["test_labels"], stl10.test.labels[subsets[1]])
    value = rows(study / "embed")["tsne", "trustworthiness"]["value"]
    assert value == pytest.approx(trustworthiness(embeddings, points, n_neighbors=NEIGHBOURS), abs=0.01)  # float16
    assert rows(study / "embed")["tsne", "knn_accuracy"]["n"] == 60
    assert rows(study / "embed")["tsne", "perplexity"]["value"] == 30


def test_health_is_logged_with_every_line_of_a_pretraining(study: Path) -> None:
    lines = metric_lines(study / "pretrain")
    assert all({"z_std", "alignment", "uniformity"} <= line.keys() for line in lines)
    assert {"effective_rank" in line for line in lines if "knn" in line} == {True}


def test_width_reports_the_loss_on_its_subset_of_train(study: Path, stl10: STL10) -> None:
    subset = stl10.train.subset(balanced(stl10.train.labels, 40))
    logits = torch.from_numpy(predict(network(study / "finetune/model.safetensors"), subset))
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(subset.labels))
    assert rows(study / "width")["width", "loss"]["value"] == pytest.approx(float(loss), rel=1e-3)


def test_a_probe_is_also_measured_at_the_common_penalty(study: Path, stl10: STL10) -> None:
    encoder, subset = network(study / "pretrain/encoder.safetensors"), balanced(stl10.train.labels, 40)
    features, labels = predict(encoder, stl10.train).astype(np.float64), stl10.train.labels
    standard = (features - features.mean(0)) / (features.std(0) + 1e-6)  # a unit of the encoder can be constant
    l2 = yaml.safe_load((study / "width-probe/config.yaml").read_text())["width"]["common_l2"]
    head = LogisticRegression(C=1 / (len(labels) * l2), max_iter=5000, tol=1e-7).fit(standard, labels)
    expected = -np.log(head.predict_proba(standard[subset])[np.arange(40), labels[subset]]).mean()
    found = json.loads((study / "width-probe/result.json").read_text())["rows"]
    (loss,) = (row for row in found if row["metric"] == "loss" and row.get("penalty") == "common")
    assert loss["value"] == pytest.approx(expected, rel=0.02)


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return FakeStudy(tmp_path_factory.mktemp("fake") / "study", methods=("supervised", "simclr")).whole().path


@pytest.mark.parametrize("name", REAL)
def test_the_fake_study_contains_only_what_real_runs_contain(study: Path, fake: Path, name: str) -> None:
    made, real = fake / name, study / REAL[name]
    assert {path.name for path in made.iterdir()} <= {path.name for path in real.iterdir()}
    for file in ("result.json", "provenance.json"):
        contents = [json.loads((run / file).read_text()) for run in (made, real)]
        assert keys(contents[0]) <= keys(contents[1]), file
    results = [json.loads((run / "result.json").read_text()) for run in (made, real)]
    assert kinds(results[0]) <= kinds(results[1])
    configs = [yaml.safe_load((run / "config.yaml").read_text()) for run in (made, real)]
    assert keys(configs[0]) <= keys(configs[1])
    lines = [metric_lines(run) for run in (made, real)]
    assert keys(lines[0]) <= keys(lines[1])
    for file in made.glob("*.npz"):
        with np.load(file) as arrays, np.load(real / file.name) as expected:
            for array in arrays:
                alike = [(content[array].ndim, content[array].dtype.kind) for content in (arrays, expected)]
                assert alike[0] == alike[1], array
