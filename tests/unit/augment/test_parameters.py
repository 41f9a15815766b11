"""Parameters are pure functions of (seed, epoch, index, view) and have torchvision's distributions."""

import dataclasses
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from parameter_rows import subset
from scipy import stats
from torchvision.transforms import v2

from ssl_pkg.augment import parameters
from ssl_pkg.augment.parameters import Parameters, permutation, sample_parameters, uniform
from ssl_pkg.config.fields import Jitter
from ssl_pkg.config.schema import View

JITTER = Jitter(probability=0.8, brightness=0.4, contrast=1.5, saturation=0.2, hue=0.1)
VIEW = View(crop_area=(0.2, 1.0), flip=0.5, jitter=JITTER, grey=0.2, blur=0.7, solarize=0.1)
MANY = np.arange(20_000)
# smallest p-value accepted in the few dozen tests of this file, which are deterministic
UNLIKELY = 1e-3


def same(a: Parameters, b: Parameters) -> bool:
    return all(
        getattr(a, field.name).tobytes() == getattr(b, field.name).tobytes() for field in dataclasses.fields(Parameters)
    )


@pytest.fixture(scope="module")
def sampled() -> Parameters:
    return sample_parameters(VIEW, 3, 1, MANY, 0, 96, 96)


class TestUniform:
    def test_the_generator_is_splitmix64(self) -> None:
        states = np.uint64(1234567) + parameters._GAMMA * np.arange(1, 4, dtype=np.uint64)
        # the first numbers of the authors' C code from this seed
        expected = [6457827717110365317, 3203168211198807973, 9817491932198370423]
        assert parameters._mix(states).tolist() == expected

    def test_uniform_over_samples_and_positions(self) -> None:
        u = uniform(0, 0, MANY, 0, 6)
        assert u.shape == (len(MANY), 6)
        assert u.min() >= 0 and u.max() < 1
        for position in range(6):
            assert stats.kstest(u[:, position], "uniform").pvalue > UNLIKELY
        assert stats.kstest(uniform(0, 0, np.array([7]), 0, 20_000)[0], "uniform").pvalue > UNLIKELY

    def test_neighbouring_streams_are_independent(self) -> None:
        of_epochs = [
            uniform(seed, epoch, MANY, view, 2)[:, 0] for seed in (0, 1) for epoch in (0, 1) for view in (0, 1)
        ]
        within = uniform(0, 0, MANY, 0, 8).T
        for columns in (np.stack(of_epochs), within, np.stack([within[0, :-1], within[0, 1:]])):
            correlation = np.corrcoef(columns) - np.eye(len(columns))
            assert np.abs(correlation).max() < 4.5 / np.sqrt(len(MANY))

    @settings(derandomize=True, deadline=None, max_examples=60)
    @given(
        st.tuples(
            st.integers(0, 2**63 - 1),
            st.integers(0, 10_000),
            st.integers(0, 2**40),
            st.integers(0, 10),
            st.integers(1, 9),
        )
    )
    def test_pure_and_different_for_every_field(self, names: tuple[int, int, int, int, int]) -> None:
        seed, epoch, index, view, count = names
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            here = uniform(seed, epoch, np.array([index]), view, count)
        assert here.tobytes() == uniform(seed, epoch, np.array([5, index]), view, count)[1:].tobytes()
        assert np.array_equal(here, uniform(seed, epoch, np.array([index]), view, count + 3)[:, :count])
        for other in (
            uniform(seed + 1, epoch, np.array([index]), view, count),
            uniform(seed, epoch + 1, np.array([index]), view, count),
            uniform(seed, epoch, np.array([index + 1]), view, count),
            uniform(seed, epoch, np.array([index]), view + 1, count),
        ):
            assert not np.any(other == here)

    def test_swapped_fields_give_other_numbers(self) -> None:
        small = [uniform(s, e, np.arange(4), v, 1) for s in range(4) for e in range(4) for v in range(4)]
        assert len(np.unique(small)) == 4**4


class TestPermutation:
    def test_a_permutation_that_differs_by_epoch_and_seed(self) -> None:
        order = permutation(0, 0, 1000)
        assert order.dtype == np.int64
        assert np.array_equal(np.sort(order), np.arange(1000))
        assert np.array_equal(order, permutation(0, 0, 1000))
        for other in (permutation(0, 1, 1000), permutation(1, 0, 1000)):
            assert np.mean(order == other) < 0.01

    def test_all_orders_are_equally_likely(self) -> None:
        codes = [int("".join(map(str, permutation(0, epoch, 3)))) for epoch in range(3000)]
        assert stats.chisquare(np.unique(codes, return_counts=True)[1]).pvalue > UNLIKELY


class TestSampleParameters:
    def test_pure(self, sampled: Parameters) -> None:
        assert same(sampled, sample_parameters(VIEW, 3, 1, MANY, 0, 96, 96))
        rows = np.array([17, 3, 400])
        assert same(subset(sampled, rows), sample_parameters(VIEW, 3, 1, rows, 0, 96, 96))
        assert len(subset(sampled, rows)) == 3
        for other in (
            sample_parameters(VIEW, 4, 1, MANY, 0, 96, 96),
            sample_parameters(VIEW, 3, 2, MANY, 0, 96, 96),
            sample_parameters(VIEW, 3, 1, MANY, 1, 96, 96),
        ):
            for field in ("top", "flip", "brightness", "sigma"):
                assert not np.array_equal(getattr(sampled, field), getattr(other, field))

    def test_changing_one_operation_keeps_the_parameters_of_the_others(self, sampled: Parameters) -> None:
        plain = sample_parameters(View(crop_area=VIEW.crop_area, flip=VIEW.flip, grey=VIEW.grey), 3, 1, MANY, 0, 96, 96)
        for field in ("top", "left", "height", "width", "flip", "grey"):
            assert np.array_equal(getattr(plain, field), getattr(sampled, field))
        assert np.all(plain.brightness == 1) and np.all(plain.contrast == 1) and np.all(plain.saturation == 1)
        assert np.all(plain.hue == 0) and np.all(plain.sigma == 0) and not plain.solarize.any()

    def test_probabilities(self, sampled: Parameters) -> None:
        for what, probability in (
            (sampled.flip, 0.5),
            (sampled.brightness != 1, 0.8),
            (sampled.grey, 0.2),
            (sampled.sigma > 0, 0.7),
            (sampled.solarize, 0.1),
        ):
            assert stats.binomtest(int(what.sum()), len(what), probability).pvalue > UNLIKELY

    @pytest.mark.parametrize("certain", [0.0, 1.0])
    def test_probabilities_of_0_and_1(self, certain: float) -> None:
        jitter = Jitter(probability=certain, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
        view = View(crop_area=(0.2, 1.0), flip=certain, jitter=jitter, grey=certain, blur=certain, solarize=certain)
        p = sample_parameters(view, 0, 0, MANY, 0, 96, 96)
        for what in (p.flip, p.brightness != 1, p.hue != 0, p.grey, p.sigma > 0, p.solarize):
            assert np.all(what == bool(certain))

    def test_decisions_are_independent(self, sampled: Parameters) -> None:
        decisions = [sampled.flip, sampled.brightness != 1, sampled.grey, sampled.sigma > 0, sampled.solarize]
        sizes = [sampled.height * sampled.width, sampled.height / sampled.width]
        correlation = np.corrcoef(np.stack([*decisions, *sizes]).astype(float)) - np.eye(7)
        assert np.abs(correlation).max() < 4.5 / np.sqrt(len(MANY))

    def test_amounts_are_independent(self, sampled: Parameters) -> None:
        p = subset(sampled, np.flatnonzero((sampled.brightness != 1) & (sampled.sigma > 0)))
        places = (p.top + 0.5) / (97 - p.height), (p.left + 0.5) / (97 - p.width)
        order = p.order @ [1000, 100, 10, 1]
        amounts = np.stack([p.height * p.width, *places, p.brightness, p.contrast, p.saturation, p.hue, order, p.sigma])
        correlation = np.corrcoef(amounts) - np.eye(len(amounts))
        assert np.abs(correlation).max() < 4.5 / np.sqrt(len(p))


class TestCrop:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("area", "height", "width"),
        [((0.2, 1.0), 96, 96), ((0.08, 1.0), 96, 96), ((0.9, 1.0), 96, 96), ((0.3, 1.0), 96, 60), ((0.5, 1.0), 20, 96)],
    )
    def test_equals_torchvisions_distribution(self, area: tuple[float, float], height: int, width: int) -> None:
        torch.manual_seed(0)
        reference = v2.RandomResizedCrop(96, area)
        image = torch.empty(3, height, width)
        boxes = [reference.make_params([image]) for _ in range(4000)]
        expected = {name: np.array([box[name] for box in boxes]) for name in ("top", "left", "height", "width")}
        p = sample_parameters(View(crop_area=area, flip=0.0), 1, 0, MANY, 0, height, width)
        ours = {"top": p.top, "left": p.left, "height": p.height, "width": p.width}
        for quantity in (
            lambda box: box["height"],
            lambda box: box["width"],
            lambda box: box["top"],
            lambda box: box["left"],
            lambda box: box["height"] * box["width"],
            lambda box: box["width"] / box["height"],
            lambda box: box["top"] - (height - box["height"]) / 2,
        ):
            assert stats.ks_2samp(quantity(ours), quantity(expected)).pvalue > UNLIKELY

    @settings(derandomize=True, deadline=None, max_examples=60)
    @given(low=st.floats(0.01, 1.0), span=st.floats(0.0, 1.0), height=st.integers(1, 120), width=st.integers(1, 120))
    def test_lies_in_the_image(self, low: float, span: float, height: int, width: int) -> None:
        area = (low, low + span * (1 - low))
        p = sample_parameters(View(crop_area=area, flip=0.0), 0, 0, np.arange(50), 0, height, width)
        assert np.all(p.top >= 0) and np.all(p.left >= 0) and np.all(p.height > 0) and np.all(p.width > 0)
        assert np.all(p.top + p.height <= height) and np.all(p.left + p.width <= width)

    def test_falls_back_to_the_central_crop(self) -> None:
        wide = sample_parameters(View(crop_area=(1.0, 1.0), flip=0.0), 0, 0, MANY, 0, 10, 96)
        assert set(zip(wide.top, wide.left, wide.height, wide.width, strict=True)) == {(0, 41, 10, 13)}
        tall = sample_parameters(View(crop_area=(1.0, 1.0), flip=0.0), 0, 0, MANY, 0, 96, 10)
        assert set(zip(tall.top, tall.left, tall.height, tall.width, strict=True)) == {(41, 0, 13, 10)}


class TestJitter:
    def test_factors_have_torchvisions_distribution(self, sampled: Parameters) -> None:
        torch.manual_seed(0)
        reference = v2.ColorJitter(JITTER.brightness, JITTER.contrast, JITTER.saturation, JITTER.hue)
        expected = [reference.make_params([]) for _ in range(4000)]
        jittered = subset(sampled, np.flatnonzero(sampled.brightness != 1))
        for name, low, high in (
            ("brightness", 0.6, 1.4),
            ("contrast", 0.0, 2.5),
            ("saturation", 0.8, 1.2),
            ("hue", -0.1, 0.1),
        ):
            ours = getattr(jittered, name)
            assert stats.kstest(ours, stats.uniform(low, high - low).cdf).pvalue > UNLIKELY
            theirs = np.array([params[f"{name}_factor"] for params in expected])
            assert stats.ks_2samp(ours, theirs).pvalue > UNLIKELY

    def test_all_24_orders_are_equally_likely(self, sampled: Parameters) -> None:
        assert np.array_equal(np.sort(sampled.order, axis=1), np.tile(np.arange(4), (len(MANY), 1)))
        jittered = subset(sampled, np.flatnonzero(sampled.brightness != 1))
        counts = np.unique(jittered.order, axis=0, return_counts=True)[1]
        assert len(counts) == 24
        assert stats.chisquare(counts).pvalue > UNLIKELY

    def test_sigma(self, sampled: Parameters) -> None:
        sigma = sampled.sigma[sampled.sigma > 0]
        assert stats.kstest(sigma, stats.uniform(0.1, 1.9).cdf).pvalue > UNLIKELY
