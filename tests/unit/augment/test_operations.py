"""Each batched operation against torchvision's on the same parameters, sample by sample.

On float32 both agree to about 1e-5 (TIGHT), a four-hundredth of a step of 8-bit colour; no operation needs more.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from ssl_pkg.augment import operations

TIGHT = 1e-5
SIZES = [(96, 96), (48, 48), (33, 33), (40, 57)]


def photographs(count: int, height: int = 96, width: int = 96, seed: int = 0) -> Tensor:
    """Noise over smooth colours in [0, 1], with flat black, white and grey patches."""
    generator = torch.Generator().manual_seed(seed)
    smooth = torch.rand(count, 3, 5, 5, generator=generator)
    x = torch.nn.functional.interpolate(smooth, (height, width), mode="bilinear")
    x = (x + 0.2 * torch.randn(x.shape, generator=generator)).clamp_(0, 1)
    x[:, :, :8, :8], x[:, :, :8, 8:16], x[:, :, 8:16, :8] = 0, 1, 0.5
    return x


def assert_as_reference(ours: Tensor, expected: list[Tensor]) -> None:
    torch.testing.assert_close(ours, torch.stack(expected), atol=TIGHT, rtol=0)


def crop(x: Tensor, boxes: Tensor, resolution: int) -> Tensor:
    """The boxes (n, 4) of top, left, height and width, resized."""
    top, left, height, width = boxes.unbind(1)
    rows = operations.resampling_matrix(top, height, x.shape[2], resolution)
    columns = operations.resampling_matrix(left, width, x.shape[3], resolution)
    return operations.separable(x, rows, columns)


class TestCrop:
    @pytest.mark.parametrize("resolution", [96, 64, 48, 33, 32])
    @pytest.mark.parametrize("transposed", [False, True])
    def test_resized_crop_up_and_down(self, resolution: int, transposed: bool) -> None:
        x = photographs(6)
        boxes = torch.tensor(
            [[0, 0, 96, 96], [10, 20, 50, 61], [95, 95, 1, 1], [3, 0, 40, 90], [0, 60, 96, 7], [31, 7, 33, 48]]
        ).float()
        stored = x.mT.contiguous().mT if transposed else x
        ours = crop(stored, boxes, resolution)
        expected = [
            reference.resized_crop(image, *map(int, box), [resolution, resolution], antialias=True)
            for image, box in zip(x, boxes, strict=True)
        ]
        assert_as_reference(ours, expected)

    @settings(derandomize=True, deadline=None, max_examples=80)
    @given(data=st.data(), height=st.integers(1, 100), width=st.integers(1, 100), resolution=st.integers(1, 100))
    def test_any_box_of_any_image(self, data: st.DataObject, height: int, width: int, resolution: int) -> None:
        top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        box = [top, left, data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))]
        x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
        ours = crop(x, torch.tensor([box], dtype=torch.float32), resolution)
        expected = reference.resized_crop(x[0], *box, [resolution, resolution], antialias=True)
        assert_as_reference(ours, [expected])
        assert ours.min() >= 0 and ours.max() <= 1 + 1e-6

    @pytest.mark.parametrize("resolution", [96, 48])
    def test_flip(self, resolution: int) -> None:
        x = photographs(2)
        boxes = torch.tensor([[5.0, 12.0, 60.0, 70.0], [0.0, 40.0, 96.0, 31.0]])
        backwards = boxes @ torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, -1]])
        flipped, plain = crop(x, backwards, resolution), crop(x, boxes, resolution)
        torch.testing.assert_close(flipped, reference.horizontal_flip(plain), atol=TIGHT, rtol=0)

    def test_the_whole_image_at_its_own_size_is_exact(self) -> None:
        whole, zero = torch.tensor([96.0]), torch.tensor([0.0])
        identity = operations.resampling_matrix(zero, whole, 96, 96)
        assert torch.equal(identity, torch.eye(96).unsqueeze(0))
        assert torch.equal(operations.resampling_matrix(whole, -whole, 96, 96), identity.flip(1))

    @pytest.mark.parametrize("resolution", [96, 48])
    def test_within_a_rounding_of_pillow(self, resolution: int) -> None:
        x = photographs(3).mul(255).round().div(255)
        boxes = torch.tensor([[0, 0, 96, 96], [10, 20, 50, 61], [31, 7, 33, 48]])
        ours = crop(x, boxes.float(), resolution)
        for image, (top, left, height, width), made in zip(x, boxes.tolist(), ours, strict=True):
            pillow = Image.fromarray(image.mul(255).round().byte().permute(1, 2, 0).numpy())
            box = (left, top, left + width, top + height)
            resized = pillow.crop(box).resize((resolution, resolution), Image.Resampling.BILINEAR)
            expected = torch.from_numpy(np.array(resized)).permute(2, 0, 1) / 255
            # Pillow rounds to 8 bits after each axis
            torch.testing.assert_close(made, expected, atol=1.01 / 255, rtol=0)


class TestColour:
    @pytest.mark.parametrize(
        ("ours", "theirs", "strengths"),
        [
            (operations.adjust_brightness_, reference.adjust_brightness, (0.0, 2.0)),
            (operations.adjust_contrast_, reference.adjust_contrast, (0.0, 2.0)),
            (operations.adjust_saturation_, reference.adjust_saturation, (0.0, 2.0)),
            (operations.adjust_hue_, reference.adjust_hue, (-0.5, 0.5)),
        ],
    )
    @pytest.mark.parametrize("size", SIZES)
    def test_each_sample_with_its_own_factor(
        self,
        ours: Callable[[Tensor, Tensor], None],
        theirs: Callable[[Tensor, float], Tensor],
        strengths: tuple[float, float],
        size: tuple[int, int],
    ) -> None:
        x = photographs(9, *size)
        factors = torch.linspace(*strengths, 9)
        expected = [theirs(image, float(factor)) for image, factor in zip(x, factors, strict=True)]
        ours(x, factors)
        assert_as_reference(x, expected)

    @settings(derandomize=True, deadline=None, max_examples=60)
    @given(
        levels=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=4),
        turns=st.floats(-0.5, 0.5, width=32),
    )
    def test_hue_of_any_colour(self, levels: list[float], turns: float) -> None:
        # all triples of a few levels: every sextant, with every tie between channels
        grid = torch.tensor(levels)
        x = torch.cartesian_prod(grid, grid, grid).view(-1, 3).T.reshape(1, 3, 1, -1).contiguous()
        expected = reference.adjust_hue(x[0], turns)
        operations.adjust_hue_(x, torch.tensor([turns]))
        assert_as_reference(x, [expected])

    @settings(derandomize=True, deadline=None, max_examples=60)
    @given(factor=st.floats(0, 3), turns=st.floats(-0.5, 0.5), seed=st.integers(0, 99))
    def test_values_stay_between_0_and_1(self, factor: float, turns: float, seed: int) -> None:
        x = photographs(1, 24, 24, seed)
        strength = torch.tensor([factor])
        for operation in (
            operations.adjust_brightness_,
            operations.adjust_contrast_,
            operations.adjust_saturation_,
            lambda x, _: operations.adjust_hue_(x, torch.tensor([turns])),
            lambda x, _: operations.grey_(x),
            lambda x, _: operations.solarize_(x),
            lambda x, factor: operations.gaussian_blur_(x, factor + 0.1, 5),
        ):
            operation(x, strength)
            assert x.min() >= -1e-6 and x.max() <= 1 + 1e-6

    @pytest.mark.parametrize(
        "operation", [operations.adjust_brightness_, operations.adjust_contrast_, operations.adjust_saturation_]
    )
    def test_factor_1_changes_nothing(self, operation: Callable[[Tensor, Tensor], None]) -> None:
        x = photographs(2)
        before = x.clone()
        operation(x, torch.ones(2))
        assert torch.equal(x, before)

    def test_a_slice_of_a_batch_leaves_the_rest_alone(self) -> None:
        x = photographs(5)
        before = x.clone()
        for operation in (operations.adjust_hue_, operations.adjust_contrast_):
            operation(x[1:3], torch.tensor([0.3, 0.4]))
        operations.gaussian_blur_(x[2:3], torch.tensor([1.0]), 9)
        assert torch.equal(x[[0, 3, 4]], before[[0, 3, 4]])
        assert not torch.equal(x[1:3], before[1:3])

    def test_grey(self) -> None:
        x = photographs(3)
        expected = [reference.rgb_to_grayscale(image, num_output_channels=3) for image in x]
        operations.grey_(x)
        assert_as_reference(x, expected)

    def test_solarize_is_exact(self) -> None:
        x = photographs(3)
        expected = reference.solarize(x, 0.5)
        operations.solarize_(x)
        assert torch.equal(x, expected)

    def test_normalize(self) -> None:
        x = photographs(3)
        expected = reference.normalize(x, list(operations.MEAN), list(operations.STD))
        operations.normalize_(x)
        assert_as_reference(x, list(expected))


class TestBlur:
    @pytest.mark.parametrize(("height", "width"), SIZES)
    @pytest.mark.parametrize("kernel_size", [3, 5, 9, 11])
    def test_each_sample_with_its_own_sigma(self, height: int, width: int, kernel_size: int) -> None:
        x = photographs(5, height, width)
        sigma = torch.tensor([0.1, 0.3, 1.0, 2.0, 5.0])
        expected = [
            reference.gaussian_blur(image, [kernel_size, kernel_size], [float(s)])
            for image, s in zip(x, sigma, strict=True)
        ]
        operations.gaussian_blur_(x, sigma, kernel_size)
        assert_as_reference(x, expected)

    @settings(derandomize=True, deadline=None, max_examples=40)
    @given(side=st.integers(6, 100), kernel_size=st.sampled_from([3, 5, 7, 9]), sigma=st.floats(0.1, 3.0))
    def test_any_size(self, side: int, kernel_size: int, sigma: float) -> None:
        x = photographs(1, side, side + 1)
        expected = reference.gaussian_blur(x, [kernel_size, kernel_size], [sigma])
        operations.gaussian_blur_(x, torch.tensor([sigma]), kernel_size)
        torch.testing.assert_close(x, expected, atol=TIGHT, rtol=0)

    def test_kernel_is_a_tenth_of_the_side(self) -> None:
        assert [operations.blur_kernel_size(side) for side in (96, 64, 48, 32, 20, 224)] == [9, 7, 5, 3, 3, 23]
