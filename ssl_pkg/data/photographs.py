"""A folder of photographs: which file belongs to which split and class, and which can't be packed for which reason."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from ssl_pkg.data import images
from ssl_pkg.data.duplicates import Hashes, first_near, groups_of_copies
from ssl_pkg.data.image_files import files_below, is_system, printable
from ssl_pkg.data.stl10 import MAX_CLASSES
from ssl_pkg.errors import BadInput, shortened
from ssl_pkg.messages.counted import counted
from ssl_pkg.messages.nearest import hint

TRAIN, TEST, UNLABELED, OOD = "train", "test", "unlabeled", "ood"
LABELLED: Final = "labelled"  # not yet divided between train and test
# Names of folders, in small letters, that are meant as splits.
LIKE_SPLITS: Final = {
    TRAIN: r"train(ing)?(set|data|images)?",
    TEST: r"test(ing)?(set|data|images)?",
    UNLABELED: r"unlab.*",
}
# Of copies in two splits, the one in the earlier of these splits is kept.
PRECEDENCE: Final = (TEST, TRAIN, OOD, UNLABELED)
FEWEST: Final = {TRAIN: images.FEWEST, TEST: 1}  # images of a class


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
    """Whether the folder has train/ and test/. Raises BadInput if it has only one of them, or a name like theirs."""
    folders = sorted(entry.name for entry in source.iterdir() if _is_folder(entry))
    for split, pattern in LIKE_SPLITS.items():
        for name in folders:
            if name != split and re.fullmatch(pattern, re.sub(r"[\W_]", "", name.casefold())):
                raise BadInput(
                    f"{source} has a folder {label_of(name)}, but a split is called {split}: rename the folder to "
                    f"{split}, or if it is a class, to another name"
                )
    given = {split for split in (TRAIN, TEST) if split in folders}
    if len(given) == 1:
        (only,), (other,) = given, {TRAIN, TEST} - given
        raise BadInput(
            f"{source} has {only}/, the name of a split, without {other}/: add that; or if {only} is a class, rename "
            f"its folder, for example to {only}_class"
        )
    return bool(given)


def _is_folder(entry: Path) -> bool:
    """Whether this is a folder that can have images of a class or a split."""
    return _is_directory(entry) and not is_system(entry.name)


def _is_directory(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 (Path.is_dir raises an error for a link into a folder that can't be read)


def find_photographs(source: Path) -> list[Photograph]:
    """All files below the folder, which has train/, test/ and perhaps unlabeled/, or class folders and unlabeled/."""
    given = has_splits(source)
    found = []
    for file, reason in files_below(source):
        first, *others = file.relative_to(source).parts or ("",)
        entry = Photograph(file, printable(str(file.relative_to(source))), reason=reason)
        if first == UNLABELED and others:
            entry.split = UNLABELED
        elif given and first in (TRAIN, TEST) and _in_class(file, reason, others):
            entry.split, entry.label = first, label_of(others[0])
        elif not given and _in_class(file, reason, [first, *others]):
            entry.split, entry.label = LABELLED, label_of(first)
        else:
            entry.reason = reason or "is outside of the class folders"
        found.append(entry)
    return found


def _in_class(file: Path, reason: str, parts: Sequence[str]) -> bool:
    """Whether the file is in a class folder, or is a class folder that can't be read.

    parts: the file's path below the folder of the class folders.
    """
    if not parts or is_system(parts[0]):
        return False
    return len(parts) > 1 or bool(reason and _is_directory(file))


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
    folders = {entry.name for parent in parents for entry in parent.iterdir() if _is_folder(entry)}
    folders -= {UNLABELED} if not given else set()
    counts = Counter(map(label_of, folders))
    if "" in counts or max(counts.values(), default=0) > 1:
        raise BadInput(f"two class folders in {source} have the same name, or one has none: rename them")
    if not 2 <= len(counts) <= MAX_CLASSES:
        names = f" ({', '.join(counts)})" if len(counts) == 1 else ""
        raise BadInput(
            f"{parents[0]} has {counted(len(counts), 'class folder')}{names}, but 2 to {MAX_CLASSES} are needed: "
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
                entry.reason = f"is {kind} of {shortened(other.name)}, which is in {other.split}"
        kept += [entry for entry in own if not entry.reason]


def refuse_small_classes(
    photographs: Sequence[Photograph], classes: Sequence[str], source: Path, test_fraction: float
) -> None:
    """Raises BadInput if a class has too few images in train or test."""
    counts = Counter((entry.split, entry.label) for entry in photographs if not entry.reason)
    short, divided, divisible = [], has_splits(source), False
    for label in classes:
        few = [f"{counts[split, label]} in {split}" for split in FEWEST if counts[split, label] < FEWEST[split]]
        if few:
            own = [entry for entry in photographs if entry.label == label and entry.split != OOD]
            short.append(f"{label} has {' and '.join(few)}{_why(own)}")
            total = sum(counts[split, label] for split in FEWEST)
            divisible |= not divided and total >= sum(FEWEST.values())
    if short:
        more = f" and {len(short) - 5} more" if len(short) > 5 else ""
        fraction = f"give a smaller --test-fraction than {test_fraction:g}, " if divisible else ""
        raise BadInput(
            f"a class needs at least {FEWEST[TRAIN]} images in train and {FEWEST[TEST]} in test that are not copies "
            f"of each other, but of the images in {source} {', '.join(short[:5])}{more}: {fraction}add "
            "images, or remove the class"
        )


def _why(own: Sequence[Photograph]) -> str:
    """How many of a class's files are not packed, and the most frequent reason, with an example; or nothing."""
    reasons = Counter(entry.reason for entry in own if entry.reason)
    if not reasons:
        return ""
    most = reasons.most_common(1)[0][0]
    example = shortened(next(entry.name for entry in own if entry.reason == most))
    are = "is" if reasons.total() == 1 else "are"
    return f" ({reasons.total():,} of its {counted(len(own), 'file')} {are} not packed; {example} {most})"
