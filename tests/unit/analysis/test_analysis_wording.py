"""Sentences and tables say no more than the numbers show, and stay short enough to be read."""

import json
from collections import Counter
from pathlib import Path

import fake_study
import numpy as np
import pytest
import yaml
from fake_study import FakeStudy

from analysis import columns, few_labels, names, words
from analysis.blocks import Section
from analysis.comparisons import OOD, OOD_MASKED, OOD_SHARED, TEST, TEST_PAIRS, compared, comparisons
from analysis.figures import style, tsne
from analysis.names import Model
from analysis.reading import read_study
from analysis.sections import accuracy, findings, front, limits, ood, probe
from analysis.sections import comparisons as compared_section
from analysis.sections import few_labels as few_labels_section

SUPERVISED = Model("supervised")


def texts(section: Section) -> str:
    parts = [[block["text"]] if "text" in block else block.get("items", []) for block in section.blocks]
    return " ".join(part for own in parts for part in own)


def table(section: Section, name: str) -> dict[str, list[list[str]]]:
    return next(block for block in section.blocks if block["kind"] == "table" and block["name"] == name)


def test_a_long_list_shows_the_first_and_how_many_more() -> None:
    parts = [f"m{number}" for number in range(9)]
    assert names.listed(parts[:8]) == "m0, m1, m2, m3, m4, m5, m6 and m7"
    assert names.listed(parts) == names.separated(parts) == "m0, m1, m2, m3, m4, m5 and 3 more"
    with words.language("ru"):
        assert names.listed(parts) == "m0, m1, m2, m3, m4, m5 и ещё 3"


@pytest.mark.parametrize("left", [1, 2])
def test_columns_fill_the_page_and_no_word_or_number_is_wider_than_its_column(left: int) -> None:
    headings = ["Model", "Against", "Difference (points)", "p"]
    long = "SimCLR (temperature=0.05, batch_size=512) fine-tuned"
    rows = [[long, long, "+4.0 [+3.7, +11.6]", "p > .99"], ["BYOL", "Supervised", "+1.0 [+0.7, +1.6]", "p < .001"]]
    widths = columns.shares(headings, rows, 8, left)
    assert sum(widths) == pytest.approx(470)
    letter = 0.48 * 8
    assert widths[0] > letter * len("(temperature=")
    assert widths[2] > letter * len("+4.0 [+3.7, +11.6]")  # in one line
    assert widths[0] > 2 * widths[3]


def test_as_many_columns_fit_as_their_longest_word_allows() -> None:
    short, long = ["SimCLR probe"] * 9, ["SimCLR (temperature=0.05) probe"] * 9
    assert columns.fitting(short, ["1.0"], 7.5, 90, 8) == 8
    assert columns.fitting(long, ["1.0"], 7.5, 90, 8) < 8
    assert columns.fitting(short, ["205,345\u00a0±\u00a0117,557"], 7.5, 90, 8) < 6
    assert columns.fitting(["x" * 500], ["1.0"], 7.5, 90, 8) == 1


def test_comparisons_of_shared_classes_that_repeat_those_of_all_are_left_out(fake: FakeStudy, tmp_path: Path) -> None:
    fake.finetune("random")
    fake.probe("byol")
    for model in ("supervised", "byol-probe"):
        fake.ood(model)
    study = read_study(fake.path)
    assert {OOD, OOD_SHARED, OOD_MASKED} <= comparisons(study).keys()  # an image of a class stands for another one
    assert len(table(ood.section(study, tmp_path), "ood")["headings"]) == 4
    for run in fake.path.glob("ood-*"):
        result = json.loads((run / "result.json").read_text())
        whole = next(row for row in result["rows"] if row["metric"] == "accuracy" and "class" not in row)
        shared = [{**whole, "metric": f"accuracy_{kind}"} for kind in ("shared", "masked")]
        rows = [row for row in result["rows"] if not row["metric"].startswith("accuracy_")]
        (run / "result.json").write_text(json.dumps(result | {"rows": rows + shared, "substituted": []}))
    study = read_study(fake.path)
    assert {OOD_SHARED, OOD_MASKED}.isdisjoint(comparisons(study))
    section = ood.section(study, tmp_path)
    assert table(section, "ood")["headings"] == ["Model", "All classes"]
    assert "masked" not in texts(section).partition("Accuracy in and out")[0]


def test_a_model_that_a_planned_comparison_decides_is_not_called_undecided(
    fake: FakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Among all pairs of models it is, because their p-values are corrected for more comparisons."""
    monkeypatch.setitem(fake_study.SKILL, "supervised", 0.83)
    fake.images = 400
    fake.finetune("random")
    for method in ("simclr", "byol", "moco"):
        fake.probe(method)
        fake.finetune(method)
    study = read_study(fake.path)
    planned = {entry.first: entry.verdict for entry in comparisons(study)[TEST]}
    pairs = {model: compared(study, TEST_PAIRS, SUPERVISED, model) for model in planned}
    decided = [model for model, entry in pairs.items() if planned[model] == "clear" != (entry and entry.verdict)]
    assert decided  # or this test shows nothing
    open_questions = texts(limits.section(study)).split("Which model")
    sentence = next((text for text in open_questions if "highest test" in text), "")
    assert not [model for model in decided if f"{study.model_label(model)} (" in sentence]


def test_the_first_sections_say_each_sentence_once(fake: FakeStudy) -> None:
    fake.finetune("random")
    for method in ("simclr", "byol"):
        run = fake.pretrain(method)
        fake.probe(method)
        fake.finetune(method)
        fake.ood(f"{method}-probe")
        config = yaml.safe_load((run / "config.yaml").read_text())
        config["method"]["tuned"] = ["optimizer.base_lr"]
        (run / "config.yaml").write_text(yaml.safe_dump(config))
    fake.ood("supervised")
    study = read_study(fake.path)
    answers = [front.question(study), *filter(None, front.answers(study))]
    found = texts(findings.section(study)), texts(limits.section(study))
    sentences = [sentence.rstrip(".") for text in (*answers, *found) for sentence in text.split(". ")]
    assert len(sentences) > 20
    assert [sentence for sentence, count in Counter(sentences).items() if count > 1] == []
    numbers = [answer.partition(": ")[2] for answer in answers if "[" in answer]  # without the subject of the sentence
    assert len(numbers) > 2
    assert not [text for text in numbers if any(text in others for others in found)]


@pytest.mark.parametrize(("supervised", "said"), [(0.5, True), (0.97, False)])
def test_a_longer_baseline_is_an_open_question_only_below_a_pretrained_model(
    fake: FakeStudy, monkeypatch: pytest.MonkeyPatch, supervised: float, said: bool
) -> None:
    monkeypatch.setitem(fake_study.SKILL, "supervised", supervised)
    fake.finetune("random")
    fake.finetune("simclr")
    assert ("with a longer training" in texts(limits.section(read_study(fake.path)))) is said


def test_a_penalty_at_the_edge_of_its_grid_is_named(fake: FakeStudy, tmp_path: Path) -> None:
    fake.probe("byol")
    file = fake.probe("simclr") / "result.json"
    result = json.loads(file.read_text())
    for row in result["rows"]:
        if row["metric"] == "l2":
            row["value"] = 1e5
    file.write_text(json.dumps(result))
    said = texts(probe.section(read_study(fake.path), tmp_path))
    assert "at the edge of the grid, beyond which there may be a better one: SimCLR probe." in said


@pytest.mark.parametrize(("images", "said"), [(24, True), (300, False)])
def test_fewer_test_images_than_were_simulated_are_named(fake: FakeStudy, images: int, said: bool) -> None:
    fake.images = images
    fake.finetune("random")
    fake.probe("simclr")
    found = texts(compared_section.section(read_study(fake.path)))
    assert (f"only {images} test images, for which the intervals were not simulated" in found) is said


def test_a_likelihood_has_no_negative_end(fake: FakeStudy, tmp_path: Path) -> None:
    file = fake.probe("simclr") / "result.json"
    result = json.loads(file.read_text())
    for row in result["rows"]:
        if row["metric"] == "nll":
            row |= {"value": 0.5, "low": -0.1, "high": 1.1}
    file.write_text(json.dumps(result))
    (file.parent / "predictions.npz").unlink()
    with style.styled():
        rows = table(accuracy.by_class(read_study(fake.path), tmp_path), "confidence")["rows"]
    assert "0.500 [0.000, 1.100]" in rows[0]


@pytest.mark.parametrize(("draws", "said"), [(2, True), (3, False)])
def test_two_subsets_are_said_to_be_few(fake: FakeStudy, tmp_path: Path, draws: int, said: bool) -> None:
    for method in ("random", "simclr"):
        fake.few_labels(method, draws=draws)
    study = read_study(fake.path)
    assert few_labels.points(study)
    with style.styled():
        found = texts(few_labels_section.section(study, tmp_path))
    assert ("only two subsets" in found) is said


@pytest.mark.parametrize(("snapshots", "shown"), [(1, [0]), (3, [0, 1, 2]), (5, [0, 1, 2, 3, 4]), (9, [0, 2, 4, 6, 8])])
def test_frames_are_at_equal_distances(fake: FakeStudy, snapshots: int, shown: list[int]) -> None:
    run = fake.embed("simclr-finetune")
    with np.load(run / "tsne.npz") as arrays:
        changed = dict(arrays)
    changed["frames"] = np.repeat(changed["frames"][:1], snapshots, axis=0)
    changed["frame_steps"] = np.arange(snapshots)
    np.savez(run / "tsne.npz", **changed)
    with style.styled():
        figure = tsne.frames(read_study(fake.path))
    assert figure is not None
    assert [axes.get_title() for axes in figure.axes if axes.get_title()] == [f"step {step}" for step in shown]
    assert len(figure.axes) >= 4  # one frame does not fill the page
