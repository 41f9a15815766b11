"""Accuracy on corrupted test images (Hendrycks and Dietterich 1903.12261, section 3).

Six of the paper's nineteen corruptions: one noise, one blur, brightness, contrast, pixelation and JPEG. The severities
are those of Tiny-ImageNet-C in the authors' code (create_c/make_tinyimagenet_c.py): of the published sets, its images
of 64 px are the nearest to STL-10's 96 px. The stored image is corrupted before it is resized, because a camera or a
file format corrupts an image and not a network's input, and because every model then sees the same images. A network
with a lower resolution therefore sees less noise and blur.
"""

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from ssl_pkg.catalogue import UNKNOWN
from ssl_pkg.data.images import Indices, Split
from ssl_pkg.evaluation.accuracy import Hits, hits_of, not_finite_sentence, proportion
from ssl_pkg.evaluation.forward import BATCH, outputs
from ssl_pkg.intervals import Z_95, wilson
from ssl_pkg.rows import Dimensions, Row, row, unmeasured

EVALUATION: Final = "corruptions"
PUBLISHED: Final[dict[str, tuple[float, ...]]] = {  # the parameter at severities 1 to 5
    "gaussian_noise": (0.04, 0.08, 0.12, 0.15, 0.18),  # standard deviation, for values in [0, 1]
    "gaussian_blur": (0.5, 0.75, 1.0, 1.25, 1.5),  # standard deviation in pixels
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),  # added to HSV's value
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),  # factor
    "pixelate": (0.9, 0.8, 0.7, 0.6, 0.5),  # factor of the side
    "jpeg": (65, 58, 50, 40, 25),  # quality
}
_NOISE: Final = 20190328  # the seed of the noise: the same for every model and every seed of a run


@dataclass(frozen=True)
class Condition:
    """A corruption at a severity; severity 0 stands for the clean images."""

    corruption: str
    severity: int

    def __str__(self) -> str:
        return f"{self.corruption} {self.severity}" if self.severity else self.corruption


CLEAN: Final = Condition("clean", 0)


def conditions(severities: Iterable[int]) -> list[Condition]:
    """The clean images, then every corruption at each of these severities."""
    return [CLEAN, *(Condition(corruption, severity) for corruption in PUBLISHED for severity in severities)]


def corrupt(images: Tensor, condition: Condition, numbers: Indices) -> Tensor:
    """Images (B, 3, H, W) uint8 on the CPU under a condition, in the same form.

    numbers: (B,), the images' indices in their split. Noise is a function of this index, the corruption and the
    severity, so that it is the same for every model and for every choice of images.
    """
    if condition == CLEAN:
        return images
    value = PUBLISHED[condition.corruption][condition.severity - 1]
    if condition.corruption == "gaussian_noise":
        return _stored(_unit(images) + value * _normal(numbers, condition.severity, images.shape[1:]))
    return _OPERATIONS[condition.corruption](images, value)


def _normal(numbers: Indices, severity: int, shape: Sequence[int]) -> Tensor:
    """Standard normal values (B, *shape). torchvision's gaussian_noise takes them from a global generator."""
    generators = (np.random.default_rng([_NOISE, severity, number]) for number in numbers.tolist())
    return torch.from_numpy(np.stack([generator.standard_normal(shape, np.float32) for generator in generators]))


def _blurred(images: Tensor, sigma: float) -> Tensor:
    """Truncated at four standard deviations, as in the authors' code; edges reflect, and there they are repeated."""
    side = 2 * int(4 * sigma + 0.5) + 1
    blurred: Tensor = F.gaussian_blur(images, [side, side], [sigma, sigma])
    return blurred


def _brightened(images: Tensor, added: float) -> Tensor:
    """Adds to the value of HSV and keeps hue and saturation, whereas torchvision's brightness multiplies the value.

    With V the largest of a pixel's channels and V' = min(V + added, 1), each channel is scaled by V' / V; a black pixel
    becomes grey.
    """
    x = _unit(images)
    value = x.amax(dim=1, keepdim=True)
    brighter = (value + added).clamp(max=1)
    return _stored(torch.where(value > 0, x * (brighter / value.clamp(min=1 / 255)), brighter))


def _with_contrast(images: Tensor, factor: float) -> Tensor:
    """Scales the difference of each channel from its own mean: torchvision's contrast, of each channel as an image."""
    x = _unit(images).flatten(0, 1).unsqueeze(1)
    return _stored(F.adjust_contrast(x, factor)).view(images.shape)


def _pixelated(images: Tensor, factor: float) -> Tensor:
    """Pillow's box filter, to a smaller image and back. torchvision has this filter for Pillow's images only."""
    height, width = images.shape[2:]
    smaller = [int(height * factor), int(width * factor)]
    box = InterpolationMode.BOX
    pictures = [F.resize(F.to_pil_image(image), smaller, box) for image in images]
    return torch.stack([F.pil_to_tensor(F.resize(picture, [height, width], box)) for picture in pictures])


def _compressed(images: Tensor, quality: float) -> Tensor:
    """JPEG by Pillow, as in the authors' code, because torchvision's is deprecated since 0.29."""
    found = []
    for image in images:
        file = io.BytesIO()
        F.to_pil_image(image).save(file, "JPEG", quality=int(quality))
        found.append(F.pil_to_tensor(Image.open(file)))
    return torch.stack(found)


def _unit(images: Tensor) -> Tensor:
    return images.to(torch.float32) / 255


def _stored(x: Tensor) -> Tensor:
    """Values in [0, 1] as uint8. The published images are rounded down instead, because they were cast."""
    return (x * 255).round_().clamp_(0, 255).to(torch.uint8)


_OPERATIONS: Final[dict[str, Callable[[Tensor, float], Tensor]]] = {
    "gaussian_blur": _blurred,
    "brightness": _brightened,
    "contrast": _with_contrast,
    "pixelate": _pixelated,
    "jpeg": _compressed,
}


def hits_under(
    classifier: nn.Module,
    test: Split,
    chosen: Indices,
    condition: Condition,
    *,
    resolution: int,
    device: torch.device,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
) -> Hits:
    """Whether the classifier is right on each of the images `chosen` (n,) of `test` under a condition: (n,)."""
    found = []
    for start in range(0, len(chosen), BATCH):
        on_batch(start, len(chosen))
        numbers = chosen[start : start + BATCH]
        images, labels = test.load(numbers, torch.device("cpu"))
        pixels = corrupt(images.contiguous(), condition, numbers).numpy()
        logits = outputs(classifier, Split("corrupted", pixels, labels.numpy()), resolution, device)
        found.append(hits_of(logits, labels.numpy()))
    return np.concatenate(found)


def corruption_rows(hits: Mapping[Condition, Hits]) -> list[Row]:
    """Accuracy under each condition; its mean over severities, and over everything; the latter relative to clean.

    hits: of the same n images under CLEAN and under every corruption at the same severities. An interval of a mean
    is one over images, because the conditions share their images.
    """
    clean = hits[CLEAN]
    entries = [_measured("clean_accuracy", clean[None])]
    for condition, own in hits.items():
        if condition != CLEAN:
            entries.append(_measured("accuracy", own[None], vars(condition)))
    for corruption in dict.fromkeys(condition.corruption for condition in hits if condition != CLEAN):
        own = np.stack([entry for condition, entry in hits.items() if condition.corruption == corruption])
        entries.append(_measured("mean_accuracy", own, {"corruption": corruption}))
    corrupted = np.stack([entry for condition, entry in hits.items() if condition != CLEAN])
    return [*entries, _measured("mean_accuracy", corrupted), relative_to_clean(corrupted, clean)]


def _measured(metric: str, hits: Hits, dimensions: Any = None) -> Row:
    """The mean of hits (K, n) of n images under K conditions."""
    if reason := _reason(hits):
        return unmeasured(EVALUATION, metric, hits.shape[1], reason, dimensions)
    if len(hits) == 1:
        return proportion(EVALUATION, metric, hits[0] == 1, dimensions=dimensions)
    return mean_of_shares(EVALUATION, metric, hits, dimensions)


def mean_of_shares(evaluation: str, metric: str, hits: Hits, dimensions: Dimensions | None = None) -> Row:
    """The mean of hits (K, n), 0 or 1, with a 95 % interval over the n images, each with K dependent predictions.

    Wilson's interval with an effective number of predictions (Korn and Graubard, Survey Methodology 24, 1998, for
    proportions of clusters): the number of independent predictions whose mean would have the observed variance. It is
    at most K n, the number of predictions. It is n - 1 if the K predictions of each image are equal, because the
    variance is that of a sample, and n if all K n predictions are equal.
    """
    conditions_, images = hits.shape
    shares = hits.mean(axis=0)
    mean, variance = float(shares.mean()), float(shares.var(ddof=1)) if images > 1 else 0.0
    spread = mean * (1 - mean)
    count = float(images) if spread == 0 else min(images * spread / max(variance, 1e-12), images * conditions_)
    return row(evaluation, metric, mean, images, wilson(mean * count, count), dimensions=dimensions)


def relative_to_clean(corrupted: Hits, clean: Hits) -> Row:
    """The mean accuracy under corruption (K, n) divided by the clean accuracy (n,) of the same images.

    The interval is normal, with the variance of a ratio of two means (Cochran, Sampling Techniques, 1977, eq. 2.46).
    """
    metric, count = "relative_accuracy", len(clean)
    if reason := _reason(corrupted) or _reason(clean[None]):
        return unmeasured(EVALUATION, metric, count, reason)
    if not clean.any():
        return unmeasured(EVALUATION, metric, count, "no clean image is classified correctly")
    shares, base = corrupted.mean(axis=0), float(clean.mean())
    ratio = float(shares.mean()) / base
    error = float(np.std(shares - ratio * clean, ddof=1)) / base / count**0.5 if count > 1 else float("nan")
    return row(EVALUATION, metric, ratio, count, (max(0.0, ratio - Z_95 * error), ratio + Z_95 * error))


def _reason(hits: Hits) -> str | None:
    return not_finite_sentence("logits", (hits == UNKNOWN).any(axis=0))
