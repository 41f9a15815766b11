"""Simulations of studies: how often the intervals contain the truth, and how often verdicts are wrong."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from analysis.statistics import Difference, difference, mean, proportion
from analysis.variance import Part, Spread

Hits = npt.NDArray[np.bool_]
SAME_IMAGES = {"same_images": True, "same_seeds": False}


class Simulated:
    """Hits of models with a known expected accuracy: a hit if image + seed + rest exceed a threshold, all normal.

    The images explain most of the variance, as in real studies: with the default sizes the accuracy of 3 seeds has a
    standard deviation of about one percentage point at 2,000 images.
    """

    def __init__(self, images: int, image: float = 2.0, seed: float = 0.06, rest: float = 1.0) -> None:
        self.draws = np.random.default_rng(images + 1)
        self.image, self.seed, self.rest, self.images = image, seed, rest, images
        self.next_images()

    def next_images(self) -> None:
        self.easy = self.image * self.draws.standard_normal(self.images, dtype=np.float32)

    def hits(self, seeds: int, level: float = 1.6) -> tuple[Hits, float]:
        """Hits (seeds, images), and their expectation over seeds and images, with one seed over images."""
        shift = self.seed * self.draws.standard_normal((seeds, 1), dtype=np.float32) + np.float32(level)
        cells = self.rest * self.draws.standard_normal((seeds, self.images), dtype=np.float32)
        if seeds == 1:
            return self.easy + shift + cells > 0, stats.norm.cdf(shift.item() / np.hypot(self.image, self.rest))
        spread = np.sqrt(self.image**2 + self.seed**2 + self.rest**2)
        return self.easy + shift + cells > 0, stats.norm.cdf(level / spread)


def _studies(images: int, count: int, **sizes: float) -> Any:
    simulated = Simulated(images, **sizes)
    for _ in range(count):
        simulated.next_images()
        yield simulated


def _within(covered: list[bool]) -> bool:
    return 0.93 <= float(np.mean(covered)) <= 0.97


@pytest.mark.parametrize(("seeds", "images"), [(1, 500), (1, 8000), (3, 500), (3, 8000), (5, 2000)])
def test_the_interval_of_a_mean_covers_the_truth(seeds: int, images: int) -> None:
    covered = []
    for study in _studies(images, 2000 if images < 5000 else 500):
        hits, truth = study.hits(seeds)
        found = mean(hits)
        covered.append(found.low <= truth <= found.high)
    assert _within(covered)


@pytest.mark.parametrize(("seeds", "images"), [((1, 1), 500), ((3, 3), 500), ((3, 3), 8000), ((5, 3), 2000)])
def test_the_interval_of_a_difference_covers_the_truth(seeds: tuple[int, int], images: int) -> None:
    covered = []
    for study in _studies(images, 800 if images < 5000 else 400):
        (first, one), (second, two) = study.hits(seeds[0]), study.hits(seeds[1], 1.45)
        found = difference(first, second, **SAME_IMAGES)
        covered.append(found.low <= one - two <= found.high)
    assert _within(covered)


def test_the_interval_over_different_images_covers_the_truth() -> None:
    covered = []
    for study in _studies(500, 800):
        first, one = study.hits(3)
        study.next_images()
        second, two = study.hits(3, 1.2)
        found = difference(first, second, same_images=False, same_seeds=False)
        covered.append(found.low <= one - two <= found.high)
    assert _within(covered)


def test_a_difference_of_two_uses_of_the_same_encoders_covers_the_truth_and_is_shorter() -> None:
    draws, covered, lengths = np.random.default_rng(0), [], []
    for _ in range(800):
        image, seed = 2 * draws.standard_normal(500), 0.5 * draws.standard_normal((3, 1))
        first, second = (image + seed + draws.standard_normal((3, 500)) + level > 0 for level in (1.6, 1.4))
        one, two = stats.norm.cdf(np.array([1.6, 1.4]) / np.sqrt(4 + 0.25 + 1))
        paired, unpaired = (difference(first, second, same_images=True, same_seeds=same) for same in (True, False))
        covered.append(paired.low <= one - two <= paired.high)
        lengths.append([paired.high - paired.low, unpaired.high - unpaired.low])
    # The encoders cancel, so that single hits explain all: then 97 %, because the seed part is at least theirs.
    assert 0.93 <= np.mean(covered) <= 0.98
    assert np.mean(lengths, axis=0)[0] < 0.5 * np.mean(lengths, axis=0)[1]


@pytest.mark.parametrize(("seeds", "draws"), [(3, 3), (3, 5), (1, 3), (3, 1)])
def test_the_interval_with_few_labels_covers_the_truth(seeds: int, draws: int) -> None:
    """Every seed is trained on the same draws, which are a common cause of its accuracy and of the other model's."""
    generator, covered, rejected, images = np.random.default_rng(3), [], [], 300
    by_draw, by_seed, by_both = 0.25, 0.1, 0.05
    single = by_draw * (draws == 1), by_seed * (seeds == 1)  # no variation, so the truth is that of this draw or seed
    for _ in range(600):
        easy, common = 2 * generator.standard_normal(images), 0.17 * generator.standard_normal((1, draws, 1))

        def effects(common: Any = common) -> Any:
            return (
                by_seed * generator.standard_normal((seeds, 1, 1))
                + common + (by_draw**2 - 0.17**2) ** 0.5 * generator.standard_normal((1, draws, 1))
                + by_both * generator.standard_normal((seeds, draws, 1))
            )  # fmt: skip

        trained = [effects() for _ in range(2)]
        first, second = (
            easy + 1.6 + shift + generator.standard_normal((seeds, draws, images)) > 0 for shift in trained
        )
        if any(single):
            truth = [stats.norm.cdf((1.6 + shift) / 5**0.5).mean() for shift in trained]
        else:
            truth = [stats.norm.cdf(1.6 / np.sqrt(5 + by_draw**2 + by_seed**2 + by_both**2))] * 2
        found = mean(first)
        covered.append(found.low <= truth[0] <= found.high)
        gap = difference(first, second, same_images=True, same_seeds=True)
        rejected.append(not gap.low <= truth[0] - truth[1] <= gap.high)
    assert np.mean(covered) >= 0.925
    assert np.mean(rejected) <= 0.075


def test_the_percentiles_of_a_hierarchical_bootstrap_cover_too_little_with_three_seeds() -> None:
    # The reason why the module has none. The seeds explain most of the variance here: 2.5 points.
    draws, covered = np.random.default_rng(1), {"bootstrap": [], "closed form": []}
    pick = draws.multinomial(3, [1 / 3] * 3, 200) / 3
    weights = draws.multinomial(1000, [1 / 1000] * 1000, 200) / 1000
    for study in _studies(1000, 400, seed=0.2):
        hits, truth = study.hits(3)
        low, high = np.percentile(((pick @ hits) * weights).sum(1), [2.5, 97.5])
        covered["bootstrap"].append(low <= truth <= high)
        covered["closed form"].append(mean(hits).low <= truth <= mean(hits).high)
    assert np.mean(covered["bootstrap"]) < 0.9
    assert _within(covered["closed form"])


@pytest.mark.parametrize(("seeds", "least", "most"), [(2, 0.91, 0.972), (3, 0.935, 0.965), (5, 0.945, 0.965)])
def test_the_quantile_covers_for_any_ratio_of_the_parts(seeds: int, least: float, most: float) -> None:
    # Exact up to the grid: the seeds' mean square is chi-square, the image part is known, the mean is normal.
    squares = stats.chi2.ppf((np.arange(500) + 0.5) / 500, seeds - 1) / (seeds - 1)
    covered = []
    for ratio in (0, 0.05, 0.2, 0.5, 1, 2, 5, 20):
        spreads = [Spread(0.0, Part(square, seeds - 1), Part(ratio, np.inf)) for square in squares]
        halves = np.array([spread.interval(0.95)[1] for spread in spreads])
        covered.append(np.mean(2 * stats.norm.cdf(halves / np.sqrt(1 + ratio)) - 1))
    assert least <= min(covered) <= max(covered) <= most


def test_the_verdict_equivalent_is_rarely_wrong() -> None:
    # The true difference is at the margin: at most 5 % of the studies may call the models equivalent.
    level = stats.norm.ppf(stats.norm.cdf(1.6 / np.sqrt(5.0036)) - 0.01) * np.sqrt(5.0036)
    found: list[Difference] = []
    for study in _studies(8000, 200):
        found.append(difference(study.hits(5)[0], study.hits(5, level)[0], **SAME_IMAGES))
    assert np.mean([entry.p_equivalent < 0.05 for entry in found]) <= 0.07


def test_shares_without_hits_have_an_interval_that_is_not_shorter() -> None:
    for study in _studies(500, 20):
        hits, _ = study.hits(3)
        known, unknown = mean(hits), proportion(hits.mean(axis=1), 500)
        assert known.value == pytest.approx(unknown.value)
        assert unknown.high - unknown.low > 0.97 * (known.high - known.low)
    one = proportion(np.array([0.7]), 80)
    assert (one.low, one.high) == pytest.approx(tuple(stats.binomtest(56, 80).proportion_ci(method="wilson")))
