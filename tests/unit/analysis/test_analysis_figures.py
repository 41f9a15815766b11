"""The figures of a study in every language: their texts fit, and their numbers have its marks."""

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_reports import Whole
from figure_texts import overfull
from matplotlib.figure import Figure

from analysis import words
from analysis.correlation import correlations
from analysis.figures import classes, curves, style, width
from analysis.measures import chosen
from analysis.study import Study
from analysis.widths import widths_of

pytestmark = pytest.mark.parametrize("language", words.LANGUAGES)


def chosen_width(study: Study) -> Figure | None:
    measure = chosen(widths_of(study))
    assert measure is not None
    return width.scatter(study, [measure], correlations(study))


def other_widths(study: Study) -> Figure | None:
    return width.forest([entry for entry in correlations(study) if entry.kind == "all"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "draw",
    [
        *(curves.pretraining, curves.health, curves.details, curves.probing),
        *(classes.heat_maps, width.slices, chosen_width, other_widths),
    ],
)
def test_titles_do_not_overlap_and_everything_is_within_the_figure(
    whole: Whole, draw: Callable[[Study], Figure | None], language: str
) -> None:
    with style.styled(), words.language(language):
        assert overfull(draw(whole.study)) == []


def test_numbers_on_axes_have_the_marks_of_the_language_and_those_of_the_csv_do_not(
    tmp_path: Path, language: str
) -> None:
    with style.styled(), words.language(language):
        figure, (axes, shares, named) = style.grid(3, 3, 1.5)
        axes.plot([-0.5, 2.5], [3.0, 4.0])
        axes.set(xticks=[-0.5, 0.25, 2.5])
        shares.plot([0, 1], [0.001, 0.004])
        style.percent_axis(shares.yaxis)
        named.set_xticks([0, 1], ["temperature=0.1", "b, c"])
        style.save(figure, tmp_path, "figure")
        ticks, percentages, names = (
            [label.get_text() for label in axis.get_ticklabels()] for axis in (axes.xaxis, shares.yaxis, named.xaxis)
        )
    mark = {"en": ".", "ru": ","}[language]
    assert ticks == ["\u2212" + f"0{mark}50", f"0{mark}25", f"2{mark}50"]
    assert f"0{mark}2" in percentages
    assert names == ["temperature=0.1", "b, c"]
    assert ",-0.5,3," in (tmp_path / "figure.csv").read_text()
