"""Compares views and the resizing for evaluation with the same sequence of torchvision's operations."""

import dataclasses

import numpy as np
import pytest
import torch
from parameter_rows import subset
from torch import Tensor
from torchvision.transforms.v2 import functional as reference

from ssl_pkg.augment import operations, views
from ssl_pkg.augment.parameters import BRIGHTNESS, CONTRAST, HUE, SATURATION, Parameters, sample_parameters
from ssl_pkg.augment.views import make_view, resize
from ssl_pkg.config.fields import Jitter
from ssl_pkg.config.schema import View

# values agree to 1e-5 before normalisation, which divides by .26
TOLERANCE = 5e-5
BUSY = View(
    crop_area=(0.2, 1.0),
    flip=0.5,
    jitter=Jitter(probability=0.8, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1),
    grey=0.2,
    blur=0.5,
    solarize=0.2,
)
PLAIN = View(crop_area=(0.2, 1.0), flip=0.5)


def photographs(count: int, height: int = 96, width: int = 96) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    smooth = torch.rand(count, 3, 5, 5, generator=generator)
    x = torch.nn.functional.interpolate(smooth, (height, width), mode="bilinear")
    return (x + 0.1 * torch.randn(x.shape, generator=generator)).clamp_(0, 1).mul_(255).byte()


def columns_first(images: Tensor) -> Tensor:
    """The same images, stored columns first as in STL-10's files."""
    return images.mT.contiguous().mT


def torchvision_views(images: Tensor, p: Parameters, resolution: int) -> Tensor:
    """The views that torchvision's operations make with the same parameters."""
    size = [resolution, resolution]
    kernel = [operations.blur_kernel_size(resolution)] * 2
    made = []
    for i, image in enumerate(images):
        box = (int(p.top[i]), int(p.left[i]), int(p.height[i]), int(p.width[i]))
        x = reference.resized_crop(image, *box, size, antialias=True) / 255
        if p.flip[i]:
            x = reference.horizontal_flip(x)
        jitter = {
            BRIGHTNESS: lambda x, i=i: reference.adjust_brightness(x, p.brightness[i]),
            CONTRAST: lambda x, i=i: reference.adjust_contrast(x, p.contrast[i]),
            SATURATION: lambda x, i=i: reference.adjust_saturation(x, p.saturation[i]),
            HUE: lambda x, i=i: reference.adjust_hue(x, p.hue[i]),
        }
        for operation in p.order[i]:
            x = jitter[operation](x)
        if p.grey[i]:
            x = reference.rgb_to_grayscale(x, num_output_channels=3)
        if p.sigma[i] > 0:
            x = reference.gaussian_blur(x, kernel, [p.sigma[i]])
        if p.solarize[i]:
            x = reference.solarize(x, 0.5)
        made.append(reference.normalize(x, list(operations.MEAN), list(operations.STD)))
    return torch.stack(made)


class TestMakeView:
    @pytest.mark.slow
    @pytest.mark.parametrize("resolution", [96, 48, 33])
    @pytest.mark.parametrize("view", [BUSY, PLAIN], ids=["busy", "plain"])
    def test_equals_torchvision_with_the_same_parameters(self, resolution: int, view: View) -> None:
        images = photographs(64)
        parameters = sample_parameters(view, 0, 0, np.arange(64), 0, 96, 96)
        expected = torchvision_views(images, parameters, resolution)
        for stored in (images, columns_first(images)):
            ours = make_view(stored, parameters, resolution)
            assert ours.shape == (64, 3, resolution, resolution) and ours.dtype == torch.float32
            assert ours.is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(ours, expected, atol=TOLERANCE, rtol=0)

    def test_non_square_images(self) -> None:
        images = photographs(12, 50, 70)
        parameters = sample_parameters(BUSY, 0, 0, np.arange(12), 0, 50, 70)
        expected = torchvision_views(images, parameters, 32)
        for stored in (images, columns_first(images)):
            torch.testing.assert_close(make_view(stored, parameters, 32), expected, atol=TOLERANCE, rtol=0)

    def test_pure(self) -> None:
        images = photographs(40)
        parameters = sample_parameters(BUSY, 0, 0, np.arange(40), 0, 96, 96)
        before = images.clone()
        first, again = make_view(images, parameters, 48), make_view(images, parameters, 48)
        assert first.numpy().tobytes() == again.numpy().tobytes()
        assert torch.equal(images, before)

    @pytest.mark.parametrize("resolution", [96, 48])
    def test_does_not_depend_on_the_batch(self, resolution: int) -> None:
        images = columns_first(photographs(40))
        parameters = sample_parameters(BUSY, 0, 0, np.arange(40), 0, 96, 96)
        together = make_view(images, parameters, resolution)
        for rows in (np.array([7]), np.arange(39, -1, -1), np.array([5, 3, 5, 30, 11])):
            alone = make_view(images.mT[rows].mT, subset(parameters, rows), resolution)
            assert torch.equal(alone, together[rows])

    def test_does_not_depend_on_the_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        images = photographs(40)
        parameters = sample_parameters(BUSY, 0, 0, np.arange(40), 0, 96, 96)
        made = []
        for threads in (1, 2, 3):
            monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
            made.append(make_view(images, parameters, 96))
        assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])

    def test_does_not_depend_on_autocast(self) -> None:
        images = photographs(10)
        parameters = sample_parameters(BUSY, 0, 0, np.arange(10), 0, 96, 96)
        usual = make_view(images, parameters, 96)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = make_view(images, parameters, 96)
        assert torch.equal(inside, usual)

    def test_gradients_are_finite(self) -> None:
        views = make_view(photographs(4), sample_parameters(BUSY, 0, 0, np.arange(4), 0, 96, 96), 32)
        convolution = torch.nn.Conv2d(3, 4, 3)
        convolution(views).sum().backward()
        assert convolution.weight.grad is not None and convolution.weight.grad.isfinite().all()

    @pytest.mark.slow
    @pytest.mark.parametrize("resolution", [96, 48])
    def test_batched_views_equal_the_loops(self, resolution: int, monkeypatch: pytest.MonkeyPatch) -> None:
        def crops(images: Tensor, boxes: Tensor, resolution: int) -> Tensor:
            size, pairs = [resolution] * 2, zip(images, boxes.int().tolist(), strict=True)
            return torch.stack([reference.resized_crop(image, *box, size, antialias=True) for image, box in pairs])

        monkeypatch.setattr(operations, "resized_crops", crops)  # ours may differ by one byte and is tested separately
        images = columns_first(photographs(64))
        for seed in range(3):
            p = sample_parameters(BUSY, seed, 0, np.arange(64), 0, 96, 96)
            values = {name: torch.from_numpy(value).float() for name, value in vars(p).items() if name != "order"}
            values |= {f"order_{position}": torch.from_numpy(p.order[:, position]).float() for position in range(4)}
            ours = views.batched_views(images, values, resolution)
            assert ours.is_contiguous(memory_format=torch.channels_last)
            torch.testing.assert_close(ours, make_view(images, p, resolution), atol=1e-4, rtol=0)

    def test_parameters_for_other_images_are_refused(self) -> None:
        images = photographs(4, 60, 60)
        parameters = sample_parameters(BUSY, 0, 0, np.arange(4), 0, 60, 60)
        for wrong in (images[:3], images[:, :2], images[:, :, :40], images[:, :, :, :40]):
            with pytest.raises(ValueError, match=r"views|crop"):
                make_view(wrong, parameters, 32)
        with pytest.raises(ValueError, match="1 pixels"):
            make_view(images, parameters, 1)

    def test_fewer_images_than_threads(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
        images, parameters = photographs(1), sample_parameters(BUSY, 0, 0, np.arange(1), 0, 96, 96)
        torch.testing.assert_close(
            make_view(images, parameters, 33), torchvision_views(images, parameters, 33), atol=TOLERANCE, rtol=0
        )
        assert make_view(images[:0], subset(parameters, np.arange(0)), 33).shape == (0, 3, 33, 33)

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
    @pytest.mark.parametrize("compiled", [False, True])
    @pytest.mark.parametrize("resolution", [96, 48])
    def test_gpu_equals_cpu_and_does_not_synchronise(self, resolution: int, compiled: bool) -> None:
        images = columns_first(photographs(64))
        parameters = sample_parameters(BUSY, 0, 0, np.arange(64), 0, 96, 96)
        on_device = images.cuda()
        make_view(on_device, parameters, resolution, compiled=compiled)  # the first call may synchronise
        try:
            torch.cuda.set_sync_debug_mode("error")
            ours = make_view(on_device, parameters, resolution, compiled=compiled)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        difference = (ours.cpu() - make_view(images, parameters, resolution)).abs()
        assert difference.max() < 0.12 and difference.mean() < 0.005
        difference = (ours - make_view(on_device, parameters, resolution)).abs()
        assert difference.max() < 0.12 and difference.mean() < 0.0005


class TestResize:
    def test_images_of_the_right_size_are_not_resampled(self) -> None:
        images = photographs(3)
        expected = reference.normalize(images / 255, list(operations.MEAN), list(operations.STD))
        assert torch.equal(resize(images, 96), expected)
        assert torch.equal(resize(columns_first(images), 96), expected)

    @pytest.mark.parametrize(("side", "resolution"), [(96, 48), (96, 64), (32, 96), (32, 48), (32, 32)])
    def test_equals_torchvision(self, side: int, resolution: int) -> None:
        images = photographs(5, side, side)
        resized = reference.resize(images / 255, [resolution, resolution], antialias=True)
        expected = reference.normalize(resized, list(operations.MEAN), list(operations.STD))
        ours = resize(images, resolution)
        assert ours.is_contiguous(memory_format=torch.channels_last) and ours.dtype == torch.float32
        torch.testing.assert_close(ours, expected, atol=TOLERANCE, rtol=0)

    def test_equals_a_view_of_the_whole_image(self) -> None:
        images = photographs(5)
        sampled = sample_parameters(View(crop_area=(1.0, 1.0), flip=0.0), 0, 0, np.arange(5), 0, 96, 96)
        corner, side = np.zeros(5, dtype=np.int64), np.full(5, 96)
        whole = dataclasses.replace(sampled, top=corner, left=corner, height=side, width=side)
        for resolution, max_difference in ((96, 0), (48, 1)):  # a crop is rounded to bytes
            difference = (make_view(images, whole, resolution) - resize(images, resolution)).abs().max()
            assert difference * min(operations.STD) <= max_difference / 255 + 1e-5
