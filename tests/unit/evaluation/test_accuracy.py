import numpy as np
import pytest

from ssl_pkg.catalogue import UNKNOWN
from ssl_pkg.evaluation.accuracy import calibration_error, classification, hits_of, over_folds, shared_classes
from ssl_pkg.intervals import wilson
from ssl_pkg.rows import dimensions_of, row, unmeasured


def test_rows_of_a_small_case_computed_by_hand() -> None:
    probability = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2], [0.6, 0.3, 0.1]])
    labels = np.array([0, 1, 1, 0])
    rows = classification("test", np.log(probability).astype(np.float32), labels, ["a", "b", "c"])
    values = {row["metric"]: row["value"] for row in rows if "class" not in row}
    by_class = {row["class"]: row for row in rows if "class" in row}
    assert {row["metric"] for row in by_class.values()} == {"accuracy"}
    empty = by_class["c"]
    assert (empty["value"], empty["n"], empty["reason"]) == (None, 0, "there are no images of this class")
    assert values["accuracy"] == 0.75
    assert by_class["a"]["value"] == 1.0
    assert by_class["b"]["value"] == 0.5
    assert values["mean_class_accuracy"] == 0.75
    assert values["nll"] == pytest.approx(-np.log([0.7, 0.8, 0.3, 0.6]).mean(), rel=1e-5)
    assert values["mean_confidence"] == pytest.approx((0.7 + 0.8 + 0.5 + 0.6) / 4, rel=1e-5)
    assert {row["n"] for row in rows if "class" not in row} == {4}


def test_calibration_error_equals_a_loop_over_bins() -> None:
    generator = np.random.default_rng(0)
    confidence, hits = generator.uniform(0.1, 1, 500), generator.random(500) < 0.6
    slow = 0.0
    for index in range(15):
        chosen = [i for i in range(500) if index / 15 <= confidence[i] < (index + 1) / 15]
        if chosen:
            slow += abs(sum(hits[i] - confidence[i] for i in chosen)) / 500
    assert calibration_error(confidence, hits) == pytest.approx(slow)


def test_a_confidence_of_one_is_in_the_last_bin() -> None:
    """Two images, 100 and 97 % confident, of which one is right: their bin has a confidence of .985."""
    found = calibration_error(np.array([1.0, 0.97]), np.array([False, True]))
    assert found == pytest.approx(0.985 - 0.5)


def test_no_number_is_computed_from_logits_that_are_not_finite() -> None:
    logits = np.zeros((4, 2), np.float32)
    logits[2, 1] = np.nan
    rows = classification("test", logits, np.array([0, 0, 1, 1]), ["a", "b"])
    assert {row["value"] for row in rows} == {None}
    assert {row["reason"] for row in rows} == {"the logits of 1 of 4 images are not finite"}
    finite = classification("test", np.zeros((4, 2), np.float32), np.array([0, 0, 1, 1]), ["a", "b"])
    assert [row["metric"] for row in rows] == [row["metric"] for row in finite]
    assert [dimensions_of(row) for row in rows] == [dimensions_of(row) for row in finite]
    assert [row["n"] for row in rows] == [row["n"] for row in finite]


def test_accuracies_of_the_shared_classes_by_hand() -> None:
    """Class 1 is not shared: with the mask, the second image is classified correctly and the third still is not."""
    logits = np.array([[3, 2, 1], [1, 3, 2], [2, 3, 1], [0, 9, 0]], np.float32)
    rows = shared_classes("ood", logits, np.array([0, 2, 2, 1]), (0, 2))
    values = {row["metric"]: (row["value"], row["n"]) for row in rows}
    assert values == {"accuracy_shared": (pytest.approx(1 / 3), 3), "accuracy_masked": (pytest.approx(2 / 3), 3)}
    (masked,) = (row for row in rows if row["metric"] == "accuracy_masked")
    assert (masked["low"], masked["high"]) == pytest.approx(wilson(2, 3))


@pytest.mark.parametrize(("labels", "shared"), [([1, 1], (0, 2)), ([0, 1], ())])
def test_without_images_of_shared_classes_there_is_no_accuracy(labels: list[int], shared: tuple[int, ...]) -> None:
    rows = shared_classes("ood", np.zeros((2, 3), np.float32), np.array(labels), shared)
    assert [(row["value"], row["n"], row["reason"]) for row in rows] == [(None, 0, "there are no images")] * 2


def test_shared_classes_are_not_evaluated_on_logits_that_are_not_finite() -> None:
    logits = np.array([[0, np.nan], [0, 1]], np.float32)
    rows = shared_classes("ood", logits, np.array([0, 1]), (0, 1))
    assert [row["reason"] for row in rows] == ["the logits of 1 of 2 images are not finite"] * 2


def test_an_image_with_one_logit_that_is_not_finite_is_no_hit_and_no_miss() -> None:
    logits = np.array([[2, 1], [1, 2], [9, np.nan], [-np.inf, 9]], np.float32)
    assert hits_of(logits, np.array([0, 0, 0, 1])).tolist() == [1, 0, UNKNOWN, UNKNOWN]


def test_folds_are_summarised_only_if_each_has_an_accuracy() -> None:
    folds = [row("folds", "accuracy", value, 50) for value in (0.5, 0.6, 0.7)]
    mean, deviation = over_folds(folds, 50, "a fold is missing")
    assert [mean["value"], deviation["value"]] == pytest.approx([0.6, 0.1])  # of a sample of folds
    assert (mean["n"], deviation["n"]) == (50, 3)
    lost = over_folds([*folds, unmeasured("folds", "accuracy", 50, "")], 50, "a fold is missing")
    assert [(entry["value"], entry["reason"]) for entry in lost] == [(None, "a fold is missing")] * 2
