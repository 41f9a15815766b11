"""The contact sheet shows the images as the model sees them, upright and in the row of their label."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from ssl_pkg.data.contact_sheet import COLUMNS, GAP, HEADING, LABEL_WIDTH, LINE, SIDE, STEP, TOP, contact_sheet
from ssl_pkg.data.fonts import SIZE, font_for
from ssl_pkg.data.images import UNLABELED, Split

COLORS = np.array([[200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)


def split(name: str, labels: list[int]) -> Split:
    """Each image in its class's colour, its upper right quarter white; columns first, as STL-10's files are."""
    seen = np.array(labels)
    pixels = np.repeat(np.repeat(COLORS[seen][:, :, None, None], 96, 2), 96, 3)
    pixels[:, :, :48, 48:] = 255
    return Split(name, pixels.swapaxes(2, 3).copy(), seen, columns_first=True)


def read(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def tile(sheet: np.ndarray, row: int, position: int, column: int = 0) -> np.ndarray:
    left = LABEL_WIDTH + column * (COLUMNS // 2 * STEP + GAP) + position * STEP
    top = TOP + HEADING + row * STEP
    return sheet[top : top + SIDE, left : left + SIDE]


def says(sheet: np.ndarray, text: str, left: int, top: int) -> bool:
    """Whether the sheet has this text at this place, and nothing right of it."""
    image = Image.new("RGB", (min(COLUMNS // 2 * STEP, sheet.shape[1] - left), LINE), "white")
    ImageDraw.Draw(image).text((0, 0), text, "black", ImageFont.load_default(size=SIZE))
    return bool((sheet[top : top + LINE, left : left + image.width] == np.asarray(image)).all())


def test_images_are_upright_and_in_the_row_of_their_label() -> None:
    train, test = split("train", [0, 1, 2, 1] * 3), split("test", [2, 0, 0])
    unlabeled = Split("unlabeled", train.pixels, np.full(12, UNLABELED), columns_first=True)
    sheet = read(contact_sheet([train, test], unlabeled, ["a", "b", "c"]))
    for row, color in enumerate(COLORS):
        assert (tile(sheet, row, 0)[48, 16] == color).all()
        assert (tile(sheet, row, 0)[16, 48] == 255).all()  # the upper right quarter
        assert (tile(sheet, row, 0)[48, 48] == color).all()
    assert (tile(sheet, 0, 1, column=1)[48, 16] == COLORS[0]).all()
    assert (tile(sheet, 1, 0, column=1)[48, 48] == 255).all()  # test has none of class b
    below = sheet[TOP + HEADING + 3 * STEP :]
    assert (tile(below, 0, 1)[48, 16] == COLORS[1]).all()  # the unlabeled images have a panel of their own


def test_each_panel_says_what_it_shows() -> None:
    train, test = split("train", [0, 1, 2] * 7), split("test", [2, 0, 0])
    unlabeled = Split("unlabeled", train.pixels.repeat(2, axis=0), np.full(42, UNLABELED), columns_first=True)
    sheet = read(contact_sheet([train, test], unlabeled, ["a", "b", "c"]))
    right, below = LABEL_WIDTH + COLUMNS // 2 * STEP + GAP, 2 * TOP + HEADING + 3 * STEP
    for left, top, heading, shown in (
        (LABEL_WIDTH, TOP, "train: 21 images", "the first 6 of each class"),
        (right, TOP, "test: 3 images", "all of each class"),
        (LABEL_WIDTH, below, "unlabeled: 42 images", "24 of them, evenly spaced"),
    ):
        assert says(sheet, heading, left, top), heading
        assert says(sheet, shown, left, top + LINE), shown
    assert (sheet[: below - TOP, right - GAP : right] == 255).all()
    alone = read(contact_sheet([], unlabeled, [], unlabeled_rows=8))
    assert says(alone, "unlabeled: 42 images", LABEL_WIDTH, TOP)
    assert says(alone, "all of them", LABEL_WIDTH, TOP + LINE)
    assert (alone[:, :LABEL_WIDTH] == 255).all()  # no row has a name


@pytest.mark.parametrize("count", [12, 13, 40, 100])
def test_of_many_classes_some_are_shown_from_the_first_to_the_last(count: int) -> None:
    labels = np.arange(count)
    train = replace(split("train", [0] * count), labels=labels)
    train.pixels[:] = labels[:, None, None, None]  # the image of a class has its number as its grey level
    sheet = read(contact_sheet([train], None, [f"class {label}" for label in labels]))
    shown = [int(tile(sheet, row, 0)[32, 32, 0]) for row in range(12)]
    assert len(sheet) == 2 * TOP + HEADING + 12 * STEP
    assert (shown[0], shown[-1]) == (0, count - 1)
    gaps = np.diff(shown)
    assert gaps.min() >= 1 and gaps.max() - gaps.min() <= 1
    for row, label in enumerate(shown):
        assert says(sheet[:, :LABEL_WIDTH], f"{label}  class {label}", 4, TOP + HEADING + row * STEP + SIDE // 3)
    assert says(sheet[:, :LABEL_WIDTH], f"12 of {count} classes,", 4, TOP) == (count > 12)


def test_a_long_name_is_cut_before_the_images() -> None:
    names = ["W" * 200, "i" * 200, "é" * 200]
    sheet = read(contact_sheet([split("train", [0, 1, 2])], None, names))
    for row in range(3):
        band = sheet[TOP + HEADING + row * STEP :][:SIDE, :LABEL_WIDTH]
        inked = np.flatnonzero((band < 128).any(axis=(0, 2)))
        assert LABEL_WIDTH - 40 < inked[-1] < LABEL_WIDTH - 6


def test_transposed_images_and_permuted_labels_change_the_sheet() -> None:
    train = split("train", [0, 1, 2])
    names = ["a", "b", "c"]
    seen = read(contact_sheet([train], None, names))
    transposed = read(contact_sheet([replace(train, columns_first=False)], None, names))
    assert (tile(transposed, 0, 0)[48, 16] == 255).all()  # the white quarter is at the lower left
    permuted = read(contact_sheet([replace(train, labels=np.array([1, 2, 0]))], None, names))
    assert (tile(permuted, 1, 0)[48, 16] == COLORS[0]).all()
    assert (tile(seen, 1, 0)[48, 16] == COLORS[1]).all()


def test_the_same_data_give_the_same_bytes_with_any_class_names() -> None:
    train = split("train", [0, 1, 2])
    names = ["飛行機", "a very long name of a class indeed", "#1 *b* $x$"]
    assert contact_sheet([train], None, names) == contact_sheet([train], None, names)
    assert torch.equal(torch.from_numpy(train.pixels), torch.from_numpy(split("train", [0, 1, 2]).pixels))


@pytest.mark.parametrize("names", [("éé", "àà"), ("жж", "яя"), ("飛行", "汽車"), ("قط", "جم")])
def test_names_in_any_script_differ_on_the_sheet(names: tuple[str, str]) -> None:
    train = split("train", [0])
    sheets = [contact_sheet([train], None, [name]) for name in names]
    assert (sheets[0] != sheets[1]) == all(font_for(f"0  {name}") for name in names)
    if names[0] == "éé":  # matplotlib's font has these
        assert sheets[0] != sheets[1]


def test_a_name_that_no_font_has_is_not_drawn_as_boxes() -> None:
    assert font_for("\U0010fffd") is None
    train = split("train", [0])
    sheets = [contact_sheet([train], None, [name]) for name in ("\U0010fffd", "(no font for it)")]
    assert sheets[0] == sheets[1]
