"""Compares each operation, batched and in loops, with torchvision's for the same parameters, sample by sample.

Float32 results agree to about 1e-5 (TIGHT), which is 1/400 of a step of 8-bit colour.
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

from ssl_pkg.augment import cpu, loops, operations

Operation = Callable[[Tensor, Tensor], None]

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


def as_bytes(x: Tensor) -> Tensor:
    return x.mul(255).round().to(torch.uint8)


def looped(function: Callable[..., None]) -> Operation:
    """Makes an operation on a batch of a loop over one image's planes."""

    def operation(x: Tensor, values: Tensor) -> None:
        for planes, value in zip(x.flatten(2).numpy(), values.numpy(), strict=True):
            function(planes, value)

    return operation


def without_value(function: Callable[[np.ndarray], None]) -> Operation:
    return looped(lambda planes, _: function(planes))


BRIGHTNESS = [operations.adjust_brightness_, looped(loops.brightness)]
CONTRAST = [operations.adjust_contrast_, looped(loops.contrast)]
SATURATION = [operations.adjust_saturation_, looped(loops.saturation)]
HUE = [operations.adjust_hue_, looped(loops.hue)]
GREY = [lambda x, _: operations.grey_(x), without_value(loops.grey)]
SOLARIZE = [lambda x, _: operations.solarize_(x), without_value(loops.solarize)]


def crops(images: Tensor, boxes: list[list[int]], resolution: int, flip: bool = False) -> Tensor:
    """Crops each image with the loops; returns bytes."""
    tables = cpu.resampling_tables(max(images.shape[2:]), resolution)
    x = np.empty((len(images), 3, resolution**2), np.float32)
    for image, (top, left, height, width), planes in zip(images.mT.contiguous().numpy(), boxes, x, strict=True):
        loops.crop(image, top, left, height, width, flip, *tables, planes)
    whole = torch.from_numpy(x).view(-1, 3, resolution, resolution) * 255
    torch.testing.assert_close(whole, whole.round(), atol=TIGHT * 255, rtol=0)
    return whole.round().to(torch.uint8)


class TestCrop:
    BOXES = ([0, 0, 96, 96], [10, 20, 50, 61], [95, 95, 1, 1], [3, 0, 40, 90], [0, 60, 96, 7], [31, 7, 33, 48])

    @pytest.mark.slow
    @pytest.mark.parametrize("resolution", [96, 64, 48, 33, 32])
    def test_equals_torchvision_on_bytes(self, resolution: int) -> None:
        x = as_bytes(photographs(6))
        ours, mirrored = crops(x, list(self.BOXES), resolution), crops(x, list(self.BOXES), resolution, flip=True)
        for made, flipped, image, box in zip(ours, mirrored, x, self.BOXES, strict=True):
            expected = reference.resized_crop(image, *box, [resolution, resolution], antialias=True)
            assert torch.equal(made, expected)
            assert torch.equal(flipped, reference.horizontal_flip(expected))

    @pytest.mark.slow
    @settings(derandomize=True, deadline=None, max_examples=80)
    @given(data=st.data(), height=st.integers(1, 100), width=st.integers(1, 100), resolution=st.integers(1, 100))
    def test_any_box_of_any_image(self, data: st.DataObject, height: int, width: int, resolution: int) -> None:
        top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        box = [top, left, data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))]
        x = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0)) * 255
        x = x.round().to(torch.uint8)
        exact = reference.resized_crop(x[0].double(), *box, [resolution, resolution], antialias=True)
        in_a_loop = crops(x, [box], resolution)[0]
        by_products = operations.resized_crops(x, torch.tensor([box]).float(), resolution)[0]
        # the loop rounds after each axis and has weights of 15 bits; the matrix products round once
        torch.testing.assert_close(in_a_loop.double(), exact, atol=1.6, rtol=0)
        torch.testing.assert_close(by_products.double(), exact, atol=0.501, rtol=0)
        if min(height, width, resolution) > 1:  # torch's kernel for uint8 misreads the layout of sides of 1 pixel
            by_bytes = reference.resized_crop(x[0], *box, [resolution, resolution], antialias=True)
            # float32 holds the sums exactly for reductions by a factor of up to 3
            assert (in_a_loop.int() - by_bytes.int()).abs().max() <= (0 if max(box[2:]) <= 3 * resolution else 1)

    def test_the_whole_image_at_its_own_size_is_exact(self) -> None:
        x = as_bytes(photographs(3))
        assert torch.equal(crops(x, [[0, 0, 96, 96]] * 3, 96), x)

    @pytest.mark.parametrize("resolution", [96, 48])
    def test_differs_from_pillow_by_at_most_one(self, resolution: int) -> None:
        x, boxes = as_bytes(photographs(3)), [[0, 0, 96, 96], [10, 20, 50, 61], [31, 7, 33, 48]]
        ours = crops(x, boxes, resolution)
        for image, (top, left, height, width), made in zip(x, boxes, ours, strict=True):
            pillow = Image.fromarray(image.permute(1, 2, 0).numpy()).crop((left, top, left + width, top + height))
            resized = np.array(pillow.resize((resolution, resolution), Image.Resampling.BILINEAR))
            difference = (made.permute(1, 2, 0).int() - torch.from_numpy(resized).int()).abs()
            assert difference.max() <= 1


class TestColour:
    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("ours", "theirs", "strengths"),
        [
            *((ours, reference.adjust_brightness, (0.0, 2.0)) for ours in BRIGHTNESS),
            *((ours, reference.adjust_contrast, (0.0, 2.0)) for ours in CONTRAST),
            *((ours, reference.adjust_saturation, (0.0, 2.0)) for ours in SATURATION),
            *((ours, reference.adjust_hue, (-0.5, 0.5)) for ours in HUE),
        ],
    )
    @pytest.mark.parametrize("size", SIZES)
    def test_each_sample_with_its_own_factor(
        self,
        ours: Operation,
        theirs: Callable[[Tensor, float], Tensor],
        strengths: tuple[float, float],
        size: tuple[int, int],
    ) -> None:
        x = photographs(9, *size)
        factors = torch.linspace(*strengths, 9)
        expected = [theirs(image, float(factor)) for image, factor in zip(x, factors, strict=True)]
        ours(x, factors)
        assert_as_reference(x, expected)

    @pytest.mark.parametrize("operation", HUE)
    @settings(derandomize=True, deadline=None, max_examples=60)
    @given(
        levels=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=4),
        turns=st.floats(-0.5, 0.5, width=32),
    )
    def test_hue_of_any_colour(self, operation: Operation, levels: list[float], turns: float) -> None:
        # all triples of a few levels: every sextant, with every tie between channels
        grid = torch.tensor(levels)
        x = torch.cartesian_prod(grid, grid, grid).view(-1, 3).T.reshape(1, 3, 1, -1).contiguous()
        expected = reference.adjust_hue(x[0], turns)
        operation(x, torch.tensor([turns]))
        assert_as_reference(x, [expected])

    @pytest.mark.slow
    @settings(derandomize=True, deadline=None, max_examples=60)
    @given(factor=st.floats(0, 3), turns=st.floats(-0.5, 0.5), seed=st.integers(0, 99))
    def test_values_stay_between_0_and_1(self, factor: float, turns: float, seed: int) -> None:
        x = photographs(1, 24, 24, seed)
        for operation in [*BRIGHTNESS, *CONTRAST, *SATURATION, *HUE, *GREY, *SOLARIZE, *blurs(24, 5)]:
            value = turns if operation in HUE else factor + 0.1
            operation(x, torch.tensor([value]))
            assert x.min() >= -1e-6 and x.max() <= 1 + 1e-6

    @pytest.mark.parametrize("operation", [*BRIGHTNESS, *CONTRAST, *SATURATION])
    def test_factor_1_changes_nothing(self, operation: Operation) -> None:
        x = photographs(2)
        before = x.clone()
        operation(x, torch.ones(2))
        assert torch.equal(x, before)

    @pytest.mark.parametrize("operation", GREY)
    def test_grey(self, operation: Operation) -> None:
        x = photographs(3)
        expected = [reference.rgb_to_grayscale(image, num_output_channels=3) for image in x]
        operation(x, torch.ones(3))
        assert_as_reference(x, expected)

    @pytest.mark.parametrize("operation", SOLARIZE)
    def test_solarize_is_exact(self, operation: Operation) -> None:
        x = photographs(3)
        expected = reference.solarize(x, 0.5)
        operation(x, torch.ones(3))
        assert torch.equal(x, expected)

    def test_normalize(self) -> None:
        x = photographs(3)
        # the statistics of STL-10; models that were trained with them need them
        expected = reference.normalize(x, [0.4467, 0.4398, 0.4066], [0.2603, 0.2566, 0.2713])
        operations.normalize_(x)
        assert_as_reference(x, list(expected))


def blurs(side: int, kernel_size: int) -> list[Operation]:
    """Both implementations, for images of width `side`; the loop accepts only square images."""
    return [
        lambda x, sigma: operations.gaussian_blur_(x, sigma, kernel_size),
        looped(lambda planes, sigma: loops.blur(planes, side, float(sigma), kernel_size // 2)),
    ]


class TestBlur:
    @pytest.mark.parametrize(("height", "width"), SIZES)
    @pytest.mark.parametrize("kernel_size", [3, 5, 9, 11])
    def test_each_sample_with_its_own_sigma(self, height: int, width: int, kernel_size: int) -> None:
        sigma = torch.tensor([0.1, 0.3, 1.0, 2.0, 5.0])
        expected = [
            reference.gaussian_blur(image, [kernel_size, kernel_size], [float(s)])
            for image, s in zip(photographs(5, height, width), sigma, strict=True)
        ]
        for blur in blurs(width, kernel_size)[: 2 if height == width else 1]:
            x = photographs(5, height, width)
            blur(x, sigma)
            assert_as_reference(x, expected)

    @settings(derandomize=True, deadline=None, max_examples=40)
    @given(side=st.integers(6, 100), kernel_size=st.sampled_from([3, 5, 7, 9]), sigma=st.floats(0.1, 3.0))
    def test_any_size(self, side: int, kernel_size: int, sigma: float) -> None:
        expected = reference.gaussian_blur(photographs(1, side, side), [kernel_size, kernel_size], [sigma])
        for blur in blurs(side, kernel_size):
            x = photographs(1, side, side)
            blur(x, torch.tensor([sigma]))
            torch.testing.assert_close(x, expected, atol=TIGHT, rtol=0)

    def test_kernel_is_a_tenth_of_the_side(self) -> None:
        assert [operations.blur_kernel_size(side) for side in (96, 64, 48, 32, 20, 224)] == [9, 7, 5, 3, 3, 23]
