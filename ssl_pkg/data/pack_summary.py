"""What `pack` prints at its end: what was packed and what was not, and how long the studies would train on it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ssl_pkg.config.training_length import study_length
from ssl_pkg.data.photographs import OOD, TEST, TRAIN, UNLABELED, Photograph
from ssl_pkg.errors import shortened
from ssl_pkg.intervals import long_interval
from ssl_pkg.layout import SIDE
from ssl_pkg.messages.counted import counted

FILES: Final = "files.csv"
SHOWN: Final = 10  # reasons why files are not packed, in the terminal
STUDIES: Final = ("photos-quick", "photos-cpu", "photos")  # the presets for own images, in ssl_pkg/conf/study
LARGE_CROP: Final = 0.35  # of an image's area; a photograph of a camera (3:2) loses .33 by the crop, one of 16:9 .44


@dataclass(frozen=True)
class Packed:
    """What `pack` has written.

    unlabeled_is_train: whether the unlabeled images are those of train, for lack of others.
    cropped: the share of its area that the median photograph lost by the crop to its centre.
    """

    classes: tuple[str, ...]
    photographs: list[Photograph]
    unlabeled_is_train: bool
    cropped: float


def packed_in(photographs: Sequence[Photograph], split: str) -> list[Photograph]:
    """The packed photographs of a split."""
    return [entry for entry in photographs if entry.split == split and not entry.reason]


def report(packed: Packed, source: Path, target: Path) -> str:
    """What was packed and what was not, in some lines for people."""
    lines = [f"{target} has images of {len(packed.classes)} classes, {SIDE} x {SIDE} pixels:"]
    for split in (TRAIN, TEST, UNLABELED, OOD):
        counts = Counter(entry.label for entry in packed_in(packed.photographs, split))
        if split == UNLABELED and packed.unlabeled_is_train:
            lines.append(f"  {split:<10} those of train, without labels, because {source} has no {UNLABELED}/")
        elif counts:
            text = f"  {split:<10} {counted(counts.total(), 'image')}"
            lines.append(text if split == UNLABELED else f"{text}, {_per_class(counts)}")
        few = long_interval(counts.total()) if split in (TEST, OOD) and counts else None
        if few:
            lines.append(f"  {'':<10} few: an accuracy of 50 % would have a 95 % interval of {_percent(few)}")
    if packed.cropped > LARGE_CROP:
        lines.append(
            f"Half of the photographs lost {100 * packed.cropped:.0f} % of their area or more by the crop to their "
            "centres: pack with --pad to keep whole images."
        )
    left = [entry for entry in packed.photographs if entry.reason]
    if left:
        are = "is" if len(left) == 1 else "are"
        lines.append(f"{len(left):,} of {counted(len(packed.photographs), 'file')} {are} not packed:")
        lines += _reasons(left)
    counts = Counter(entry.split for entry in packed.photographs if not entry.reason)
    images = {TRAIN: counts[TRAIN], UNLABELED: counts[TRAIN if packed.unlabeled_is_train else UNLABELED]}
    lines += [f"The study {study_length(study, images)}." for study in STUDIES]
    lines.append(f"{target / FILES} lists all files. Look at the pictures {target}/contact_sheet_*.png first.")
    return "\n".join(lines)


def _reasons(left: Sequence[Photograph]) -> list[str]:
    """A line for each of the most frequent reasons, with one file as an example."""
    counts = Counter(entry.reason for entry in left)
    examples = {entry.reason: shortened(entry.name) for entry in reversed(left)}
    lines = [
        f"  {examples[reason]} {reason}" if count == 1 else f"  {count:,} files, such as {examples[reason]}: {reason}"
        for reason, count in counts.most_common(SHOWN)
    ]
    rest = len(left) - sum(count for _, count in counts.most_common(SHOWN))
    return [*lines, f"  and {rest:,} more"] if rest else lines


def _percent(interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * low:.0f} to {100 * high:.0f} %"


def _per_class(counts: Counter[str]) -> str:
    (most_label, most), (least_label, least) = counts.most_common()[0], counts.most_common()[-1]
    if most == least:
        return f"{most} of each class"
    return f"from {least} ({least_label}) to {most} ({most_label}) of a class"
