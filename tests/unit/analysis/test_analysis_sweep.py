"""The report of a sweep: every variant is drawn, named and distinguished from the others."""

import re
from collections.abc import Callable

import pytest
from fake_reports import swept
from fake_study import FakeStudy
from figure_texts import overfull
from matplotlib.figure import Figure

from analysis import names, planned, trials, words
from analysis.blocks import Section
from analysis.figures import accuracy, classes, curves, shift, style, sweep, tsne, width
from analysis.names import Model
from analysis.reading import read_study
from analysis.sections import corruptions, methods
from analysis.study import Study

Draw = Callable[[Study], Figure | None]
VALUES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    fake = FakeStudy(tmp_path_factory.mktemp("swept") / "sweep", methods=("simclr",), images=60, points=20, steps=8)
    swept(fake, VALUES)
    return read_study(fake.path)


def drawn(figure: Figure | None) -> Figure:
    assert figure is not None
    figure.draw_without_rendering()
    return figure


@pytest.mark.slow
def test_every_variants_pretraining_is_drawn_in_a_colour_of_its_own(study: Study) -> None:
    with style.styled():
        figure = drawn(curves.pretraining(study))
    (losses,) = (axes for axes in figure.axes if axes.get_title().endswith("loss"))
    assert len(losses.lines) == len(VALUES)
    assert len({line.get_color() for line in losses.lines}) == len(VALUES)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"SimCLR (temperature={value})" for value in VALUES]


@pytest.mark.slow
def test_one_model_has_one_colour_in_every_figure(study: Study) -> None:
    probes = [model for model in study.models if model.adaptation == "probe"]
    with style.styled():
        axes, _ = drawn(curves.probing(study)).axes
        loss, _ = drawn(width.slices(study)).axes
    colors = [style.look(model, study.encoders).color for model in probes]
    assert len(set(colors)) == len(VALUES)
    assert [line.get_color() for line in axes.lines[::2]] == colors
    assert [line.get_color() for line in loss.lines[::2]] == colors


def test_more_variants_than_the_palette_has_get_different_colours() -> None:
    variants = [Model("byol", None, f"x={number}") for number in range(25)]
    assert len({style.encoder_color(variant, variants) for variant in variants}) == 25


@pytest.mark.slow
@pytest.mark.parametrize("language", words.LANGUAGES)
@pytest.mark.parametrize(
    "draw",
    [
        *(tsne.maps, tsne.frames, width.planes, classes.reliability, curves.finetuning, accuracy.dots),
        *(corruptions.curves, shift.scatter, sweep.over_values, lambda study: classes.confusion(study, "test")),
    ],
)
def test_titles_do_not_overlap_and_everything_is_within_the_figure(study: Study, draw: Draw, language: str) -> None:
    with style.styled(), words.language(language):
        assert overfull(draw(study)) == []


def test_variants_are_listed_by_the_size_of_their_numbers(study: Study) -> None:
    assert [encoder.variant for encoder in study.encoders] == [f"temperature={value}" for value in VALUES]
    variants = ["", "n=1e-4", "n=9", "n=10"]
    found = names.in_order((Model("m", None, variant) for variant in reversed(variants)), ["m"])
    assert [model.variant for model in found] == variants


def test_the_front_page_and_the_recipe_are_of_all_variants(study: Study) -> None:
    assert "88 of the 102 planned runs are complete." in planned.incomplete(study)
    recipe = next(block for block in methods.section(study).blocks if block["kind"] == "table")
    assert planned.runs(study).count("(1)") == 5  # the runs of the random network do not depend on the swept value
    assert recipe["headings"] == ["Setting", "SimCLR"]


def test_many_models_are_the_rows_of_the_table_of_trials(study: Study) -> None:
    made = Section("")
    trials.table(made, study)
    (table,) = made.blocks
    rest = "weight decay 0.05, jitter off, initial head probe"
    candidates = [f"learning rate {lr}, {rest}" for lr in ("0.0003", "0.001")]
    assert table["headings"] == ["Model", *candidates]
    assert table["rows"][0] == ["SimCLR (temperature=0.05) fine-tuned", "70.0 / 0.900 *", "65.0 / 1.000"]
    assert len(table["rows"]) == len(VALUES)


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_the_terminals_table_shows_whole_numbers(
    study: Study, columns: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from analysis.__main__ import _print

    monkeypatch.setenv("COLUMNS", columns)
    _print(study, study.path)
    printed = capsys.readouterr().out
    assert "…" not in printed
    rows = [line for line in printed.splitlines() if re.search(r"\d\d\.\d", line) and not line.startswith("95 %")]
    assert len(rows) == len(study.models)
    assert all(len(re.findall(r"\d+\.\d(?= |$)|\u2013", row)) >= 5 for row in rows)
