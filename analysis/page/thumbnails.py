"""Small pictures of the images on the t-SNE maps, from the folder of the data that the study's runs read."""

import base64
import io
import json
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from analysis.figures.tsne import FRAMES, JOINT, maps_of
from analysis.page.plots import packed
from analysis.records import mapping
from analysis.run import Run
from analysis.study import Study
from analysis.words import _
from ssl_pkg.errors import BadInput
from ssl_pkg.layout import IMAGE_BYTES, SIDE, STL10, images_in

Numbers = npt.NDArray[np.int64]
TILE: Final = 32  # pixels, of a side
_COLUMNS: Final = 128  # tiles in a row of the sheet
_QUALITY: Final = 60  # of the JPEG: about 250 bytes for each photograph
_MAPS: Final = {"train": JOINT, "test": JOINT, "frames": FRAMES}  # the arrays that a map's run needs


@dataclass(frozen=True)
class _Maps:
    """The images of the maps of a study.

    runs: the names of the runs whose maps show these images. numbers: of the images in their split, by map.
    """

    root: Path
    runs: tuple[str, ...]
    numbers: Mapping[str, Numbers]


def thumbnails(study: Study, room: int) -> str:
    """A sheet of the images and the place of each on it, as JSON of at most `room` bytes; empty without a map.

    If there is no room for all images, random ones are left out. Raises BadInput if the data folder does not have the
    images that the maps show.
    """
    maps = _maps(study)
    if maps is None:
        return ""
    images = {
        split: np.unique(np.concatenate([own for name, own in maps.numbers.items() if _split(name) == split]))
        for split in ("train", "test")
        if any(_split(name) == split for name in maps.numbers)
    }
    total = sum(map(len, images.values()))
    tiles = np.concatenate([_tiles(maps.root, split, own) for split, own in images.items()])
    order = np.random.default_rng(0).permutation(total)
    count = total
    while len(made := _json(maps, images, tiles, np.sort(order[:count]))) > room and count > 1:
        count = max(1, int(0.98 * count * room / len(made)))
    return made


def _split(name: str) -> str:
    return "train" if name == "train" else "test"


def _maps(study: Study) -> _Maps | None:
    """The maps of the first model that has each, and the runs that read the same data and map the same images."""
    found: dict[Run, dict[str, Numbers]] = defaultdict(dict)
    for name, needed in _MAPS.items():
        key = "frame_labels" if name == "frames" else f"{name}_labels"
        for run, arrays in maps_of(study, *needed).values():
            found[run][name] = arrays[key].astype(np.int64)
    if not found:
        return None
    first, *_ = found
    labels: dict[str, Numbers] = {}
    for own in found.values():
        labels = own | labels
    runs = [
        run.name
        for run, own in found.items()
        if mapping(run.provenance.get("data")).get("files") == mapping(first.provenance.get("data")).get("files")
        and all(np.array_equal(labels[name], values) for name, values in own.items())
    ]
    root = Path(str(mapping(first.provenance.get("data")).get("root")))
    numbers = {name: _numbers(root, _split(name), own, first) for name, own in labels.items()}
    return _Maps(root, tuple(runs), numbers)


def _numbers(root: Path, split: str, labels: Numbers, run: Run) -> Numbers:
    """The numbers of the images with these labels in their split: a map has the first images of each class."""
    missing = BadInput(
        f"there are no thumbnails, because {root / STL10} does not have the {split} images on the map of "
        f"{run.name}: bring the data back there, or leave out --thumbnails"
    )
    file, count = root / STL10 / f"{split}_y.bin", images_in(root, split)
    try:
        content = file.read_bytes()  # not np.fromfile, as in ssl_pkg/data/stl10.py
        every = np.frombuffer(content, f"<u{len(content) // count}").astype(np.int64) - 1
    except (FileNotFoundError, NotADirectoryError, ZeroDivisionError, TypeError, ValueError):
        raise missing from None
    except OSError as error:
        raise BadInput(f"can't read {file}: {error.strerror}") from error
    found = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        members, images = np.flatnonzero(labels == label), np.flatnonzero(every == label)
        if len(members) > len(images):
            raise missing
        found[members] = images[: len(members)]
    if len(every) != count or (np.diff(found) <= 0).any():
        raise missing
    return found


def _tiles(root: Path, split: str, numbers: Numbers) -> npt.NDArray[np.uint8]:
    """The images (n, TILE, TILE, 3)."""
    file = root / STL10 / f"{split}_X.bin"
    found = np.empty((len(numbers), TILE, TILE, 3), np.uint8)
    try:
        with file.open("rb") as content:
            for tile, number in zip(found, numbers.tolist(), strict=True):
                content.seek(number * IMAGE_BYTES)
                columns = np.frombuffer(content.read(IMAGE_BYTES), np.uint8).reshape(3, SIDE, SIDE)
                tile[:] = np.asarray(Image.fromarray(np.ascontiguousarray(columns.T)).reduce(SIDE // TILE))
    except OSError as error:
        raise BadInput(f"can't read {file}: {error.strerror}") from error
    return found


def _json(maps: _Maps, images: Mapping[str, Numbers], tiles: npt.NDArray[np.uint8], kept: Numbers) -> str:
    """kept: the places of the images that are on the sheet, among all images."""
    on_sheet = np.full(len(tiles), -1, np.int32)
    on_sheet[kept] = np.arange(len(kept))
    starts = dict(zip(images, np.cumsum([0, *map(len, images.values())]), strict=False))
    places = {
        name: packed(on_sheet[starts[_split(name)] + np.searchsorted(images[_split(name)], own)])
        for name, own in maps.numbers.items()
    }
    note = _("Point at an image to see it, at {side} pixels.", side=TILE)
    if len(kept) < len(tiles):
        note = _(
            "Point at an image to see it, at {side} pixels; {n:,} of the {total:,} images have one, at random, so that "
            "the page stays small.",
            side=TILE,
            n=len(kept),
            total=len(tiles),
        )
    sheet = base64.b64encode(_sheet(tiles[kept])).decode("ascii")
    content = {"tile": TILE, "columns": _COLUMNS, "note": note, "runs": maps.runs, "places": places, "sheet": sheet}
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def _sheet(tiles: npt.NDArray[np.uint8]) -> bytes:
    """The tiles in rows of _COLUMNS, as a JPEG."""
    rows = -(-len(tiles) // _COLUMNS)
    sheet = np.zeros((rows * _COLUMNS, TILE, TILE, 3), np.uint8)
    sheet[: len(tiles)] = tiles
    picture = sheet.reshape(rows, _COLUMNS, TILE, TILE, 3).swapaxes(1, 2).reshape(rows * TILE, _COLUMNS * TILE, 3)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
