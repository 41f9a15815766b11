import json
from math import sqrt
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from fake_contents import model_of, models_of
from fake_study import CLASSES, FakeStudy
from scipy import stats
from scipy.special import log_softmax

from analysis import statistics
from analysis.estimates import difference, estimate
from analysis.reading import read_study
from ssl_pkg.evaluation.accuracy import classification


def _wilson(correct: int, count: int) -> tuple[float, float]:
    share, z = correct / count, 1.96
    centre, half = share + z**2 / (2 * count), z * sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return (centre - half) / (1 + z**2 / count), (centre + half) / (1 + z**2 / count)


def _set_accuracy(run: Path, correct: int, count: int) -> None:
    result = json.loads((run / "result.json").read_text())
    low, high = _wilson(correct, count)
    row = {"evaluation": "test", "metric": "accuracy", "value": correct / count, "low": low, "high": high, "n": count}
    (run / "result.json").write_text(json.dumps(result | {"rows": [row]}))


def _hits(*runs: Path) -> npt.NDArray[np.bool_]:
    hits = []
    for run in runs:
        with np.load(run / "predictions.npz") as arrays:
            hits.append(arrays["logits"].argmax(1) == arrays["labels"])
    return np.stack(hits)


def test_seeds_give_mean_deviation_and_the_interval_over_seeds_and_images(fake: FakeStudy) -> None:
    runs = [fake.finetune("random", seed) for seed in range(3)]
    tested = [row for row in fake.written if (row["evaluation"], row["metric"]) == ("test", "accuracy")]
    values = [row["value"] for row in tested if "class" not in row]
    found = estimate(read_study(fake.path), model_of("supervised"), "test", "accuracy")
    assert found is not None
    assert found.value == pytest.approx(np.mean(values))
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    assert found.by_seed == dict(enumerate(values))
    expected = statistics.mean(_hits(*runs))
    assert found.bounds == (expected.low, expected.high)


@pytest.mark.parametrize(("metric", "dimensions"), [("accuracy", {"class": "cat"}), ("accuracy_shared", {})])
def test_accuracies_of_a_part_of_the_images_have_the_interval_of_this_part(
    fake: FakeStudy, metric: str, dimensions: dict[str, str]
) -> None:
    for seed in range(3):
        fake.probe("simclr", seed)
    runs = [fake.ood("simclr-probe", seed) for seed in range(3)]
    labels = np.arange(fake.images) % 10
    part = labels == CLASSES.index("cat") if dimensions else labels != CLASSES.index("monkey")
    found = estimate(read_study(fake.path), model_of("simclr-probe"), "ood", metric, frozenset(dimensions.items()))
    expected = statistics.mean(_hits(*runs)[:, part])
    assert found is not None
    assert found.bounds == (expected.low, expected.high)


def test_the_masked_accuracy_has_the_hits_as_if_only_the_shared_classes_existed(fake: FakeStudy) -> None:
    hits = []
    for seed in range(3):
        fake.probe("simclr", seed)
        run = fake.ood("simclr-probe", seed)
        with np.load(run / "predictions.npz") as arrays:
            logits, labels = np.delete(arrays["logits"], 7, axis=1), arrays["labels"]
        hits.append([row.argmax() == np.delete(np.arange(10), 7).tolist().index(label)
                     for row, label in zip(logits, labels, strict=True) if label != 7])  # fmt: skip
    found = estimate(read_study(fake.path), model_of("simclr-probe"), "ood", "accuracy_masked")
    expected = statistics.mean(np.array(hits))
    assert found is not None
    assert (found.value, found.bounds) == (expected.value, (expected.low, expected.high))


def test_without_predictions_the_same_encoder_is_compared_over_the_shared_seeds_without_an_interval(
    fake: FakeStudy,
) -> None:
    for seed in range(3):
        _set_accuracy(fake.finetune("simclr", seed), 60 + 10 * seed, 100)
    _set_accuracy(fake.probe("simclr"), 65, 100)
    for file in fake.path.glob("*/predictions.npz"):
        file.unlink()
    study = read_study(fake.path)
    found = difference(study, *models_of("simclr-finetune", "simclr-probe"), "test")
    assert found is not None
    assert found.value == pytest.approx(0.60 - 0.65)
    assert (found.low, found.p) == (None, None)
    _set_accuracy(fake.probe("simclr", 1), 65, 100)
    _set_accuracy(fake.probe("simclr", 2), 65, 100)
    for file in fake.path.glob("*/predictions.npz"):
        file.unlink()
    found = difference(read_study(fake.path), *models_of("simclr-finetune", "simclr-probe"), "test")
    assert found is not None
    assert found.value == pytest.approx(0.70 - 0.65)
    assert found.low is not None


def test_calibration_and_log_loss_have_intervals_with_one_seed(fake: FakeStudy) -> None:
    run = fake.finetune("random")
    with np.load(run / "predictions.npz") as arrays:
        logits, labels = arrays["logits"], arrays["labels"]
    result = json.loads((run / "result.json").read_text())
    rows = classification("test", logits, labels, CLASSES)
    (run / "result.json").write_text(json.dumps(result | {"rows": rows}))
    study = read_study(fake.path)
    log_p = log_softmax(logits.astype(float), axis=1)
    expected = stats.ttest_1samp(-log_p[np.arange(len(labels)), labels], 0).confidence_interval()
    loss = estimate(study, model_of("supervised"), "test", "nll")
    assert loss is not None
    assert loss.bounds == pytest.approx((expected.low, expected.high))
    for metric in ("ece", "mean_confidence", "mean_class_accuracy"):
        found = estimate(study, model_of("supervised"), "test", metric)
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        assert found.low < found.value < found.high < found.low + 0.3


def test_predictions_that_contradict_the_number_are_not_used(fake: FakeStudy) -> None:
    for seed in range(3):
        _set_accuracy(fake.finetune("random", seed), 60 + seed, 100)
    found = estimate(read_study(fake.path), model_of("supervised"), "test", "accuracy")
    expected = statistics.proportion(np.array([0.60, 0.61, 0.62]), 100)
    assert found is not None
    assert found.bounds == (expected.low, expected.high)


def test_accuracies_under_corruption_have_intervals_over_seeds_and_images(fake: FakeStudy) -> None:
    runs = [fake.corruptions("simclr-probe", seed) for seed in range(3)]
    study, model = read_study(fake.path), model_of("simclr-probe")
    clean, hits = (np.stack([np.load(run / "corruptions.npz")[name] for run in runs]) for name in ("clean", "hits"))
    first = json.loads((runs[0] / "result.json").read_text())
    kind, severity = first["corruptions"][1], first["severities"][0]
    one = estimate(study, model, "corruptions", "mean_accuracy", frozenset({("corruption", kind)}))
    two = estimate(study, model, "corruptions", "accuracy", frozenset({("corruption", kind), ("severity", severity)}))
    every = estimate(study, model, "corruptions", "mean_accuracy")
    expected = [hits[:, 1].mean(axis=1), hits[:, 1, 0] == 1, hits.mean(axis=(1, 2))]
    for found, values in zip((one, two, every), expected, strict=True):
        assert found is not None
        interval = statistics.mean(values, share=True)
        assert (found.value, found.low, found.high) == pytest.approx((interval.value, interval.low, interval.high))
    relative = estimate(study, model, "corruptions", "relative_accuracy")
    assert relative is not None
    draws = np.random.default_rng(0)
    ratios = []
    for _ in range(2000):  # images only; the seeds make the interval longer
        picked = draws.integers(0, clean.shape[1], clean.shape[1])
        of_seeds = hits[..., picked].mean(axis=(1, 2, 3)) / clean[:, picked].mean(axis=1)
        ratios.append(of_seeds.mean())
    low, high = np.percentile(ratios, [2.5, 97.5])
    assert relative.bounds is not None
    assert relative.bounds[1] - relative.bounds[0] > 0.9 * (high - low)
    assert relative.bounds[0] < relative.value < relative.bounds[1]


def test_other_numbers_have_students_interval_over_seeds(fake: FakeStudy) -> None:
    for seed in range(3):
        fake.finetune("random", seed)
        fake.width("supervised", seed)
    study = read_study(fake.path)
    number = next(key for key in study.numbers if key[1] == "width" and ("measure", "hessian_trace") in key[3])
    found = estimate(study, *number)
    assert found is not None
    expected = stats.ttest_1samp(list(found.by_seed.values()), 0).confidence_interval()
    assert found.bounds == pytest.approx((expected.low, expected.high))


def test_seeds_of_models_with_different_encoders_are_independent(fake: FakeStudy) -> None:
    first = [fake.finetune("random", seed) for seed in range(3)]
    second = [fake.probe("random", seed) for seed in range(2)]
    found = difference(read_study(fake.path), *models_of("supervised", "random-probe"), "test")
    expected = statistics.difference(_hits(*first), _hits(*second), same_images=True, same_seeds=False)
    assert found is not None
    assert found.paired_by == "images"
    assert (found.value, found.low, found.high, found.p) == (expected.value, expected.low, expected.high, expected.p)


def test_uses_of_the_same_encoder_are_paired_over_the_seeds_that_both_have(fake: FakeStudy) -> None:
    first = [fake.finetune("simclr", seed) for seed in (0, 1, 2)]
    second = [fake.probe("simclr", seed) for seed in (1, 2, 3)]
    found = difference(read_study(fake.path), *models_of("simclr-finetune", "simclr-probe"), "test")
    expected = statistics.difference(_hits(*first[1:]), _hits(*second[:2]), same_images=True, same_seeds=True)
    assert found is not None
    assert found.paired_by == "seeds and images"
    assert (found.value, found.low, found.high, found.p) == (expected.value, expected.low, expected.high, expected.p)


def test_a_difference_has_the_dimensions_of_its_numbers(fake: FakeStudy) -> None:
    first, second = fake.finetune("random"), fake.probe("random")
    key = frozenset({("class", "dog")})
    found = difference(read_study(fake.path), *models_of("supervised", "random-probe"), "test", dimensions=key)
    one, two = _hits(first, second)[:, np.arange(fake.images) % 10 == CLASSES.index("dog")]
    assert found is not None
    assert found.value == pytest.approx(one.mean() - two.mean())
    assert found.p == statistics.mcnemar_p(one, two)


def test_a_reversed_difference_is_that_of_the_reversed_models(fake: FakeStudy) -> None:
    fake.finetune("random")
    fake.probe("random")
    study, models = read_study(fake.path), models_of("supervised", "random-probe")
    one, two = difference(study, *models, "test"), difference(study, *reversed(models), "test")
    assert one is not None
    assert two is not None
    turned = one.reversed()
    assert (turned.value, turned.low, turned.high) == pytest.approx((two.value, two.low, two.high))


def test_without_predictions_the_interval_is_newcombes(fake: FakeStudy) -> None:
    # Newcombe 1998, table II, column (a), method 10: 56/70 - 48/80 has the interval .0524 to .3339
    for run, correct, count in ((fake.finetune("random"), 56, 70), (fake.probe("random"), 48, 80)):
        _set_accuracy(run, correct, count)
        (run / "predictions.npz").unlink()
    found = difference(read_study(fake.path), *models_of("supervised", "random-probe"), "test")
    assert found is not None
    assert found.paired_by == "nothing"
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert found.p is not None
    assert found.p < 0.05


def test_only_accuracies_have_an_equivalence_test_and_only_equal_images_are_paired(fake: FakeStudy) -> None:
    other = fake.probe("random")
    for run in (fake.finetune("random"), other):
        with np.load(run / "predictions.npz") as arrays:
            rows = classification("test", arrays["logits"], arrays["labels"], CLASSES)
        result = json.loads((run / "result.json").read_text())
        (run / "result.json").write_text(json.dumps(result | {"rows": rows}))
    models = models_of("supervised", "random-probe")
    confidence = difference(read_study(fake.path), *models, "test", "nll")
    assert confidence is not None
    assert confidence.p is not None
    assert confidence.p_equivalent is None
    with np.load(other / "predictions.npz") as arrays:
        np.savez(other / "predictions.npz", logits=arrays["logits"][::-1], labels=arrays["labels"][::-1])
    turned = difference(read_study(fake.path), *models, "test")
    assert turned is not None
    assert turned.paired_by == "nothing"


def test_the_mean_class_accuracy_of_perfect_models_has_an_interval(fake: FakeStudy) -> None:
    for seed in range(2):
        run = fake.finetune("random", seed)
        labels = np.arange(fake.images) % 10
        np.savez(run / "predictions.npz", logits=9 * np.eye(10)[labels], labels=labels)
        result = json.loads((run / "result.json").read_text())
        rows = classification("test", 9 * np.eye(10)[labels], labels, CLASSES)
        (run / "result.json").write_text(json.dumps(result | {"rows": rows}))
    study = read_study(fake.path)
    for metric in ("accuracy", "mean_class_accuracy"):
        found = estimate(study, model_of("supervised"), "test", metric)
        assert found is not None
        assert found.low is not None
        assert 0.9 < found.low < found.value == found.high == 1


def test_a_missing_number_is_none(fake: FakeStudy) -> None:
    fake.finetune("random")
    study = read_study(fake.path)
    assert estimate(study, model_of("supervised"), "test", "nothing") is None
    assert difference(study, *models_of("supervised", "random-probe"), "test") is None


def test_the_accuracy_of_neighbours_on_a_map_is_a_share_of_images(fake: FakeStudy) -> None:
    """The interval of two seeds with the same images is not longer than that of the images alone, and within 1."""
    for seed, share in ((0, 0.90), (1, 0.92)):
        result = json.loads((run := fake.embed("simclr-probe", seed) / "result.json").read_text())
        rows = [{"evaluation": "tsne", "metric": "knn_accuracy", "value": share, "low": None, "high": None, "n": 100}]
        run.write_text(json.dumps(result | {"rows": rows}))
    found = estimate(read_study(fake.path), model_of("simclr-probe"), "tsne", "knn_accuracy")
    assert found is not None and found.low is not None and found.high is not None
    assert found.value == pytest.approx(0.91)
    assert _wilson(91, 100)[0] - 0.05 < found.low < found.value < found.high <= 1
