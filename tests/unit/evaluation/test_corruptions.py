import colorsys

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn
from torchvision.transforms.v2 import functional as F

from ssl_pkg.data.images import Split
from ssl_pkg.evaluation.corruptions import (
    CLEAN,
    PUBLISHED,
    Condition,
    conditions,
    corrupt,
    corruption_rows,
    hits_under,
    mean_of_shares,
    relative_to_clean,
)
from ssl_pkg.intervals import wilson

SIDE = 40  # one that no factor of `pixelate` divides evenly in all cases


def pictures(count: int, side: int = SIDE) -> torch.Tensor:
    """Smooth coloured images with black and white parts, (count, 3, side, side) uint8."""
    noise = np.random.default_rng(0).normal(size=(count, 3, side, side))
    smooth = gaussian_filter(noise, (0, 0, 2, 2))
    images = np.clip(128 + 700 * smooth, 0, 255).astype(np.uint8)
    images[:, :, :4, :4], images[:, :, -4:, -4:] = 0, 255
    return torch.from_numpy(images)


def corrupted(images: torch.Tensor, corruption: str, severity: int, first: int = 0) -> np.ndarray:
    """The corrupted images in rows, columns and channels, as integers that don't wrap."""
    numbers = np.arange(first, first + len(images))
    changed = corrupt(images, Condition(corruption, severity), numbers)
    assert changed.dtype == torch.uint8
    assert changed.shape == images.shape
    return changed.permute(0, 2, 3, 1).numpy().astype(int)


def in_rows(images: torch.Tensor) -> np.ndarray:
    return images.permute(0, 2, 3, 1).numpy()


def test_the_parameters_are_those_of_tiny_imagenet_c() -> None:
    """As in create_c/make_tinyimagenet_c.py of github.com/hendrycks/robustness."""
    assert PUBLISHED == {
        "gaussian_noise": (0.04, 0.08, 0.12, 0.15, 0.18),
        "gaussian_blur": (0.5, 0.75, 1, 1.25, 1.5),
        "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),
        "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),
        "pixelate": (0.9, 0.8, 0.7, 0.6, 0.5),
        "jpeg": (65, 58, 50, 40, 25),
    }


SEVERITIES = pytest.mark.parametrize("severity", [1, 2, 3, 4, 5])


@SEVERITIES
def test_blur_is_scipys(severity: int) -> None:
    images, sigma = pictures(3), PUBLISHED["gaussian_blur"][severity - 1]
    expected = gaussian_filter(in_rows(images).astype(float), (0, sigma, sigma, 0), mode="mirror", truncate=4)
    assert np.abs(corrupted(images, "gaussian_blur", severity) - expected).max() < 0.51  # rounded


@SEVERITIES
def test_brightness_adds_to_the_value_of_hsv(severity: int) -> None:
    images = pictures(1, 16)
    changed, added = corrupted(images, "brightness", severity)[0], PUBLISHED["brightness"][severity - 1]
    for row, column in np.ndindex(16, 16):
        hue, saturation, value = colorsys.rgb_to_hsv(*(in_rows(images)[0, row, column] / 255))
        expected = 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, min(value + added, 1)))
        assert np.abs(changed[row, column] - expected).max() < 0.51


@SEVERITIES
def test_contrast_scales_the_difference_from_each_channels_mean(severity: int) -> None:
    images, factor = pictures(3), PUBLISHED["contrast"][severity - 1]
    x = in_rows(images).astype(float)
    mean = x.mean(axis=(1, 2), keepdims=True)
    assert np.abs(corrupted(images, "contrast", severity) - (mean + factor * (x - mean))).max() < 0.51


def boxes(x: np.ndarray, size: int) -> np.ndarray:
    """Resizes the first axis by averaging the pixels whose centre lies in a new pixel, or the one around its centre."""
    scale, found = len(x) / size, []
    centres = np.arange(len(x)) + 0.5
    for place in range(size):
        middle, half = (place + 0.5) * scale, 0.5 * max(scale, 1)
        inside = (centres > middle - half) & (centres <= middle + half)
        found.append(np.floor(x[inside].mean(axis=0) + 0.5))
    return np.array(found)


@SEVERITIES
@pytest.mark.parametrize("side", [40, 96])
def test_pixelate_averages_boxes(severity: int, side: int) -> None:
    images, small = pictures(1, side), int(side * PUBLISHED["pixelate"][severity - 1])
    x = in_rows(images)[0].astype(float)
    for size in (small, side):
        x = boxes(boxes(x.swapaxes(0, 1), size).swapaxes(0, 1), size)  # Pillow resizes along the columns first
    assert np.abs(corrupted(images, "pixelate", severity)[0] - x).max() <= 1
    if severity == 5:
        blocks = in_rows(images)[0].reshape(side // 2, 2, side // 2, 2, 3).mean(axis=(1, 3))
        expected = blocks.repeat(2, axis=0).repeat(2, axis=1)
        assert np.abs(corrupted(images, "pixelate", severity)[0] - expected).max() <= 1


@SEVERITIES
def test_jpeg_is_torchvisions(severity: int) -> None:
    images = pictures(2)
    with pytest.warns(DeprecationWarning, match="TorchCodec"):
        expected = F.jpeg(images, int(PUBLISHED["jpeg"][severity - 1]))
    assert np.abs(corrupted(images, "jpeg", severity) - in_rows(expected)).max() <= 2  # Pillow has a libjpeg of its own


@SEVERITIES
def test_noise_is_normal_with_the_published_deviation(severity: int) -> None:
    images, sigma = torch.full((40, 3, SIDE, SIDE), 128, dtype=torch.uint8), PUBLISHED["gaussian_noise"][severity - 1]
    noise = (corrupted(images, "gaussian_noise", severity) - 128) / 255
    assert np.abs(noise.mean()) < 4 * sigma / noise.size**0.5
    inside = np.abs(noise) < 0.49  # values outside [0, 1] are clipped
    assert inside.mean() > 0.99
    for quantile, expected in ((0.0228, -2), (0.1587, -1), (0.8413, 1), (0.9772, 2)):
        assert np.quantile(noise, quantile) == pytest.approx(expected * sigma, abs=0.004)


def test_noise_depends_on_the_image_and_the_severity_and_on_nothing_else() -> None:
    images = torch.full((3, 3, SIDE, SIDE), 128, dtype=torch.uint8)
    torch.manual_seed(0)
    noise = corrupted(images, "gaussian_noise", 3)
    torch.manual_seed(1)
    assert np.array_equal(corrupted(images[1:], "gaussian_noise", 3, first=1), noise[1:])
    assert np.array_equal(corrupted(images, "gaussian_noise", 3), noise)
    for other in (noise[[1, 2, 0]], corrupted(images, "gaussian_noise", 2)):
        correlation = np.corrcoef(noise.ravel(), other.ravel())[0, 1]
        assert abs(correlation) < 4 / noise.size**0.5


@pytest.mark.parametrize("corruption", PUBLISHED)
def test_each_corruption_changes_an_image_more_at_a_higher_severity(corruption: str) -> None:
    images = pictures(4)
    changes = [
        float(((corrupted(images, corruption, severity) - in_rows(images)) ** 2).mean()) for severity in range(1, 6)
    ]
    assert changes[0] > 0
    if corruption == "pixelate":  # whole blocks, which severity 5 has, change less than the uneven ones of severity 4
        changes = [changes[0], changes[-1]]
    assert changes == sorted(changes)


class Brightest(nn.Module):
    """Class 0 if the image's mean is above that of the data set, else class 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(dim=(1, 2, 3))
        return torch.stack([mean, -mean], dim=1)


def test_hits_are_those_of_the_corrupted_images() -> None:
    grey = torch.tensor([70, 100, 150, 200]).view(4, 1, 1, 1).expand(4, 3, 96, 96).to(torch.uint8)
    test = Split("test", grey.mT.contiguous().numpy(), np.array([1, 1, 0, 1]), columns_first=True)
    chosen = np.array([0, 1, 3])

    def hits(condition: Condition) -> list[int]:
        found = hits_under(Brightest(), test, chosen, condition, resolution=32, device=torch.device("cpu"))
        return list(map(int, found))

    assert hits(CLEAN) == [1, 1, 0]
    assert hits(Condition("brightness", 1)) == [1, 0, 0]  # 100 / 255 + .1 is above the mean of about .43
    assert hits(Condition("brightness", 5)) == [0, 0, 0]
    assert hits(Condition("contrast", 5)) == [1, 1, 0]


class Recording(nn.Module):
    """Keeps the images that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x)
        return torch.zeros(len(x), 2)


def test_the_noise_of_an_image_does_not_depend_on_which_others_are_chosen() -> None:
    test = Split("test", np.full((4, 3, 96, 96), 128, np.uint8), np.zeros(4, np.int64))
    recording = Recording()
    for chosen in ([0, 1, 2, 3], [3]):
        condition, numbers = Condition("gaussian_noise", 1), np.array(chosen)
        hits_under(recording, test, numbers, condition, resolution=96, device=torch.device("cpu"))
    every, last = recording.seen
    assert torch.equal(last[0], every[3])
    assert not torch.equal(every[0], every[3])


def test_rows_by_hand() -> None:
    kinds, severities = list(PUBLISHED), (2, 4)
    hits = {condition: np.array([1, 0, 1, 0], np.int8) for condition in conditions(severities)}
    hits[CLEAN] = np.array([1, 1, 1, 0], np.int8)
    hits[Condition(kinds[0], 4)] = np.array([1, 0, 0, 0], np.int8)
    rows = corruption_rows(hits)
    assert {row["evaluation"] for row in rows} == {"corruptions"}
    found = {(row["metric"], row.get("corruption"), row.get("severity")): row for row in rows}
    assert len(found) == len(rows) == 1 + 6 * 2 + 6 + 2
    assert found["clean_accuracy", None, None]["value"] == 0.75
    assert found["accuracy", kinds[0], 4]["value"] == 0.25
    assert found["accuracy", kinds[1], 2]["value"] == 0.5
    assert found["mean_accuracy", kinds[0], None]["value"] == pytest.approx(0.375)
    mean = (11 * 0.5 + 0.25) / 12
    assert found["mean_accuracy", None, None]["value"] == pytest.approx(mean)
    assert found["relative_accuracy", None, None]["value"] == pytest.approx(mean / 0.75)
    assert {row["n"] for row in rows} == {4}


def test_a_condition_without_finite_logits_leaves_the_others() -> None:
    class Broken(Brightest):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = super().forward(x)
            return torch.where(logits[:, :1] > 1.5, torch.nan, logits)

    grey = torch.tensor([70, 100]).view(2, 1, 1, 1).expand(2, 3, 96, 96).to(torch.uint8)
    test = Split("test", grey.numpy(), np.array([1, 1]))
    hits = {
        condition: hits_under(Broken(), test, np.arange(2), condition, resolution=96, device=torch.device("cpu"))
        for condition in conditions([5])
    }
    found = {(row["metric"], row.get("corruption")): row for row in corruption_rows(hits)}
    lost = {key for key, row in found.items() if row["value"] is None}
    assert lost == {
        ("accuracy", "brightness"),
        ("mean_accuracy", "brightness"),
        ("mean_accuracy", None),
        ("relative_accuracy", None),
    }
    assert {found[key]["reason"] for key in lost} == {"the logits of 1 of 2 images are not finite"}


def test_a_model_that_is_never_right_has_no_relative_accuracy() -> None:
    hits = {condition: np.zeros(5, np.int8) for condition in conditions([1])}
    (relative,) = (row for row in corruption_rows(hits) if row["metric"] == "relative_accuracy")
    assert (relative["value"], relative["reason"]) == (None, "no clean image is classified correctly")


def test_the_interval_of_a_mean_is_wilsons_if_the_conditions_are_one_and_the_same() -> None:
    hits = np.tile(np.array([1, 1, 0, 1, 0, 1, 1, 1], np.int8), (5, 1))
    row = mean_of_shares("corruptions", "mean_accuracy", hits)
    count = 8 * 7 / 8  # the variance is that of a sample, with n - 1
    assert (row["low"], row["high"]) == pytest.approx(wilson(0.75 * count, count))
    equal = mean_of_shares("corruptions", "mean_accuracy", np.ones((5, 8), np.int8))
    assert (equal["low"], equal["high"]) == pytest.approx(wilson(8, 8))


def test_equally_difficult_images_count_as_one_prediction_for_each_condition_and_no_more() -> None:
    """Each image is right under half of the conditions, so that the variance over images is 0."""
    hits = np.array([[1, 0, 1, 0, 1], [0, 1, 0, 1, 0]], np.int8)
    row = mean_of_shares("corruptions", "mean_accuracy", hits)
    assert (row["value"], row["n"]) == (0.5, 5)
    assert (row["low"], row["high"]) == pytest.approx(wilson(5, 10))


@pytest.mark.parametrize("count", [100, 800])
def test_intervals_contain_the_truth_in_95_of_100_samples(count: int) -> None:
    """Images differ in difficulty, so that the predictions on one image under 18 conditions depend on each other."""
    generator = np.random.default_rng(count)
    levels = np.linspace(-1, 1, 18)
    difficulties = generator.normal(size=200_000)
    truth = 1 / (1 + np.exp(2 * difficulties[:, None] + levels))
    base = 1 / (1 + np.exp(2 * difficulties - 2))
    wanted = {"mean_accuracy": truth.mean(), "relative_accuracy": truth.mean() / base.mean()}
    inside = []
    for _ in range(600):
        ease = generator.choice(len(truth), count)
        corrupted = (generator.random((count, 18)) < truth[ease]).T.astype(np.int8)
        clean = (generator.random(count) < base[ease]).astype(np.int8)
        mean = mean_of_shares("corruptions", "mean_accuracy", corrupted)
        relative = relative_to_clean(corrupted, clean)
        inside.append([row["low"] <= wanted[row["metric"]] <= row["high"] for row in (mean, relative)])
    found = np.array(inside).mean(axis=0)
    assert ((found > 0.93) & (found < 0.97)).all(), found
