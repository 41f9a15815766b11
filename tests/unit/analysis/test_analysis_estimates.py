import json
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from fake_study import FakeStudy, model_of, models_of
from scipy import stats

from analysis.estimates import difference, estimate
from analysis.study import read_study


def _wilson(correct: int, count: int) -> tuple[float, float]:
    share, z = correct / count, 1.96
    centre, half = share + z**2 / (2 * count), z * sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return (centre - half) / (1 + z**2 / count), (centre + half) / (1 + z**2 / count)


def _set_accuracy(run: Path, correct: int, count: int) -> None:
    result = json.loads((run / "result.json").read_text())
    low, high = _wilson(correct, count)
    row = {"evaluation": "test", "metric": "accuracy", "value": correct / count, "low": low, "high": high, "n": count}
    (run / "result.json").write_text(json.dumps(result | {"rows": [row]}))


def test_seeds_give_mean_and_sample_deviation(fake: FakeStudy) -> None:
    for seed in range(3):
        fake.finetune("random", seed)
    tested = [row for row in fake.written if (row["evaluation"], row["metric"]) == ("test", "accuracy")]
    values = [row["value"] for row in tested if "class" not in row]
    found = estimate(read_study(fake.path), model_of("supervised"), "test", "accuracy")
    assert found is not None
    assert found.value == pytest.approx(np.mean(values))
    assert found.sd == pytest.approx(np.std(values, ddof=1))
    assert found.by_seed == dict(enumerate(values))
    assert found.low is None


def test_a_difference_uses_only_the_seeds_that_both_models_have(fake: FakeStudy) -> None:
    for seed, correct in enumerate((50, 90)):
        _set_accuracy(fake.finetune("random", seed), correct, 100)
    _set_accuracy(fake.probe("random", 0), 30, 100)
    found = difference(read_study(fake.path), *models_of("supervised", "random-probe"), "test")
    assert found is not None
    assert found.value == pytest.approx(0.2)


def test_a_difference_over_seeds_is_the_paired_t_interval(fake: FakeStudy) -> None:
    for seed in range(4):
        correct = 50 + 7 * seed % 5
        _set_accuracy(fake.finetune("random", seed), correct, 100)
        _set_accuracy(fake.probe("random", seed), 30 + 3 * seed, 100)
    supervised = np.array([50 + 7 * seed % 5 for seed in range(4)]) / 100
    random = np.array([30 + 3 * seed for seed in range(4)]) / 100
    expected = stats.ttest_rel(supervised, random).confidence_interval()
    found = difference(read_study(fake.path), *models_of("supervised", "random-probe"), "test")
    assert found is not None
    assert found.paired_by == "seeds"
    assert found.value == pytest.approx((supervised - random).mean())
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_a_difference_of_one_seed_is_paired_by_image(fake: FakeStudy) -> None:
    runs = [fake.finetune("random"), fake.probe("random")]
    hits = []
    for run in runs:
        with np.load(run / "predictions.npz") as arrays:
            hits.append(arrays["logits"].argmax(1) == arrays["labels"])
    only_first, only_second = (hits[0] & ~hits[1]).sum(), (hits[1] & ~hits[0]).sum()
    n = len(hits[0])
    gap = (only_first - only_second) / n
    # the usual standard error of a difference of paired proportions
    error = sqrt((only_first + only_second - (only_first - only_second) ** 2 / n) / (n * (n - 1)))
    found = difference(read_study(fake.path), *models_of("supervised", "random-probe"), "test")
    assert found is not None
    assert found.paired_by == "images"
    assert (found.value, found.low, found.high) == pytest.approx((gap, gap - 1.96 * error, gap + 1.96 * error))


def test_without_predictions_the_interval_is_newcombes(fake: FakeStudy) -> None:
    # Newcombe 1998, table II, column (a), method 10: 56/70 - 48/80 has the interval .0524 to .3339
    for run, correct, count in ((fake.finetune("random"), 56, 70), (fake.probe("random"), 48, 80)):
        _set_accuracy(run, correct, count)
        (run / "predictions.npz").unlink()
    found = difference(read_study(fake.path), *models_of("supervised", "random-probe"), "test")
    assert found is not None
    assert found.paired_by == "intervals"
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert found.clear


def test_a_missing_number_is_none(fake: FakeStudy) -> None:
    fake.finetune("random")
    study = read_study(fake.path)
    assert estimate(study, model_of("supervised"), "test", "nothing") is None
    assert difference(study, *models_of("supervised", "random-probe"), "test") is None
