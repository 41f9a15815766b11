"""Packs photographs into a data set: `ssl-study pack SRC DST`.

DST/stl10_binary/           train, test and unlabeled images with labels and class names, in STL-10's layout
DST/ood/stl10_binary/       with --ood: the out-of-distribution test images
DST/packed.json             the name of the data set, the md5 of its files, by which a report recognises own images, and
                            the preparation: how a photograph becomes an image of this set
DST/files.csv               for every file of SRC its split, index and class, or the reason why it is not packed
DST/contact_sheet_*.png     some images of each split, as they are packed
"""

import argparse
import csv
import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np

from ssl_pkg import layout
from ssl_pkg.config.overrides import expand_path
from ssl_pkg.console import Parser, progress_bar, run_command
from ssl_pkg.data.contact_sheet import contact_sheet
from ssl_pkg.data.duplicates import HASH, Hash, Hashes, perceptual_hash
from ssl_pkg.data.image_files import Unusable, preparation, read_images, share_cropped
from ssl_pkg.data.images import UNLABELED as NO_LABEL
from ssl_pkg.data.images import Split, StoredImages
from ssl_pkg.data.pack_summary import FILES, Packed, packed_in, report
from ssl_pkg.data.photographs import (
    OOD,
    TEST,
    TRAIN,
    UNLABELED,
    Photograph,
    class_names,
    divide,
    find_ood,
    find_photographs,
    has_splits,
    refuse_copies,
    refuse_empty_ood,
    refuse_small_classes,
)
from ssl_pkg.data.scratch import scratch_folder
from ssl_pkg.data.stl10 import label_type
from ssl_pkg.errors import BadInput, reading
from ssl_pkg.layout import CLASS_NAMES, SIDE
from ssl_pkg.run.manifest import PACKED, computed_md5

CHUNK: Final = 1000  # images copied at a time
CLASSES: Final = 40  # at most, on a contact sheet
UNLABELED_ROWS: Final = 8  # of images, on their contact sheet
TEST_FRACTION: Final = 0.2


def pack(
    source: Path,
    target: Path,
    *,
    ood: Path | None = None,
    pad: bool = False,
    test_fraction: float | None = None,
    seed: int | None = None,
) -> Packed:
    """Packs the photographs below `source` to the new folder `target`, completely or not at all.

    ood: a folder of class folders with out-of-distribution images. pad: keep whole images instead of their centres.
    test_fraction, seed: of the division into train and test (default: TEST_FRACTION and 0), unless `source` has train/
    and test/.
    Raises BadInput if `source` has not enough images, and OSError if `target` can't be written.
    """
    classes, photographs, shifted = _find(source, target, ood)
    if (test_fraction, seed) != (None, None) and has_splits(source):
        raise BadInput(
            f"{source} has {TRAIN}/ and {TEST}/, so --test-fraction and --seed have no effect: leave them out"
        )
    with scratch_folder(target) as scratch:
        images, hashes, digests = _read(photographs, scratch / "images.bin", pad)
        fraction = TEST_FRACTION if test_fraction is None else test_fraction
        divide(photographs, hashes, classes, fraction, seed or 0)
        refuse_copies(photographs, hashes, digests)
        refuse_small_classes(photographs, classes, source, fraction)
        if ood:
            refuse_empty_ood(shifted, ood)
        unlabeled_is_train = not any(entry.split == UNLABELED and not entry.reason for entry in photographs)
        work = scratch / "packed"
        work.mkdir()
        _write(work, images, photographs, classes, unlabeled_is_train)
        files = sorted(file for file in work.rglob("*") if file.parent.name == layout.STL10)
        content = {
            "name": target.name,
            "md5": {file.relative_to(work).as_posix(): computed_md5(file) for file in files},
            "preparation": preparation(SIDE, pad=pad),
        }
        (work / PACKED).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        work.rename(target)
    used = [entry.file for entry in photographs if not entry.reason]
    return Packed(classes, photographs, unlabeled_is_train, 0.0 if pad else share_cropped(used))


def _find(source: Path, target: Path, ood: Path | None) -> tuple[tuple[str, ...], list[Photograph], list[Photograph]]:
    """The classes, all files, and those of them that are below `ood`."""
    if os.path.lexists(target):
        raise BadInput(f"{target} exists: give a folder that does not exist yet")
    with reading(source):
        for folder in (source, *([ood] if ood else [])):
            if not folder.is_dir():
                raise BadInput(f"there is no folder {folder}: give the folder that has the class folders")
            if Path(os.path.realpath(target)).is_relative_to(folder.resolve()):
                raise BadInput(
                    f"{target} is inside {folder}, whose files would then be packed too: give another folder"
                )
        classes = class_names(source)
        shifted = find_ood(ood, classes) if ood else []
        photographs = [*find_photographs(source), *shifted]
    if ood:
        refuse_empty_ood(shifted, ood)
    return classes, photographs, shifted


def _read(photographs: list[Photograph], file: Path, pad: bool) -> tuple[StoredImages, Hashes, list[bytes]]:
    """Writes the pixels of all usable images to `file`, columns first, and returns them with hashes and digests."""
    wanted = [entry for entry in photographs if not entry.reason]
    hashes: list[Hash] = []
    digests: list[bytes] = []
    with file.open("wb") as out, progress_bar() as progress:
        bar = progress.add_task("reading images", total=len(wanted))
        for entry, pixels in zip(wanted, read_images([e.file for e in wanted], SIDE, pad=pad), strict=True):
            progress.advance(bar)
            if isinstance(pixels, Unusable):
                entry.reason = str(pixels)
                continue
            entry.position = len(hashes)
            hashes.append(perceptual_hash(pixels))
            content = pixels.transpose(2, 1, 0).tobytes()
            digests.append(hashlib.sha256(content).digest())
            out.write(content)
    return StoredImages(file, (len(hashes), 3, SIDE, SIDE)), np.array(hashes, HASH), digests


def _write(
    work: Path, images: StoredImages, photographs: list[Photograph], classes: tuple[str, ...], unlabeled_is_train: bool
) -> None:
    members = {split: packed_in(photographs, split) for split in (TRAIN, TEST, UNLABELED, OOD)}
    if unlabeled_is_train:
        members[UNLABELED] = members[TRAIN]
    for split, entries in members.items():
        if entries:
            folder, name = (work / layout.OOD, TEST) if split == OOD else (work, split)
            stored = _write_split(folder / layout.STL10, name, images, entries, classes)
            (work / f"contact_sheet_{split}.png").write_bytes(_sheet(replace(stored, name=split), classes))
    counts: Counter[str] = Counter()
    with (work / FILES).open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["file", "split", "index", "class", "reason"])
        for entry in photographs:
            place = ("", "") if entry.reason else (entry.split, str(counts[entry.split]))
            counts[entry.split] += not entry.reason
            rows.writerow([entry.name, *place, entry.label, entry.reason])


def _write_split(
    folder: Path, name: str, images: StoredImages, entries: list[Photograph], classes: tuple[str, ...]
) -> Split:
    """Writes the images of one split, its labels and the class names."""
    folder.mkdir(parents=True, exist_ok=True)
    positions = np.array([entry.position for entry in entries], np.int64)
    with (folder / f"{name}_X.bin").open("wb") as out:
        for start in range(0, len(positions), CHUNK):
            out.write(images[positions[start : start + CHUNK]].tobytes())
    labels = np.full(len(entries), NO_LABEL, np.int64)
    if name != UNLABELED:
        labels = np.array([classes.index(entry.label) for entry in entries], np.int64)
        (labels + 1).astype(label_type(len(classes))).tofile(folder / f"{name}_y.bin")
    (folder / CLASS_NAMES).write_text("".join(f"{label}\n" for label in classes), encoding="utf-8")
    stored = StoredImages(folder / f"{name}_X.bin", (len(entries), 3, SIDE, SIDE))
    return Split(name, stored, labels, columns_first=True)


def _sheet(split: Split, classes: Sequence[str]) -> bytes:
    if split.name == UNLABELED:
        return contact_sheet([], split, classes, unlabeled_rows=UNLABELED_ROWS)
    return contact_sheet([split], None, classes, rows=CLASSES)


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns the exit status."""
    parser = Parser(
        prog="ssl-study pack",
        description="Packs photographs for a study. SRC has a folder of images for each class and, if there are images "
        "without labels, a folder `unlabeled`; or the folders train, test and unlabeled, the first two with class "
        "folders. Without unlabeled images, pretraining uses those of train, without labels.",
        epilog="example: ssl-study pack photos data/photos && ssl-study study photos-quick --data data/photos",
    )
    parser.add_argument("source", metavar="SRC", help="folder of the photographs")
    parser.add_argument("target", metavar="DST", help="folder to create")
    parser.add_argument("--ood", metavar="DIR", help="class folders with images of another kind, to test on")
    parser.add_argument("--pad", action="store_true", help="keep whole images, on a black square, not their centres")
    parser.add_argument("--test-fraction", metavar="F", type=float, help=f"of each class (default: {TEST_FRACTION})")
    parser.add_argument("--seed", metavar="N", type=int, help="of the division into train and test (default: 0)")
    return run_command(parser, arguments, _pack, target="target", left="nothing was packed")


def _pack(options: argparse.Namespace) -> None:
    fraction = TEST_FRACTION if options.test_fraction is None else options.test_fraction
    if not 0 < fraction < 1 or (options.seed or 0) < 0:
        raise BadInput("--test-fraction must be between 0 and 1, and --seed at least 0")
    source, target = Path(expand_path("SRC", options.source)), Path(expand_path("DST", options.target))
    ood = Path(expand_path("--ood", options.ood)) if options.ood is not None else None
    packed = pack(source, target, ood=ood, pad=options.pad, test_fraction=options.test_fraction, seed=options.seed)
    print(report(packed, source, target))
