"""Figures that have no room for all models show the references, the best and some of all ranks, and say so."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_contents import model_of, row
from fake_study import FakeStudy

from analysis.comparisons import STUDIES, Comparison
from analysis.estimates import NONE, Difference, estimate
from analysis.figures import classes, style
from analysis.figures.accuracy import dots
from analysis.figures.studies import differences, firsts, room
from analysis.names import Model
from analysis.reading import read_study
from analysis.run import Run
from analysis.sections import accuracy, front
from analysis.selection import left_out, selected
from analysis.study import Study

COUNT = 30


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Many methods with a probe each, whose accuracies are in no order, and the supervised baseline.

    All but the first have predictions.
    """
    fake = FakeStudy(tmp_path_factory.mktemp("many") / "study", methods=("supervised", "simclr"), images=60)
    fake.probe("random")
    fake.finetune("random")
    for number in np.random.default_rng(0).permutation(COUNT):
        run = fake._open(f"probe-m{number}-s0", 0, "random", {}, [])
        if number:
            fake._predict(run, f"m{number}-probe", 0, "test", 0.5)
        fake._close(run, f"m{number}-probe", 0, [row("test", "accuracy", 0.3 + number / 100, 60)])
    return read_study(fake.path)


def test_the_references_the_best_and_the_lowest_are_selected(study: Study) -> None:
    assert len(study.models) == COUNT + 2
    found = selected(study, study.models, 12)
    assert len(found) == 12
    assert found == [model for model in study.models if model in found]
    assert {model_of("random-probe"), model_of("supervised")} <= set(found)
    assert {model_of(f"m{number}-probe") for number in range(COUNT - 5, COUNT)} <= set(found)
    others = sorted(int(model.method[1:]) for model in found if model.method[1:].isdigit())[:5]
    assert others == [0, 6, 12, 18, 24]
    assert selected(study, study.models, COUNT + 2) == study.models


@pytest.mark.slow
def test_a_figure_without_room_for_all_models_says_how_many_it_shows(study: Study, tmp_path: Path) -> None:
    with style.styled():
        blocks = accuracy.by_class(study, tmp_path).blocks
    captions = {Path(block["path"]).stem: block["caption"] for block in blocks if block["kind"] == "figure"}
    assert (
        f"Of {COUNT + 1} models, {classes.PANELS} are shown: the random and the supervised one, those"
        in captions["confusion-test"]
    )
    figure = classes.confusion(study, "test")
    assert figure is not None
    assert sum(bool(axes.get_title()) for axes in figure.axes) == classes.PANELS
    others = [model for model in study.models if model.method not in ("random", "supervised")]
    assert f"Of {COUNT} models, 12 are shown: those with the highest" in left_out(others, 12)
    assert left_out(others[:12], 12) == ""


def test_models_without_a_test_accuracy_come_last(study: Study) -> None:
    unknown = model_of("unknown-probe")
    assert estimate(study, unknown, "test", "accuracy") is None
    assert unknown not in selected(study, [unknown, *study.models[2:]], 1)


@pytest.mark.slow
def test_the_figure_of_accuracies_is_not_higher_than_a_page(study: Study, tmp_path: Path) -> None:
    probes = [model for model in study.models if model.adaptation == "probe" and model.method != "random"]
    variants = [replace(model, variant=f"x={number}") for number in (1, 2) for model in probes]
    assert len(variants) == 60
    swept = replace(study, runs=(*study.runs, *_as_variants(study, 1), *_as_variants(study, 2)))
    assert set(variants) <= set(swept.models)
    with style.styled():
        figure = dots(swept)
        blocks = front.section(swept, tmp_path).blocks
    assert figure is not None
    assert figure.get_size_inches()[1] < 9
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(labels) == 40
    assert {"Random init. probe", "Supervised"} <= set(labels)
    (caption,) = (block["caption"] for block in blocks if block["kind"] == "figure")
    assert f"Of {len(swept.models)} models, 40 are shown: the random and the supervised one" in caption


def _as_variants(study: Study, number: int) -> list[Run]:
    probes = [run for run in study.runs if run.model.adaptation == "probe" and run.model.method != "random"]
    return [replace(run, model=replace(run.model, variant=f"x={number}")) for run in probes]


def test_the_figure_of_three_studies_is_not_higher_than_a_page(study: Study) -> None:
    """Each model has a row for each of the two earlier studies."""
    gap = Difference(0.01, -0.02, 0.04, 0.5, 0.9, "images")
    models = [Model(f"m{number}", "probe", "", "three") for number in range(60)]
    found = [Comparison(STUDIES, one, replace(one, study=name), NONE, gap) for one in models for name in ("one", "two")]
    with style.styled():
        figure = differences(study, found)
    assert figure is not None
    assert figure.get_size_inches()[1] < 9
    assert len(figure.axes[0].get_yticks()) == 40
    assert "Of 60 models, 20 are shown" in left_out(firsts(found), room(found))
