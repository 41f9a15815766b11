import numpy as np
import pytest
from scipy import stats

from analysis.robustness import Networks, by_draw, effective_robustness, fit


def hits(levels: np.ndarray, difficulties: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """The hits (networks, images) of networks with the accuracies Phi(levels), half of it the images'."""
    noise = generator.normal(size=(len(levels), len(difficulties)))
    return levels[:, None] + (difficulties + noise) / 2**0.5 > 0


def networks(abilities: np.ndarray, generator: np.random.Generator, scatter: float = 0.0) -> Networks:
    """Networks with probit(test) = ability and probit(ood) = -0.5 + 0.8 * ability, plus their own scatter."""
    test, ood = np.random.default_rng(7).normal(size=1200), np.random.default_rng(8).normal(size=1500)
    heights = -0.5 + 0.8 * abilities + scatter * generator.normal(size=len(abilities))
    return Networks(hits(abilities, test, generator), hits(heights, ood, generator))


def grouped(networks: Networks, size: int = 3) -> list[Networks]:
    """The networks in entries of `size`."""
    parts = [slice(start, start + size) for start in range(0, len(networks.test), size)]
    return [Networks(networks.test[part], networks.ood[part]) for part in parts]


ABILITIES = np.repeat([-0.8, -0.4, 0.0, 0.4, 0.8], 3)


def test_the_line_is_scipys() -> None:
    baselines = networks(ABILITIES, np.random.default_rng(0), scatter=0.1)
    line = fit(grouped(baselines))
    assert line is not None
    x, y = (stats.norm.ppf(hits.mean(axis=1)) for hits in (baselines.test, baselines.ood))
    expected = stats.linregress(x, y)
    assert (line.slope, line.intercept) == pytest.approx((expected.slope, expected.intercept))
    assert line.variance(0.0) == pytest.approx(expected.intercept_stderr**2)
    assert line.predicted(0.7) == pytest.approx(
        stats.norm.cdf(expected.intercept + expected.slope * stats.norm.ppf(0.7))
    )


def test_a_model_above_the_line_by_hand() -> None:
    """Baselines with accuracies .25, .5, .5 and .75 on both sets: the line is the diagonal."""
    shares = (0.25, 0.5, 0.5, 0.75)
    hits = np.array([np.arange(400) < 400 * share for share in shares])
    model = Networks(np.arange(400)[None] < 240, np.arange(400)[None] < 280)
    found = effective_robustness(model, grouped(Networks(hits, hits), 1))
    assert found is not None
    assert found.value == pytest.approx(0.7 - 0.6)
    assert found.low < found.value < found.high


def test_without_baselines_of_different_strength_there_is_no_line() -> None:
    model = networks(np.array([0.5]), np.random.default_rng(0))
    baselines = networks(ABILITIES, np.random.default_rng(1))
    equal = Networks(np.tile(np.arange(10) < 5, (6, 1)), baselines.ood[:6])
    assert effective_robustness(model, grouped(baselines)) is not None
    assert effective_robustness(model, [baselines]) is None  # one strength
    assert effective_robustness(model, grouped(Networks(baselines.test[::5], baselines.ood[::5]), 1)) is None
    assert fit(grouped(equal, 2)) is None
    assert fit([]) is None


def test_accuracies_of_zero_and_one_have_a_place_on_the_line() -> None:
    hits = np.array([np.arange(100) < count for count in (0, 30, 60, 100)])
    found = effective_robustness(Networks(hits[3:], hits[3:]), grouped(Networks(hits, hits), 1))
    assert found is not None
    assert np.isfinite([found.value, found.low, found.high]).all()


def test_the_interval_is_within_one_however_short_the_line_is() -> None:
    """The networks of the line differ by one image, so that its height at the model's place is unknown."""
    tests = np.array([np.arange(400) < count for count in (200, 200, 201, 202)])
    oods = np.array([np.arange(400) < count for count in (120, 190, 180, 140)])
    found = effective_robustness(Networks(np.arange(400)[None] < 300, oods[:1]), grouped(Networks(tests, oods), 1))
    assert found is not None
    assert -1 <= found.low < found.value < found.high <= 1
    assert found.high - found.low > 1


@pytest.mark.slow
@pytest.mark.parametrize(("seeds", "shift", "spread"), [(1, 0.0, 1.0), (3, 0.3, 1.0), (1, 0.0, 0.2)])
def test_the_interval_contains_the_truth_in_95_of_100_studies(seeds: int, shift: float, spread: float) -> None:
    """The images are drawn anew in each study; a model with one seed is a given network without scatter.

    spread: of the baselines' abilities. The interval errs on the long side.
    """
    inside = []
    for study in range(400):
        generator = np.random.default_rng(study)
        test, ood = generator.normal(size=(2, 700))
        abilities = spread * ABILITIES
        heights = -0.5 + 0.8 * abilities + 0.1 * generator.normal(size=len(ABILITIES))
        baselines = grouped(Networks(hits(abilities, test, generator), hits(heights, ood, generator)))
        ability = np.full(seeds, 0.6)
        model = Networks(hits(ability, test, generator), hits(-0.5 + 0.8 * ability + shift, ood, generator))
        truth = stats.norm.cdf(-0.5 + 0.8 * 0.6 + shift) - stats.norm.cdf(-0.5 + 0.8 * 0.6)
        found = effective_robustness(model, baselines)
        assert found is not None
        inside.append(found.low <= truth <= found.high)
    assert 0.93 <= np.mean(inside) <= 0.98, np.mean(inside)


def test_networks_of_a_draw_are_one_point_of_the_line() -> None:
    baselines = networks(np.repeat(ABILITIES, 2), np.random.default_rng(0), scatter=0.1)
    draws = [0, 1, 1, 2, 0, 2]
    entries = [by_draw(entry, draws) for entry in grouped(baselines, 6)]
    x, y = [], []
    for start in range(0, 30, 6):
        for draw in range(3):
            own = [start + place for place in range(6) if draws[place] == draw]
            x.append(stats.norm.ppf(np.mean(baselines.test[own])))
            y.append(stats.norm.ppf(np.mean(baselines.ood[own])))
    line, expected = fit(entries), stats.linregress(x, y)
    assert line is not None
    assert line.count == 15
    assert (line.slope, line.intercept) == pytest.approx((expected.slope, expected.intercept))
    assert line.variance(0.0) == pytest.approx(expected.intercept_stderr**2)


@pytest.mark.parametrize(("seeds", "spread"), [(1, 1.0), (3, 0.2)])
def test_the_interval_contains_the_truth_if_the_seeds_of_the_line_share_their_draws(seeds: int, spread: float) -> None:
    """Three seeds on five draws, each with an effect of 0.1 on the probit of OOD accuracy.

    With the seeds as independent points, the interval covers 79 to 92 %.
    """
    inside = []
    for study in range(200):
        generator = np.random.default_rng(study)
        test, ood = generator.normal(size=(2, 700))
        baselines = []
        for ability in spread * np.array([-0.8, -0.4, 0.0, 0.4]):
            heights = -0.5 + 0.8 * ability + 0.1 * generator.normal(size=5)  # one a draw
            levels = np.repeat(heights, 3) + 0.03 * generator.normal(size=15)
            trained = Networks(hits(np.full(15, ability), test, generator), hits(levels, ood, generator))
            baselines.append(by_draw(trained, np.repeat(range(5), 3).tolist()))
        own = np.full(seeds, 0.6)
        model = Networks(hits(own, test, generator), hits(-0.5 + 0.8 * own, ood, generator))
        found = effective_robustness(model, baselines)
        assert found is not None
        inside.append(found.low <= 0 <= found.high)
    assert 0.93 <= np.mean(inside) <= 0.98, np.mean(inside)
