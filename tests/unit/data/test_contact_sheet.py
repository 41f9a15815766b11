"""The contact sheet shows the images as the model sees them, upright and in the row of their label."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ssl_pkg.data.contact_sheet import COLUMNS, GAP, LABEL_WIDTH, SIDE, contact_sheet
from ssl_pkg.data.fonts import font_for
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
    left = LABEL_WIDTH + column * (COLUMNS // 2 * SIDE + GAP) + position * SIDE
    top = 2 * SIDE // 3 + row * (SIDE + 2)
    return sheet[top : top + SIDE, left : left + SIDE]


def test_images_are_upright_and_in_the_row_of_their_label() -> None:
    train, test = split("train", [0, 1, 2, 1] * 3), split("test", [2, 0, 0])
    unlabeled = Split("unlabeled", train.pixels, np.full(12, UNLABELED), columns_first=True)
    sheet = read(contact_sheet([train, test], unlabeled, ["a", "b", "c"]))
    for row, color in enumerate(COLORS):
        assert (tile(sheet, row, 0)[36, 12] == color).all()
        assert (tile(sheet, row, 0)[12, 36] == 255).all()  # the upper right quarter
        assert (tile(sheet, row, 0)[36, 36] == color).all()
    assert (tile(sheet, 0, 1, column=1)[36, 12] == COLORS[0]).all()
    assert (tile(sheet, 3, 1)[36, 12] == COLORS[1]).all()  # the unlabeled images
    assert (tile(sheet, 1, 0, column=1)[36, 36] == 255).all()  # test has none of class b


def test_transposed_images_and_permuted_labels_change_the_sheet() -> None:
    train = split("train", [0, 1, 2])
    names = ["a", "b", "c"]
    seen = read(contact_sheet([train], None, names))
    transposed = read(contact_sheet([replace(train, columns_first=False)], None, names))
    assert (tile(transposed, 0, 0)[36, 12] == 255).all()  # the white quarter is at the lower left
    permuted = read(contact_sheet([replace(train, labels=np.array([1, 2, 0]))], None, names))
    assert (tile(permuted, 1, 0)[36, 12] == COLORS[0]).all()
    assert (tile(seen, 1, 0)[36, 12] == COLORS[1]).all()


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
