"""What the report leaves out, and says, for a study on few images or of few steps."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from fake_study import FakeStudy

from analysis.figures import classes, curves, style
from analysis.page.accuracy import few_labels as few_labels_on_page
from analysis.page.classes import per_class as heat_map_on_page
from analysis.page.classes import reliability as reliability_on_page
from analysis.reading import read_study
from analysis.sections import accuracy, few_labels, training

ONE_SIZE = {(10, "probe"): 0.5, (10, "finetune"): 0.6}


@pytest.mark.slow
def test_reliability_is_drawn_only_from_bins_with_ten_images(fake: FakeStudy, tmp_path: Path) -> None:
    run = fake.finetune("random")
    labels = np.arange(24) % 3
    confident = np.where(np.eye(3)[labels] > 0, 9.0, 0.0)
    for sure, drawn in ((24, False), (16, False), (12, True)):  # 24, 16 and 8, 12 and 12 images in a bin
        logits = np.where(np.arange(24)[:, None] < sure, confident, confident / 9)
        np.savez(run / "predictions.npz", logits=logits.astype(np.float32), labels=labels)
        result = json.loads((run / "result.json").read_text())
        (run / "result.json").write_text(json.dumps(result | {"classes": ["a", "b", "c"]}))
        study = read_study(fake.path)
        with style.styled():
            figure = classes.reliability(study)
            text = json.dumps(accuracy.by_class(study, tmp_path).blocks)
        assert (figure is not None) is drawn
        assert [plot.name for plot in reliability_on_page(study)] == ["reliability"] * drawn
        assert ("There is no reliability diagram" in text) is not drawn
        assert ("Reliability diagrams" in text) is drawn
    assert figure is not None
    assert [entry.get_text() for entry in figure.legends[0].get_texts()] == ["test"]  # there is no OOD set


def test_the_pdf_and_the_page_round_alike(fake: FakeStudy) -> None:
    run = fake.finetune("random")
    result = json.loads((run / "result.json").read_text())
    shares = {name: (2 * place + 1) / 16 for place, name in enumerate(fake.classes[:8])}  # 6.25 %, 18.75 %, and so on
    for row in result["rows"]:
        if row["metric"] == "accuracy" and row.get("class") in shares:
            row["value"] = {**shares, fake.classes[7]: 0.625, fake.classes[6]: 0.375}[row["class"]]
    (run / "result.json").write_text(json.dumps(result))
    study = read_study(fake.path)
    with style.styled():
        figure = classes.heat_maps(study)
    assert figure is not None
    drawn = [text.get_text() for text in figure.axes[0].texts]
    (plot,) = heat_map_on_page(study)
    (row,) = plot.views[0].content["data"][0]["text"]
    assert list(row) == drawn
    assert {"62", "38"} <= set(drawn)


def test_long_names_of_classes_stay_different() -> None:
    assert style.shortened(["cat", "golden retriever"]) == ["cat", "golden retrie…"]
    names = [f"a rather long class name {number}" for number in range(40)]
    assert len(set(style.shortened(names))) == 40
    assert {len(name) for name in style.shortened(names)} == {14}


@pytest.mark.parametrize("sizes", [(10,), (10, 50)])
def test_numbers_of_labels_that_train_has_not_are_named_and_a_curve_has_two(
    fake: FakeStudy, tmp_path: Path, sizes: tuple[int, ...]
) -> None:
    skills = {key: value for size in sizes for key, value in {(size, "probe"): 0.5, (size, "finetune"): 0.6}.items()}
    run = fake.few_labels("random", skills=skills)
    file = run / "config.yaml"
    settings = {"few_labels": {"labels_per_class": [10, 50]}}
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | settings))
    study = read_study(fake.path)
    with style.styled():
        blocks = few_labels.section(study, tmp_path).blocks
    lacking = "Left out: 50 labels per class, because a class of train has fewer images."
    assert (lacking in [block.get("text") for block in blocks]) is (len(sizes) == 1)
    assert ("figure" in [block["kind"] for block in blocks]) is (len(sizes) == 2)
    assert len(few_labels_on_page(study)) == len(sizes) - 1


def test_a_note_of_several_runs_is_one_line(fake: FakeStudy, tmp_path: Path) -> None:
    runs = [*(fake.probe(method) for method in ("random", "simclr")), fake.few_labels("random", skills=ONE_SIZE)]
    for run in runs:
        result = json.loads((run / "result.json").read_text())
        (run / "result.json").write_text(json.dumps(result | {"notes": ["50 labels are left out"]}))
    with style.styled():
        blocks = training.section(read_study(fake.path), tmp_path).blocks
    (notes,) = (block["items"] for block in blocks if block["kind"] == "items")
    assert notes == ["probe-random-s0 and probe-simclr-s0: 50 labels are left out."]  # few labels have their section


def test_curves_of_one_epoch_have_an_axis_from_the_start_to_the_end_of_it(fake: FakeStudy) -> None:
    run = fake.pretrain("simclr")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    (run / "metrics.jsonl").write_text(json.dumps(lines[0] | {"epoch": 1.0}) + "\n")
    with style.styled():
        figure = curves.pretraining(read_study(fake.path))
    assert figure is not None
    figure.draw_without_rendering()
    low, high = figure.axes[0].get_xlim()
    assert (low, [tick for tick in figure.axes[0].get_xticks() if tick <= high]) == (0, [0, 1])
    assert 1 < high < 1.1
