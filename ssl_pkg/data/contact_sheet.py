"""A contact sheet: some images of each class and split as the code reads them, so that wrong labels or axes show."""

import io
from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ssl_pkg.data.fonts import SIZE as FONT_SIZE
from ssl_pkg.data.fonts import font_for
from ssl_pkg.data.images import Indices, Split

CONTACT_SHEET: Final = "contact_sheet.png"  # file name in the run directory
SIDE: Final = 48  # pixels, of an image on the sheet
COLUMNS: Final = 16  # images in a row, divided among the splits, so that all sheets have about the same width
LABEL_WIDTH: Final = 132  # pixels, width of the column with the class names
GAP: Final = 12  # pixels between two splits
NAME_LENGTH: Final = 16  # characters; longer class names are cut
MOST_CLASSES: Final = 40  # rows; the sheet would be too large to look at


def contact_sheet(labelled: Sequence[Split], unlabeled: Split | None, classes: Sequence[str]) -> bytes:
    """Returns a PNG with one row for each class, the labelled splits side by side, and a last row for `unlabeled`.

    A row shows the first images of its class in the split's order, so that the same data give the same bytes (with the
    same fonts, if a class name is not ASCII). Classes beyond MOST_CLASSES are left out, which the sheet says.
    """
    left_out, classes = len(classes) - MOST_CLASSES, classes[:MOST_CLASSES]
    per_class = COLUMNS // len(labelled)
    strip = per_class * SIDE + GAP
    rows = len(classes) + (0 if unlabeled is None else 1)
    sheet = Image.new("RGB", (LABEL_WIDTH + strip * len(labelled), GAP + 2 * SIDE // 3 + (SIDE + 2) * rows), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=FONT_SIZE)
    top = 2 * SIDE // 3
    for number, split in enumerate(labelled):
        left = LABEL_WIDTH + number * strip
        draw.text((left, 10), f"{split.name}: {len(split):,} images", "black", font)
        for label in range(len(classes)):
            members = np.flatnonzero(split.labels == label)[:per_class]
            corner = (left, top + label * (SIDE + 2))
            if len(members) == 0:
                draw.text((corner[0], corner[1] + SIDE // 3), "no images", "black", font)
            _paste(sheet, split, members, corner)
    for label, name in enumerate(classes):
        shown = name if len(name) <= NAME_LENGTH else f"{name[: NAME_LENGTH - 1]}…"
        own = font_for(f"{label}  {shown}")
        text = f"{label}  {shown if own else '(no font for it)'}"
        draw.text((4, top + label * (SIDE + 2) + SIDE // 3), text, "black", own or font)
    if left_out > 0:
        draw.text((4, 10), f"{left_out} more classes", "black", font)
    if unlabeled is not None:
        corner = (LABEL_WIDTH, top + len(classes) * (SIDE + 2))
        draw.text((4, corner[1] + SIDE // 3), unlabeled.name, "black", font)
        count = min(len(unlabeled), (sheet.width - LABEL_WIDTH) // SIDE)
        _paste(sheet, unlabeled, np.arange(count), corner)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _paste(sheet: Image.Image, split: Split, indices: Indices, corner: tuple[int, int]) -> None:
    """Pastes these images as a row whose upper left corner is `corner`, (x, y) in pixels."""
    images, _ = split.load(indices, torch.device("cpu"))
    for position, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
        tile = Image.fromarray(np.ascontiguousarray(image)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        sheet.paste(tile, (corner[0] + position * SIDE, corner[1]))
