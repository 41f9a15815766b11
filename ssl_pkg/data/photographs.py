"""A folder of photographs: which file belongs to which split and class, and which can't be packed for which reason."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ssl_pkg.data.duplicates import Hashes, first_near, groups_of_copies
from ssl_pkg.data.image_files import files_below, printable
from ssl_pkg.data.stl10 import MAX_CLASSES
from ssl_pkg.errors import BadInput
from ssl_pkg.nearest import hint

TRAIN, TEST, UNLABELED, OOD = "train", "test", "unlabeled", "ood"
LABELLED: Final = "labelled"  # not yet divided between train and test
# Of copies in two splits, the one in the earlier of these splits is kept.
PRECEDENCE: Final = (TEST, TRAIN, OOD, UNLABELED)
FEWEST: Final = {TRAIN: 2, TEST: 1}  # images of a class; one of train is held out to choose hyperparameters


@dataclass
class Photograph:
    """A file below the source folder.

    name: for people. split, label: empty for a file outside of every split, without a label. reason: why the file is
    not packed, empty if it is. position: of the image in the order of reading.
    """

    file: Path
    name: str
    split: str = ""
    label: str = ""
    reason: str = ""
    position: int = -1


def has_splits(source: Path) -> bool:
    """Whether the folder has train/ and test/. Raises BadInput if it has only one of them."""
    given = {(source / split).is_dir() for split in (TRAIN, TEST)}
    if len(given) > 1:
        raise BadInput(f"{source} has only one of {TRAIN}/ and {TEST}/: add the other, or give the class folders alone")
    return given == {True}


def find_photographs(source: Path) -> list[Photograph]:
    """All files below the folder, which has train/, test/ and perhaps unlabeled/, or class folders and unlabeled/."""
    given = has_splits(source)
    found = []
    for file, reason in files_below(source):
        first, *others = file.relative_to(source).parts or ("",)
        entry = Photograph(file, printable(str(file.relative_to(source))), reason=reason)
        if first == UNLABELED and others:
            entry.split = UNLABELED
        elif given and first in (TRAIN, TEST) and len(others) > 1:
            entry.split, entry.label = first, label_of(others[0])
        elif not given and others:
            entry.split, entry.label = LABELLED, label_of(first)
        else:
            entry.reason = reason or "is outside of the class folders"
        found.append(entry)
    return found


def find_ood(source: Path, classes: Sequence[str]) -> list[Photograph]:
    """All files below a folder of class folders with images of another kind. Other classes are not packed."""
    found = find_photographs(source)
    hints = {label: hint(label, classes) for label in {entry.label for entry in found}.difference(classes)}
    for entry in found:
        entry.name, entry.split = f"{OOD}: {entry.name}", OOD if entry.label else ""
        if not entry.reason and entry.label in hints:
            label = f"a class that the training images lack: {entry.label}{hints[entry.label]}"
            entry.reason = f"has {label if entry.label else 'no class'}"
    return found


def refuse_empty_ood(found: Sequence[Photograph], source: Path) -> None:
    """Raises BadInput if no file of the folder of out-of-distribution images can be packed."""
    if all(entry.reason for entry in found):
        raise BadInput(
            f"{source} has no out-of-distribution image that can be packed{_why(found)}: give class folders, with the "
            "names of the training images' classes"
        )


def label_of(folder: str) -> str:
    """The class of the images in a folder with this name."""
    return printable(folder).strip()


def class_names(source: Path) -> tuple[str, ...]:
    """The names of the class folders, sorted. Raises BadInput for too few, too many or equal names."""
    given = has_splits(source)
    parents = [source / TRAIN, source / TEST] if given else [source]
    folders = {entry.name for parent in parents for entry in parent.iterdir() if entry.is_dir()}
    folders -= {UNLABELED} if not given else set()
    counts = Counter(map(label_of, folders))
    if "" in counts or max(counts.values(), default=0) > 1:
        raise BadInput(f"two class folders in {source} have the same name, or one has none: rename them")
    if not 2 <= len(counts) <= MAX_CLASSES:
        names = f" ({', '.join(counts)})" if len(counts) == 1 else ""
        raise BadInput(
            f"{parents[0]} has {len(counts)} class folders{names}, but 2 to {MAX_CLASSES} are needed: "
            "give the folder that has a folder of images for each class"
        )
    return tuple(sorted(counts))


def divide(
    photographs: Sequence[Photograph], hashes: Hashes, classes: Sequence[str], test_fraction: float, seed: int
) -> None:
    """Moves the labelled images to train and test, stratified by class; copies of an image are kept in one split.

    The division of a class depends on its images, the seed and the class's number.
    """
    for number, label in enumerate(classes):
        members = [entry for entry in photographs if (entry.split, entry.label, entry.reason) == (LABELLED, label, "")]
        groups = groups_of_copies(hashes[[entry.position for entry in members]]) if members else np.empty(0, np.int64)
        sizes = np.bincount(groups)
        wanted, count = max(FEWEST[TEST], round(test_fraction * len(members))), 0
        chosen = set()
        for group in np.random.default_rng([seed, number]).permutation(len(sizes)).tolist():
            if count + sizes[group] <= wanted:
                chosen.add(group)
                count += int(sizes[group])
        if not chosen and len(sizes) > 1:  # the groups are larger than the wanted number
            chosen.add(int(sizes.argmin()))
        for entry, group in zip(members, groups.tolist(), strict=True):
            entry.split = TEST if group in chosen else TRAIN


def refuse_copies(photographs: Sequence[Photograph], hashes: Hashes, digests: Sequence[bytes]) -> None:
    """Gives a reason to each image that is a copy of an image in a split of higher PRECEDENCE."""
    kept: list[Photograph] = []
    for split in PRECEDENCE:
        own = [entry for entry in photographs if entry.split == split and not entry.reason]
        bank = hashes[[entry.position for entry in kept]]
        for entry, near in zip(own, first_near(hashes[[entry.position for entry in own]], bank).tolist(), strict=True):
            if near >= 0:
                other = kept[near]
                same = digests[entry.position] == digests[other.position]
                kind = "an exact copy" if same else "nearly a copy"
                entry.reason = f"is {kind} of {other.name}, which is in {other.split}"
        kept += [entry for entry in own if not entry.reason]


def refuse_small_classes(photographs: Sequence[Photograph], classes: Sequence[str], source: Path) -> None:
    """Raises BadInput if a class has too few images in train or test."""
    counts = Counter((entry.split, entry.label) for entry in photographs if not entry.reason)
    short = []
    for label in classes:
        few = [f"{counts[split, label]} in {split}" for split in FEWEST if counts[split, label] < FEWEST[split]]
        if few:
            own = [entry for entry in photographs if entry.label == label and entry.split != OOD]
            short.append(f"{label} has {' and '.join(few)}{_why(own)}")
    if short:
        more = f" and {len(short) - 5} more" if len(short) > 5 else ""
        raise BadInput(
            f"a class needs at least {FEWEST[TRAIN]} images in train and {FEWEST[TEST]} in test that are no copies of "
            f"each other, but of the images in {source} {', '.join(short[:5])}{more}: add images, or remove the class"
        )


def _why(own: Sequence[Photograph]) -> str:
    """How many of a class's files are not packed, and the most frequent reason, with an example; or nothing."""
    reasons = Counter(entry.reason for entry in own if entry.reason)
    if not reasons:
        return ""
    most = reasons.most_common(1)[0][0]
    example = next(entry.name for entry in own if entry.reason == most)
    return f" ({reasons.total():,} of its {len(own):,} files are not packed; {example} {most})"
