"""What an image contributes to a number, against the jackknife: the number with and without this image."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from analysis.outcomes import Corrupted, _class_mean, _of_conditions

Floats = npt.NDArray[np.float64]


def pseudo_values(number: Callable[[npt.NDArray[np.int64]], float], images: int) -> Floats:
    """Tukey's pseudo-value of each image, of a number that is computed from these images."""
    every = np.arange(images)
    whole = number(every)
    return np.array([images * whole - (images - 1) * number(np.delete(every, image)) for image in every])


def test_an_image_of_a_small_class_counts_more_in_the_mean_of_the_classes() -> None:
    labels = np.repeat([0, 1, 2], [400, 120, 60])
    hits = np.random.default_rng(0).random((2, len(labels))) < np.array([0.9, 0.6, 0.3])[labels]

    def number(row: int, kept: npt.NDArray[np.int64]) -> float:
        return float(np.mean([hits[row, kept][labels[kept] == own].mean() for own in range(3)]))

    values = _class_mean(hits, labels)
    for row in range(2):
        expected = pseudo_values(lambda kept, row=row: number(row, kept), len(labels))
        np.testing.assert_allclose(values[row], expected, atol=0.03 * np.ptp(expected))
        np.testing.assert_allclose(values[row].mean(), number(row, np.arange(len(labels))))


def test_an_image_contributes_to_both_means_of_the_relative_accuracy() -> None:
    generator = np.random.default_rng(1)
    clean = generator.random((2, 300)) < 0.8
    hits = clean[:, None, None] & (generator.random((2, 3, 2, 300)) < 0.7)
    found = Corrupted((0, 1), ("blur", "fog", "jpeg"), (1, 3), clean, hits)
    values = _of_conditions(found, "relative_accuracy")
    assert values is not None
    for row in range(2):
        mean = hits[row].mean(axis=(0, 1))
        expected = pseudo_values(
            lambda kept, row=row, mean=mean: float(mean[kept].mean() / clean[row, kept].mean()), 300
        )
        np.testing.assert_allclose(values[row], expected, atol=0.01)
