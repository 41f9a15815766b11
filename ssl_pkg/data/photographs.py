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


def find_photographs(source: Path) -> list[Photograph]:
    """All files below the folder, which has train/, test/ and perhaps unlabeled/, or class folders and unlabeled/."""
    given = (source / TRAIN).is_dir() and (source / TEST).is_dir()
    if not given and ((source / TRAIN).is_dir() or (source / TEST).is_dir()):
        raise BadInput(f"{source} has only one of {TRAIN}/ and {TEST}/: add the other, or give the class folders alone")
    found = []
    for file, reason in files_below(source):
        first, *others = file.relative_to(source).parts or ("",)
        entry = Photograph(file, printable(str(file.relative_to(source))), reason=reason)
        if first == UNLABELED and others:
            entry.split = UNLABELED
        elif given and first in (TRAIN, TEST) and len(others) > 1:
            entry.split, entry.label = first, _label(others[0])
        elif not given and others:
            entry.split, entry.label = LABELLED, _label(first)
        else:
            entry.reason = reason or "is outside of the class folders"
        found.append(entry)
    return found


def find_ood(source: Path, classes: Sequence[str]) -> list[Photograph]:
    """All files below a folder of class folders with images of another kind. Other classes are not packed."""
    found = find_photographs(source)
    for entry in found:
        entry.name, entry.split = f"{OOD}: {entry.name}", OOD if entry.label else ""
        if not entry.reason and entry.label not in classes:
            entry.reason = f"has a class that the training images lack ({entry.label or 'none'})"
    return found


def _label(folder: str) -> str:
    return printable(folder).strip()


def class_names(source: Path) -> tuple[str, ...]:
    """The names of the class folders, sorted. Raises BadInput for too few, too many or equal names."""
    given = (source / TRAIN).is_dir()
    parents = [source / TRAIN, source / TEST] if given else [source]
    folders = {entry.name for parent in parents for entry in parent.iterdir() if entry.is_dir()}
    folders -= {UNLABELED} if not given else set()
    counts = Counter(map(_label, folders))
    if "" in counts or max(counts.values(), default=0) > 1:
        raise BadInput(f"two class folders in {source} have the same name, or one has none: rename them")
    if not 2 <= len(counts) <= MAX_CLASSES:
        names = f" ({', '.join(counts)})" if len(counts) == 1 else ""
        raise BadInput(
            f"{parents[0]} has {len(counts)} class folders{names}, but 2 to {MAX_CLASSES} are needed: "
            "give the folder that has a folder of images for each class"
        )
    return tuple(sorted(counts))


def divide(photographs: Sequence[Photograph], hashes: Hashes, test_fraction: float, seed: int) -> None:
    """Moves the labelled images to train and test, stratified by class; copies of an image are kept in one split."""
    for number, label in enumerate(sorted({entry.label for entry in photographs})):
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
    short = [
        f"{label} has {counts[split, label]} in {split}"
        for label in classes
        for split in (TRAIN, TEST)
        if counts[split, label] < FEWEST[split]
    ]
    if short:
        more = f" and {len(short) - 5} more" if len(short) > 5 else ""
        raise BadInput(
            f"a class needs at least {FEWEST[TRAIN]} images in train and {FEWEST[TEST]} in test that are no copies of "
            f"each other, but of the images in {source} {', '.join(short[:5])}{more}: add images, or remove the class"
        )
