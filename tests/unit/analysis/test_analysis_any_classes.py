"""Reports of data sets with another number of classes than ten, and without an out-of-distribution set."""

from pathlib import Path

import pytest
from fake_study import FakeStudy

from analysis import tables
from analysis.figures import classes, style, tsne
from analysis.reading import read_study
from analysis.sections import ood
from jobs.plan.graph import plan
from jobs.plan.record import record_plan
from ssl_pkg.config.schema import StudyConfig


def test_the_report_says_that_there_is_no_out_of_distribution_set(fake: FakeStudy, tmp_path: Path) -> None:
    preset = StudyConfig(name="study", methods=("byol",), seeds=(0,), cpus=1)
    fake.path.mkdir()
    record_plan(fake.path, plan(preset, runs=tmp_path, reports=tmp_path, data_root="data", ood=False))
    fake.probe("byol")
    (block,) = ood.section(read_study(fake.path), tmp_path).blocks
    assert "the data has no out-of-distribution set" in block["text"]


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 12, 150])
def test_figures_of_few_and_of_many_classes_name_as_many_as_are_readable(tmp_path: Path, count: int) -> None:
    fake = FakeStudy(
        tmp_path / "study", methods=("byol",), classes=[f"kind {i}" for i in range(count)], images=300, points=300
    )
    fake.probe("byol")
    fake.finetune("byol")
    fake.embed("byol-probe")
    study = read_study(fake.path)
    assert tables.class_names(study, "test") == list(fake.classes)
    with style.styled():
        heat_map, confusion, maps = (
            classes.heat_maps(study),
            classes.confusion(study, "test"),
            tsne.maps(study),
        )
    assert heat_map is not None and confusion is not None and maps is not None
    shown = [label.get_text() for label in heat_map.axes[0].get_xticklabels()]
    assert shown[0] == "kind 0"
    assert min(count, 30) <= len(shown) <= style.NAMED
    assert min(count, 7) <= len(confusion.axes[0].get_yticks()) <= 13  # a panel has room for so many lines
    assert len(maps.legends[0].get_texts()) == min(count, style.NAMED + 1)


def test_a_hundred_classes_look_different() -> None:
    assert len({style.class_look(label) for label in range(100)}) == 100
