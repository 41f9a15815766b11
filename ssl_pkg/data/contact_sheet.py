"""A contact sheet: some images of each class and split as the code reads them, so that wrong labels or axes show."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ssl_pkg.data.fonts import SIZE as FONT_SIZE
from ssl_pkg.data.fonts import font_for
from ssl_pkg.data.images import Indices, Split
from ssl_pkg.messages.counted import counted

SIDE: Final = 64  # pixels, of an image on the sheet
STEP: Final = SIDE + 2  # pixels, from an image to the next one
COLUMNS: Final = 12  # images in a row, divided among the labelled splits, so that all sheets have the same width
LABEL_WIDTH: Final = 224  # pixels, of the column with the class names
GAP: Final = 24  # pixels between two splits
WIDTH: Final = LABEL_WIDTH + COLUMNS * STEP + GAP  # pixels; the report prints it 6.5 inches wide, and the font at 8 pt
LINE: Final = 24  # pixels, of a line of text
TOP: Final = 8  # pixels, above each panel
HEADING: Final = 2 * LINE + 8  # pixels, above the images of a split
ROWS: Final = 12  # classes on a sheet that fits a page
UNLABELED_ROWS: Final = 2  # likewise, of unlabeled images


@dataclass(frozen=True)
class _Panel:
    """The images of a split on the sheet: a row for each of `rows`, below a heading of two lines.

    shown: the second line, which says what the rows show. left, top: of the heading, in pixels.
    """

    split: Split
    rows: Sequence[Indices]
    shown: str
    left: int
    top: int

    def draw(self, sheet: Image.Image) -> None:
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=FONT_SIZE)
        draw.text((self.left, self.top), f"{self.split.name}: {counted(len(self.split), 'image')}", "black", font)
        draw.text((self.left, self.top + LINE), self.shown, "black", font)
        for number, indices in enumerate(self.rows):
            top = self.top + HEADING + number * STEP
            if len(indices) == 0:
                draw.text((self.left, top + SIDE // 3), "no images", "black", font)
            images, _ = self.split.load(indices, torch.device("cpu"))
            for position, image in enumerate(images.permute(0, 2, 3, 1).numpy()):
                tile = Image.fromarray(np.ascontiguousarray(image)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
                sheet.paste(tile, (self.left + position * STEP, top))


def contact_sheet(
    labelled: Sequence[Split],
    unlabeled: Split | None,
    classes: Sequence[str],
    *,
    rows: int = ROWS,
    unlabeled_rows: int = UNLABELED_ROWS,
) -> bytes:
    """Returns a PNG with a panel for each split: those of the labelled splits side by side, with a row for each class.

    A row shows the first images of its class in the split's order, and the panel of `unlabeled` images evenly spaced in
    theirs, so that the same data give the same bytes (with the same fonts, if a class name is not ASCII). If there are
    more than `rows` classes, the sheet shows classes evenly spaced among them. What is shown stands above each panel.
    """
    chosen = _spaced(len(classes), rows).tolist() if labelled else []
    panels, bottom = [], TOP
    if labelled:
        count = COLUMNS // len(labelled)
        for number, split in enumerate(labelled):
            members = [np.flatnonzero(split.labels == label) for label in chosen]
            shown = f"the first {count}" if max(map(len, members)) > count else "all"
            left = LABEL_WIDTH + number * (count * STEP + GAP)
            panels.append(_Panel(split, [own[:count] for own in members], f"{shown} of each class", left, bottom))
        bottom += HEADING + len(chosen) * STEP + TOP
    if unlabeled is not None:
        indices = _spaced(len(unlabeled), unlabeled_rows * COLUMNS)
        lines = [indices[start : start + COLUMNS] for start in range(0, len(indices), COLUMNS)]
        shown = f"{len(indices)} of them, evenly spaced" if len(indices) < len(unlabeled) else "all of them"
        panels.append(_Panel(unlabeled, lines, shown, LABEL_WIDTH, bottom))
        bottom += HEADING + len(lines) * STEP + TOP
    sheet = Image.new("RGB", (WIDTH, bottom), "white")
    for panel in panels:
        panel.draw(sheet)
    _draw_names(sheet, classes, chosen)
    buffer = io.BytesIO()
    sheet.save(buffer, "PNG")
    return buffer.getvalue()


def _spaced(count: int, most: int) -> Indices:
    """At most `most` of the numbers below `count`, evenly spaced from the first to the last."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


def _draw_names(sheet: Image.Image, classes: Sequence[str], chosen: Sequence[int]) -> None:
    """Draws number and name of each chosen class beside its row and, if not all classes are chosen, how many are."""
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=FONT_SIZE)
    if 0 < len(chosen) < len(classes):
        draw.text((4, TOP), f"{len(chosen)} of {len(classes):,} classes,", "black", font)
        draw.text((4, TOP + LINE), "evenly spaced", "black", font)
    for row, label in enumerate(chosen):
        text = f"{label}  {classes[label]}"
        own = font_for(text)
        text = text if own else f"{label}  (no font for it)"
        own = own or font
        if own.getlength(text) > LABEL_WIDTH - 12:
            while own.getlength(f"{text}…") > LABEL_WIDTH - 12:
                text = text[:-1]
            text += "…"
        draw.text((4, TOP + HEADING + row * STEP + SIDE // 3), text, "black", own)
