import pytest
from scipy.stats import binomtest

from ssl_pkg.intervals import long_interval, wilson


@pytest.mark.parametrize(("correct", "count"), [(0, 7), (3, 7), (7, 7), (613, 800)])
def test_wilson_interval_is_scipys(correct: int, count: int) -> None:
    interval = binomtest(correct, count).proportion_ci(method="wilson")
    assert wilson(correct, count) == pytest.approx((interval.low, interval.high), abs=1e-4)


def test_images_are_few_if_half_of_them_right_leaves_more_than_ten_points_on_each_side() -> None:
    for count in range(2, 200, 2):
        interval = binomtest(count // 2, count).proportion_ci(method="wilson")
        found = long_interval(count)
        assert (found is not None) == (interval.high - interval.low > 0.2)
        assert found is None or found == pytest.approx((interval.low, interval.high), abs=1e-4)
    assert long_interval(1) is not None
