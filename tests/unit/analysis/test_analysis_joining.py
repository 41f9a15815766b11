"""Reports of several studies: the same images are compared, other images are not, and each model has its study."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from fake_contents import model_of
from fake_study import FakeStudy

from analysis import comparisons, few_labels, planned, statistics, tables
from analysis.__main__ import main
from analysis.comparisons import OOD_STUDIES, STUDIES
from analysis.differences import changes, compared
from analysis.differences import few_labels as with_few_labels
from analysis.estimates import difference, estimate
from analysis.figures import style
from analysis.figures.plotted_data import figure_csv
from analysis.figures.studies import differences
from analysis.joining import by_data
from analysis.names import Model
from analysis.page import accuracy
from analysis.page.plots import SYMBOLS
from analysis.reading import read_study
from analysis.sections import cost, front, limits, probe, provenance, studies, training, width
from analysis.study import Study
from ssl_pkg.errors import BadInput

SEEDS = (0, 1)
pytestmark = pytest.mark.slow


def written(path: Path) -> FakeStudy:
    """A study of BYOL whose numbers depend on its name."""
    fake = FakeStudy(path, methods=("supervised", "byol"), seeds=SEEDS, images=100, points=30, steps=12)
    draws = fake._draws
    other = len(path.name)
    fake._draws = lambda stage, model, seed: draws(f"{stage} {other}", model, seed)  # type: ignore[method-assign]
    return fake.whole()


def change(run: Path, file: str, **more: Any) -> None:
    content = json.loads((run / file).read_text())
    (run / file).write_text(json.dumps(content | more))


def read_other_file(fake: FakeStudy, file: str, *stages: str) -> None:
    """Makes the runs of these stages, or all, record another md5 of their data."""
    for run in fake.path.glob("*-s?"):
        if not stages or run.name.partition("-")[0] in stages:
            data = json.loads((run / "provenance.json").read_text())["data"]
            change(run, "provenance.json", data=data | {"files": {file: {"bytes": 1, "md5": "0" * 32}}})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[FakeStudy, FakeStudy]:
    runs = tmp_path_factory.mktemp("runs")
    return written(runs / "short"), written(runs / "longer")


@pytest.fixture(scope="module")
def joined(folders: tuple[FakeStudy, FakeStudy]) -> Study:
    (study,) = by_data([read_study(fake.path) for fake in folders])
    return study


def test_the_numbers_of_each_study_stay_as_in_its_own_report(
    joined: Study, folders: tuple[FakeStudy, FakeStudy]
) -> None:
    assert (joined.name, joined.missing, joined.seeds) == ("short+longer", [], SEEDS)
    for fake in folders:
        alone = read_study(fake.path)
        assert len(alone.models) == 4
        for model in alone.models:
            for evaluation in ("test", "ood"):
                own = estimate(joined, replace(model, study=alone.name), evaluation, "accuracy")
                assert own == estimate(alone, model, evaluation, "accuracy")
    assert len(joined.models) == 8
    assert set(tables.results(joined)["study"]) == {"short", "longer"}
    assert joined.model_label(Model("byol", "probe", "x=1", "short")) == "BYOL (short, x=1) probe"


def test_each_row_of_a_table_has_its_own_key(joined: Study) -> None:
    numbers = {"value", "sd", "seeds", "at_least", "at_most", "low", "high", "n", "gain", "gain_low", "gain_high", "p"}
    for table in (changes, with_few_labels, compared, tables.per_class, tables.width, tables.runs):
        frame = table(joined)
        numbers |= {"p_holm", "p_equivalent_holm", "verdict", "paired_by", "seconds", "complete", "state", "folder"}
        keys = [column for column in frame if column not in numbers]
        assert len(frame) and not frame.duplicated(keys).any(), table.__name__


def test_the_figure_of_differences_has_a_name_for_each_line(joined: Study) -> None:
    found = [entry for family in (STUDIES, OOD_STUDIES) for entry in comparisons.comparisons(joined)[family]]
    figure = differences(joined, found)
    assert figure is not None
    rows = list(csv.DictReader(figure_csv(figure).splitlines()))
    assert rows
    assert not [row for row in rows if row["kind"] == "line" and row["series"].strip("_") == ""]


def test_the_runs_of_two_studies_are_counted_apart(tmp_path: Path) -> None:
    fakes = [FakeStudy(tmp_path / name, methods=("byol",), images=40) for name in ("one", "two")]
    for fake in fakes:
        run = fake.probe("random")
        change(run, "provenance.json", resumes=1)
        change(run, "result.json", notes=["the fit did not converge"])
    (study,) = by_data([read_study(fake.path) for fake in fakes])
    text = json.dumps([cost.section(study).blocks, training.section(study, tmp_path).blocks])
    assert "Interrupted and resumed 2 times: one/probe-random-s0 and two/probe-random-s0." in text
    assert "one/probe-random-s0 and two/probe-random-s0: the fit did not converge." in text


def test_the_first_page_of_a_joined_report_counts_each_study(tmp_path: Path) -> None:
    fakes = [FakeStudy(tmp_path / name, methods=("byol",), images=40) for name in ("one", "two")]
    for fake in fakes:
        fake.probe("random")
    (fakes[1].path / "plan.json").unlink()
    (study,) = by_data([read_study(fake.path) for fake in fakes])
    assert planned.incomplete(study) == (
        f"This report is incomplete: 1 of the {len(study.planned)} planned runs is complete. No test accuracy yet: "
        "BYOL (one)."
    )
    assert (
        "1 of the 1 runs of two that were started are complete. Missing runs are not known, because two has no usable "
        "plan.json."
    ) in planned.runs(study)
    assert "The dotted lines are the probes on the random initialisation." in json.dumps(
        front.section(study, tmp_path).blocks
    )
    (dots,) = accuracy.dots(study)
    assert all("Dotted lines: the probes on the random initialisation." in view.note for view in dots.views)
    assert accuracy._OOD not in {SYMBOLS[marker] for markers in style._MODEL_MARKERS for marker in markers}
    assert [len(view.content["layout"]["shapes"]) for view in dots.views] == [2] * len(dots.views)


def test_studies_without_a_common_run_say_so(tmp_path: Path) -> None:
    fakes = [FakeStudy(tmp_path / name, methods=("byol",), images=40) for name in ("one", "two")]
    fakes[0].probe("random")
    fakes[1].pretrain("byol")
    (study,) = by_data([read_study(fake.path) for fake in fakes])
    text = json.dumps(studies.section(study, tmp_path).blocks)
    assert "The studies have no run in common." in text
    assert "do not differ" not in text


def test_a_report_that_fails_does_not_prevent_that_of_other_images(tmp_path: Path) -> None:
    fakes = [FakeStudy(tmp_path / name, methods=("byol",), images=40) for name in ("one", "two")]
    for fake in fakes:
        fake.probe("random")
    read_other_file(fakes[1], "test_X.bin")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "one").write_text("a file in the place of the folder")
    assert main([*(str(fake.path) for fake in fakes), "--out", str(tmp_path / "out")]) == 2
    assert (tmp_path / "out" / "two" / "report.pdf").is_file()


def test_a_model_is_compared_with_itself_by_image_and_with_the_baseline_of_its_study(joined: Study) -> None:
    hits = {
        name: np.array(
            [arrays["logits"].argmax(1) == arrays["labels"] for arrays in joined.predictions(model, "test").values()]
        )
        for name in ("short", "longer")
        for model in [replace(model_of("byol-probe"), study=name)]
    }
    expected = statistics.difference(hits["longer"], hits["short"], same_images=True)
    found = {entry.first: entry for entry in comparisons.comparisons(joined)[STUDIES]}
    entry = found[Model("byol", "probe", study="longer")]
    assert entry.second == Model("byol", "probe", study="short")
    assert (entry.difference.value, entry.difference.low, entry.difference.p) == (
        expected.value, expected.low, expected.p,
    )  # fmt: skip
    assert entry.difference.paired_by == "images"
    assert len(found) == len(comparisons.comparisons(joined)[OOD_STUDIES]) == 4
    corrected = statistics.holm([entry.difference.p or 0 for entry in found.values()])
    assert [entry.p_holm for entry in found.values()] == corrected
    for study in ("short", "longer"):
        assert comparisons.baseline(joined, Model("byol", "probe", study=study)) == Model("supervised", study=study)
    gains = few_labels.gains(few_labels.points(joined))
    for gain in gains:
        own, scratch = (
            few_labels.points(joined)[model][gain.labels_per_class].hits.mean()
            for model in (gain.model, Model("supervised", study=gain.model.study))
        )
        assert gain.difference.value == pytest.approx(own - scratch)


def test_seeds_are_paired_only_where_the_encoders_are_equal(tmp_path: Path) -> None:
    fakes = [written(tmp_path / name) for name in ("short", "longer")]
    for fake in fakes:
        for seed in SEEDS:
            change(fake.path / f"pretrain-byol-s{seed}", "result.json", weights_sha256=f"equal {seed}")
            change(fake.path / f"finetune-random-s{seed}", "result.json", weights_sha256=f"{fake.path.name} {seed}")
    (study,) = by_data([read_study(fake.path) for fake in fakes])
    paired = {}
    for name in ("random-probe", "supervised", "byol-probe"):
        first, second = (replace(model_of(name), study=fake.path.name) for fake in fakes)
        gap = difference(study, first, second, "test")
        assert gap is not None
        paired[name] = gap.paired_by
    assert paired == {"random-probe": "seeds and images", "supervised": "images", "byol-probe": "seeds and images"}


@pytest.mark.parametrize(("file", "stages"), [("test_X.bin", ()), ("ood_X.bin", ("ood",))])
def test_studies_of_other_images_are_not_joined_and_each_report_says_so(
    tmp_path: Path, file: str, stages: tuple[str, ...]
) -> None:
    fakes = [written(tmp_path / name) for name in ("one", "three", "other")]
    read_other_file(fakes[2], file, *stages)
    found = by_data([read_study(fake.path) for fake in fakes])
    assert [study.name for study in found] == ["one+three", "other"]
    assert found[0].notes == (
        "other: not in this report, because the study read other images than one. No number here can be compared with "
        "those of its own report.",
    )
    assert "one: not in this report" in planned.runs(found[1])
    assert STUDIES not in comparisons.comparisons(found[1])


def test_data_that_is_not_recorded_counts_as_other_data(tmp_path: Path) -> None:
    fakes = [written(tmp_path / name) for name in ("short", "longer")]
    for fake in fakes:
        for run in fake.path.glob("*/provenance.json"):
            run.unlink()
    assert len(by_data([read_study(fake.path) for fake in fakes])) == 2


def test_two_studies_of_one_name_are_refused(folders: tuple[FakeStudy, FakeStudy]) -> None:
    study = read_study(folders[0].path)
    with pytest.raises(BadInput, match="two of the studies are called 'short': give each study once, or rename"):
        by_data([study, study])


def test_the_settings_that_differ_are_listed_with_their_runs(tmp_path: Path) -> None:
    fakes = [written(tmp_path / name) for name in ("short", "longer")]
    for file in fakes[1].path.glob("*/config.yaml"):
        config = yaml.safe_load(file.read_text())
        config["budget"]["resolution"] = 96
        if config["method"]:
            config["method"]["views"][1] = {**config["method"]["views"][1], "flip": 0.0}
        file.write_text(yaml.safe_dump(config))  # in another order of the keys
    (study,) = by_data([read_study(fake.path) for fake in fakes])
    assert studies.differing(study) == [
        ["budget.resolution", "all runs", "48", "96"],
        ["method.views.2.flip", "pretrain", "0.5", "0"],
    ]


def test_widths_of_different_settings_are_not_correlated(tmp_path: Path, joined: Study) -> None:
    assert tables.correlation(joined)["n"].max() == 6
    fakes = [written(tmp_path / name) for name in ("short", "longer")]
    for file in fakes[1].path.glob("width-*/config.yaml"):
        config = yaml.safe_load(file.read_text())
        file.write_text(yaml.safe_dump(config | {"width": config["width"] | {"images": 500}}))
    (study,) = by_data([read_study(fake.path) for fake in fakes])
    assert tables.correlation(study).empty
    with style.styled():
        text = json.dumps(width.section(study, tmp_path).blocks)
    assert "because the studies measured the widths with different settings" in text
    assert "for every model of a study; the settings of the studies differ" in text
    assert "1000 images" not in text
    assert any("measured the widths differently" in str(block) for block in limits.section(study).blocks)
    (settings,) = (block for block in provenance.section(study).blocks if block.get("name") == "settings-stages")
    assert any("images 1000 | 500" in row[1] or "images 500 | 1000" in row[1] for row in settings["rows"])


def test_settings_that_differ_between_studies_are_told_for_each(tmp_path: Path) -> None:
    fakes = [FakeStudy(tmp_path / name, methods=("byol",), images=40) for name in ("one", "two")]
    for fake, share in zip(fakes, (0.2, 0.5), strict=True):
        config = fake.probe("random") / "config.yaml"
        content = yaml.safe_load(config.read_text())
        config.write_text(yaml.safe_dump(content | {"probe": content["probe"] | {"validation_fraction": share}}))
    (study,) = by_data([read_study(fake.path) for fake in fakes])
    texts = [str(block.get("text")) for block in probe.section(study, tmp_path).blocks]
    (found,) = (text for text in texts if "holdout split of 20 %" in text)
    assert found.startswith("one: λ is chosen") and "two: λ is chosen" in found and "split of 50 %" in found


def test_the_command_makes_a_report_for_each_set_of_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fakes = [FakeStudy(tmp_path / name, methods=("byol",), images=40) for name in ("one", "two")]
    for fake in fakes:
        fake.probe("random")
    paths = [str(fake.path) for fake in fakes]
    assert main([*paths, "--out", str(tmp_path / "same")]) == 0
    assert (tmp_path / "same" / "report.pdf").is_file()
    assert "one+two" in capsys.readouterr().out
    read_other_file(fakes[1], "test_X.bin")
    assert main([*paths, "--out", str(tmp_path / "other")]) == 0
    assert all((tmp_path / "other" / name / "report.pdf").is_file() for name in ("one", "two"))
    assert "two: not in this report, because the study read other images than one." in capsys.readouterr().out
    assert main([paths[0], paths[0]]) == 2
    assert capsys.readouterr().err.startswith("analysis: two of the studies are called 'one'")
