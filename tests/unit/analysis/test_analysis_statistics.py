"""Intervals and tests against scipy, statsmodels, slow loops and simulations of studies."""

from dataclasses import astuple

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.proportion import confint_proportions_2indep
from statsmodels.stats.weightstats import ttost_paired

from analysis.statistics import (
    MARGIN,
    Mean,
    difference,
    difference_of_intervals,
    holm,
    mcnemar_p,
    mean,
    over_seeds,
    verdict,
)
from analysis.variance import Part, Spread, larger, of_seeds

Hits = npt.NDArray[np.bool_]
SAME_IMAGES = {"same_images": True, "same_seeds": False}


def test_hits_of_one_seed_have_wilsons_interval() -> None:
    hits = np.arange(80)[None] < 56
    expected = stats.binomtest(56, 80).proportion_ci(method="wilson")
    found = mean(hits)
    assert (found.value, found.low, found.high) == pytest.approx((0.7, expected.low, expected.high))


def test_values_of_one_seed_have_students_interval() -> None:
    values = np.random.default_rng(0).normal(size=40)
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    found = mean(values[None])
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))


def test_several_seeds_have_the_variance_of_the_mean_squares() -> None:
    draws = np.random.default_rng(2)
    values = draws.normal(size=(4, 1)) + draws.normal(size=30) + draws.normal(size=(4, 30))
    rows, columns, centre = values.mean(1), values.mean(0), values.mean()
    between_seeds = 30 * sum((row - centre) ** 2 for row in rows) / 3
    between_images = 4 * sum((column - centre) ** 2 for column in columns) / 29
    rest = sum((values[s, i] - rows[s] - columns[i] + centre) ** 2 for s in range(4) for i in range(30)) / (3 * 29)
    seed_part, image_part = between_seeds / 120, (between_images - rest) / 120
    both = seed_part + image_part
    cochran = (seed_part * stats.t.ppf(0.975, 3) + image_part * stats.t.ppf(0.975, 29)) / both
    satterthwaite = stats.t.ppf(0.975, both**2 / (seed_part**2 / 3 + image_part**2 / 29))
    half = (cochran + satterthwaite) / 2 * np.sqrt(both)
    found = mean(values)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))


def test_seeds_on_the_same_draws_have_the_variance_of_crossed_samples() -> None:
    generator = np.random.default_rng(6)
    means = generator.normal(size=(4, 1)) + generator.normal(size=5) + 0.3 * generator.normal(size=(4, 5))
    rows, columns = means.mean(1), means.mean(0)
    rest = sum((means[s, d] - rows[s] - columns[d] + means.mean()) ** 2 for s in range(4) for d in range(5)) / 12
    parts = rows.var(ddof=1) / 4, columns.var(ddof=1) / 5, -rest / 20
    found = of_seeds(means)
    assert found.variance == pytest.approx(sum(parts))
    assert found.df == pytest.approx(sum(parts) ** 2 / (parts[0] ** 2 / 3 + parts[1] ** 2 / 4 + parts[2] ** 2 / 12))
    for single in (means[:, :1], means[:, 0]):
        assert of_seeds(single) == of_seeds(single.T) == Part(pytest.approx(means[:, 0].var(ddof=1) / 4), 3)
    assert of_seeds(means[:1, :1]).variance == 0
    assert mean(np.repeat(means[..., None], 9, axis=2)).high > mean(np.repeat(means.reshape(20, 1), 9, axis=1)).high


@pytest.mark.parametrize("seeds", [2, 3])
def test_seeds_that_are_equally_good_by_chance_have_an_interval(seeds: int) -> None:
    """Their hits are independent, but as many: neither seeds nor images explain anything, only single hits do."""
    draws = np.random.default_rng(7)
    first, second = (np.array([draws.permutation(100) < count for _ in range(seeds)]) for count in (70, 76))
    found = mean(first)
    assert found.high - found.low > 2 * 1.96 * np.sqrt(0.7 * 0.3 / 100 / seeds) * 0.9
    gap = difference(first, second, **SAME_IMAGES)
    assert gap.low < gap.value < gap.high
    assert gap.high - gap.low > 2 * 1.96 * np.sqrt(2 * 0.7 * 0.3 / 100 / seeds) * 0.9


def test_a_mean_of_shares_is_between_zero_and_one_and_has_a_length() -> None:
    generator = np.random.default_rng(8)
    shares = 1 - (generator.random((3, 60)) < 0.02) * generator.random((3, 60))
    found = mean(shares, share=True)
    assert 0 < found.low < found.value < found.high < 1
    assert mean(shares).high > 1  # Student's interval, which has no limit
    assert mean(np.ones((2, 50)), share=True) == mean(np.ones((2, 50), bool))
    middle = generator.random((3, 2000))
    one, two = mean(middle, share=True), mean(middle)
    assert (one.low, one.high) == pytest.approx((two.low, two.high), abs=2e-4)


def test_a_difference_of_shares_is_within_one_and_has_a_length() -> None:
    every, none = np.ones((3, 20), bool), np.zeros((3, 20), bool)
    found = difference(every, none, **SAME_IMAGES)
    assert 0.5 < found.low < found.value == found.high == 1
    shares = np.full((1, 20), 0.5)
    equal = difference(shares, shares, share=True, **SAME_IMAGES)
    assert equal.low < equal.value == 0 < equal.high
    assert equal.p_equivalent > 0.05  # 20 images can't show that a difference is below one point


def test_the_p_value_is_the_level_at_which_the_interval_ends_at_the_hypothesis() -> None:
    spread = Spread(0.4, Part(0.01, 2), Part(0.03, 800))
    for null in (-0.3, 0.1, 0.4, 0.7):
        p = 2 * min(spread.above(null), 1 - spread.above(null))
        assert min(np.abs(np.array(spread.interval(1 - p)) - null)) < 1e-9


@pytest.mark.parametrize("df", [1.0, 2.0, 7.34, 8000.0, np.inf])
@pytest.mark.parametrize("distance", [0.0, 1e-9, 3.0, 40.0, 1e4])
def test_p_values_of_any_distance_are_students(df: float, distance: float) -> None:
    spread = Spread(distance, Part(1.0, df), Part(0.0, 8001))
    assert spread.above(0) == pytest.approx(stats.t.sf(distance, df), rel=1e-6, abs=1e-40)


def test_an_interval_over_seeds_is_students() -> None:
    values = np.array([0.71, 0.74, 0.72])
    expected = stats.ttest_1samp(values, 0).confidence_interval()
    found = over_seeds(values)
    assert (found.value, found.low, found.high) == pytest.approx((values.mean(), expected.low, expected.high))


def test_an_accuracy_of_one_has_an_interval_with_a_length() -> None:
    found = mean(np.ones((3, 50), bool))
    assert found.low == pytest.approx(stats.binomtest(50, 50).proportion_ci(method="wilson").low)
    assert found.high == 1


def test_a_difference_on_the_same_images_is_bonett_and_prices() -> None:
    first, second = np.arange(60)[None] < 45, np.abs(np.arange(60)[None] - 33) < 21
    only = [int((one & ~two).sum()) for one, two in ((first, second), (second, first))]
    shares = [(count + 1) / 62 for count in only]  # their equation 3, with Student's quantile
    half = stats.t.ppf(0.975, 61) * np.sqrt((sum(shares) - (shares[0] - shares[1]) ** 2) / 61)
    found = difference(first, second, **SAME_IMAGES)
    assert found.value == pytest.approx((only[0] - only[1]) / 60)
    assert (found.low, found.high) == pytest.approx((shares[0] - shares[1] - half, shares[0] - shares[1] + half))


def test_a_difference_on_other_images_is_agresti_and_caffos() -> None:
    found = difference(np.arange(700)[None] < 560, np.arange(800)[None] < 480, same_images=False, same_seeds=False)
    low, high = confint_proportions_2indep(560, 700, 480, 800, compare="diff", method="agresti-caffo")
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-4)


def test_equal_predictions_have_an_interval_with_a_length() -> None:
    hits = np.random.default_rng(0).random((3, 1000)) < 0.8
    found = difference(hits, hits, same_images=True, same_seeds=True)
    assert found.low < found.value == 0 < found.high
    assert found.p == pytest.approx(1)
    assert found.p_equivalent < 0.01


def test_mcnemars_p_is_that_of_statsmodels() -> None:
    first, second = np.arange(100) < 70, np.arange(100) >= 20
    assert mcnemar_p(first, second) == pytest.approx(mcnemar([[50, 20], [30, 0]], exact=True).pvalue)
    assert mcnemar_p(first, first) == 1
    assert difference(first[None], second[None], **SAME_IMAGES).p == mcnemar_p(first, second)


def test_values_of_one_seed_have_the_p_values_of_paired_t_tests() -> None:
    draws = np.random.default_rng(3)
    first, second = draws.normal(scale=MARGIN / 0.3, size=(2, 50))
    found = difference(first[None], second[None], **SAME_IMAGES)
    assert found.p == pytest.approx(stats.ttest_rel(first, second).pvalue)
    assert found.p_equivalent == pytest.approx(ttost_paired(first, second, -MARGIN, MARGIN)[0])


def test_means_over_many_seeds_have_the_p_value_of_welchs_test() -> None:
    # every image is equal, so that only the seeds vary
    draws = np.random.default_rng(4)
    first, second = draws.normal(0.5, 0.1, 6), draws.normal(0.4, 0.3, 9)
    tables = [np.repeat(means[:, None], 20, axis=1) for means in (first, second)]
    found = difference(*tables, **SAME_IMAGES)
    expected = stats.ttest_ind(first, second, equal_var=False)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))


def test_the_order_of_the_models_changes_only_the_sign() -> None:
    draws = np.random.default_rng(5)
    first, second = draws.random((3, 300)) < 0.8, draws.random((4, 300)) < 0.7
    one, two = difference(first, second, **SAME_IMAGES), difference(second, first, **SAME_IMAGES)
    assert (one.value, one.low, one.high) == pytest.approx((-two.value, -two.high, -two.low))
    assert (one.p, one.p_equivalent) == pytest.approx((two.p, two.p_equivalent))


@pytest.mark.parametrize("count", [1, 3, 20])
def test_holms_correction_is_that_of_statsmodels(count: int) -> None:
    p = np.random.default_rng(count).random(count) ** 4
    assert holm([*p, *p[:1]]) == pytest.approx(multipletests([*p, *p[:1]], method="holm")[1])
    assert holm([]) == []


@pytest.mark.parametrize(
    ("p", "p_equivalent", "expected"),
    [
        (0.01, 0.9, "clear"),
        (0.3, 0.01, "equivalent"),
        (0.3, 0.3, "undecided"),
        (0.01, 0.01, "clear"),
        (0.06, 0.06, "undecided"),
    ],
)
def test_verdicts(p: float, p_equivalent: float, expected: str) -> None:
    assert verdict(p, p_equivalent) == expected


@pytest.mark.parametrize("shape", [(3, 1), (0, 10), (10,)])
def test_wrong_shapes_are_errors(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        mean(np.zeros(shape))


def test_contradictory_pairs_are_errors() -> None:
    one, two = np.zeros((2, 10), bool), np.zeros((3, 11), bool)
    with pytest.raises(ValueError, match="same seeds"):
        difference(np.zeros((2, 3, 9)), np.zeros((3, 2, 9)), same_images=True, same_seeds=True)
    with pytest.raises(ValueError, match="same images"):
        difference(one, two, **SAME_IMAGES)
    with pytest.raises(ValueError, match="same seeds"):
        difference(one, two, same_images=False, same_seeds=True)
    with pytest.raises(ValueError, match="two seeds"):
        over_seeds(np.zeros(1))


def test_a_difference_of_intervals_is_newcombes() -> None:
    # Newcombe 1998, table II, column (a), method 10: 56/70 - 48/80 has the interval .0524 to .3339
    found = difference_of_intervals(*(mean(np.arange(n)[None] < correct) for correct, n in ((56, 70), (48, 80))))
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    assert 0.001 < found.p < 0.02
    turned = difference_of_intervals(*(mean(np.arange(n)[None] < correct) for correct, n in ((48, 80), (56, 70))))
    assert (turned.p, turned.p_equivalent) == pytest.approx((found.p, found.p_equivalent))


@pytest.mark.parametrize(("first", "second"), [(50, 50), (58, 41), (41, 58)])
def test_a_difference_of_intervals_is_equivalent_if_both_ends_are_within_the_margin(first: int, second: int) -> None:
    one, two = (mean(np.arange(80)[None] < count) for count in (first, second))
    found = difference_of_intervals(one, two)
    ends = np.array([found.low - found.value, found.high - found.value]) * stats.norm.ppf(0.95) / stats.norm.ppf(0.975)
    low, high = found.value + ends  # the interval whose ends are one-sided 95 % bounds
    for margin in np.linspace(0.01, 0.5, 50):
        scaled = [Mean(*(MARGIN / margin * end for end in astuple(entry))) for entry in (one, two)]
        p_equivalent = difference_of_intervals(*scaled).p_equivalent
        assert (p_equivalent < 0.05) == (-margin < low and high < margin)


def test_a_model_on_two_sets_of_images_is_paired_by_its_seeds() -> None:
    draws = np.random.default_rng(9)
    skill = np.array([[0.5], [0.7], [0.9]])
    first, second = draws.random((3, 400)) < skill, draws.random((3, 300)) < skill - 0.1
    paired, unpaired = (difference(first, second, same_images=False, same_seeds=same) for same in (True, False))
    assert paired.value == unpaired.value == pytest.approx(0.1, abs=0.05)
    assert paired.high - paired.low < 0.5 * (unpaired.high - unpaired.low)


def test_a_difference_of_intervals_is_significant_if_the_interval_excludes_zero() -> None:
    for correct in range(20, 60):
        found = difference_of_intervals(*(mean(np.arange(80)[None] < count) for count in (correct, 40)))
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


def test_with_one_seed_trainings_on_the_same_draws_are_compared_as_pairs() -> None:
    # What both models have in common on an image after the same draw is no noise of their difference.
    generator = np.random.default_rng(4)
    common = 2 * generator.standard_normal((3, 200))
    one, two = (common + generator.standard_normal((3, 200)) > level for level in (0.3, 0.5))
    draws = difference(one[None], two[None], same_images=True, same_draws=True)
    pairs = difference(one, two, same_images=True, same_seeds=True)
    assert astuple(draws) == pytest.approx(astuple(pairs), rel=1e-9)


def test_a_large_interaction_of_seeds_and_draws_leaves_the_larger_of_the_two_parts() -> None:
    means = np.array([[0.9, 0.1, 0.5], [0.1, 0.9, 0.5], [0.5, 0.5, 0.6], [0.4, 0.6, 0.5]])
    parts = means.mean(axis=1).var(ddof=1) / 4, means.mean(axis=0).var(ddof=1) / 3
    found = of_seeds(means)
    assert (found.variance, found.df) == (pytest.approx(max(parts)), 2)


def test_a_variance_below_its_least_value_has_that_value_with_one_degree_of_freedom_more() -> None:
    assert larger(Part(0.5, 2), Part(1.0, 400)) == Part(1.0, 3)
    assert larger(Part(0.5, 2), Part(1.0, 2.5)) == Part(1.0, 2.5)
    assert larger(Part(1.5, 2), Part(1.0, 400)) == Part(1.5, 2)
