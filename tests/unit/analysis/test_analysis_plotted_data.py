"""The CSV of a figure has what is drawn."""

import csv
from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest
from fake_reports import Built
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from analysis.figures import style
from analysis.figures.plotted_data import COLUMNS, figure_csv


@pytest.fixture
def axes() -> Iterator[Axes]:
    with style.styled():
        yield Figure().subplots()


def drawn(axes: Axes) -> list[tuple[str, ...]]:
    """The rows of the figure, without the panel."""
    figure = axes.figure
    assert isinstance(figure, Figure)
    head, *rows = csv.reader(figure_csv(figure).splitlines())
    assert tuple(head) == COLUMNS
    return [tuple(row[1:]) for row in rows]


@pytest.mark.slow
def test_every_line_of_a_report_has_a_name(built: Built) -> None:
    files = sorted((built.out / "figures").glob("*.csv"))
    assert {"curves-pretraining", "curves-health", "curves-finetuning", "curves-probe"} <= {file.stem for file in files}
    for file in files:
        rows = list(csv.DictReader(file.read_text().splitlines()))
        assert not [row for row in rows if row["kind"] == "line" and row["series"].strip("_") == ""], file.name


def test_lines_and_error_bars_have_their_points_under_their_label(axes: Axes) -> None:
    axes.errorbar([1, 2], [0.5, 0.6], yerr=[[0.1, 0.2], [0.3, 0.1]], capsize=0, label="a")
    axes.plot([3, np.nan], [1 / 3, 1], "o", label="b")
    axes.axvline(7, label="c")
    assert drawn(axes) == [
        *(("a", "line", x, y, "") for x, y in (("1", "0.5"), ("2", "0.6"))),
        *(("a", "bar", x, y, "") for x, y in (("1", "0.4"), ("1", "0.8"), ("2", "0.4"), ("2", "0.7"))),
        ("b", "line", "3", "0.333333333", ""),
        *(("c", "line", "7", y, "") for y in ("0", "1")),
    ]


def test_a_row_of_a_model_has_its_name(axes: Axes) -> None:
    axes.plot([0.5, 0.6], [1, 1], label="interval")
    axes.set_yticks([0, 1], ["first", "second"])
    assert drawn(axes) == [("interval", "line", "0.5", "second", ""), ("interval", "line", "0.6", "second", "")]


def test_an_image_has_the_value_of_every_cell(axes: Axes) -> None:
    values = np.array([[0.1, 0.2, np.nan], [0.4, 0.5, 0.6]])
    axes.imshow(values)
    axes.set_xticks(range(3), ["a", "b", "c"])
    expected = [("", "image", "abc"[x], str(y), str(values[y, x])) for y, x in product(range(2), range(3))]
    assert drawn(axes) == expected


def test_contours_scattered_points_and_steps_are_there(axes: Axes) -> None:
    axes.scatter([1, 2], [3, 4], label="points")
    axes.stairs([5, 6], [0, 1, 2], label="steps")
    grid = np.linspace(-1, 1, 5)
    axes.contour(grid, grid, np.abs(grid[:, None]) + np.abs(grid), levels=[0.5, 1.0])
    rows = drawn(axes)
    assert [row[2:4] for row in rows if row[:2] == ("points", "marker")] == [("1", "3"), ("2", "4")]
    assert [row[2:4] for row in rows if row[:2] == ("steps", "steps")] == [("0", "5"), ("1", "6")]
    contours = np.array([row[2:] for row in rows if row[1] == "contour"], float)
    assert set(contours[:, 2]) == {0.5, 1.0}
    assert np.abs(contours[:, :2]).sum(axis=1) == pytest.approx(contours[:, 2])


def test_a_colour_bar_is_no_panel(axes: Axes) -> None:
    figure = axes.figure
    assert isinstance(figure, Figure)
    figure.colorbar(axes.imshow([[1.0]]), ax=axes)
    assert len(drawn(axes)) == 1
