import numpy as np
import numpy.typing as npt
import pytest
from scipy import special

from analysis.calibration import curve, error, values
from ssl_pkg.evaluation.accuracy import calibration_error


@pytest.mark.parametrize(
    ("seeds", "images", "gap"),
    [(1, 500, 0.2), (1, 200, 0.01), (1, 800, 0), (3, 800, 0.015), (3, 800, 0.05), (3, 800, 0.2)],
)
def test_the_interval_of_the_calibration_error_covers_the_truth(seeds: int, images: int, gap: float) -> None:
    """The seeds have the same images, of which some are easy for all of them."""
    draws = np.random.default_rng(7)

    def sample(seeds: int, count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
        confidence = np.broadcast_to(0.1 + 0.9 * draws.beta(5, 1.2, count), (seeds, count))
        ease = 0.9 * draws.standard_normal(count) + 0.19**0.5 * draws.standard_normal((seeds, count))
        return confidence, special.ndtr(ease) < (1 - gap) * confidence

    truth = values(*sample(1, 1_000_000)).mean()
    found = [error(*sample(seeds, images)) for _ in range(400)]
    covered = np.mean([entry.low <= truth <= entry.high for entry in found])
    assert covered >= 0.93
    assert covered <= 0.99 or gap < 0.1  # where the bias is large, the interval is rather too long


def test_the_calibration_error_is_that_of_the_evaluation() -> None:
    draws = np.random.default_rng(8)
    confidence, hits = draws.random((3, 400)), draws.random((3, 400)) < 0.6
    expected = [calibration_error(*row) for row in zip(confidence, hits, strict=True)]
    assert values(confidence, hits).mean(axis=1) == pytest.approx(expected)
    found = error(confidence, hits)
    assert found.value == pytest.approx(np.mean(expected))
    assert found.low < found.value <= found.high


def test_the_curve_has_the_bins_with_enough_images() -> None:
    """Two classes, of which the first is predicted: nine images with .55, ten with .75 and 30 with .95."""
    confidence = np.repeat([0.55, 0.75, 0.95], [9, 10, 30])
    labels = np.zeros(49, np.int64)
    labels[[0, 9, 10, 19]] = 1
    found = curve(np.log(np.stack([confidence, 1 - confidence], axis=1)), labels)
    assert found is not None
    assert found.confidence == pytest.approx([0.75, 0.95])
    assert found.accuracy == pytest.approx([8 / 10, 29 / 30])
    assert found.counts.tolist() == [10, 30]
    assert found.shares[[8, 11, 14]] == pytest.approx(np.array([9, 10, 30]) / 49)
    assert curve(np.log([[0.6, 0.4]] * 20), np.zeros(20, np.int64)) is None
