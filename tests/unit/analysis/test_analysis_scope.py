"""Statements are made only where they are true: of which images, studies, models and swept values."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_contents import model_of, models_of, row
from fake_study import FakeStudy

from analysis import names, tables
from analysis.blocks import Section
from analysis.comparisons import OVER_PROBE, TEST, baseline, comparisons, own_probe
from analysis.few_labels import gains, points
from analysis.figures import accuracy
from analysis.names import Model
from analysis.page import shift
from analysis.reading import read_study
from analysis.sections import cost, findings, front, limits, methods, ood, training
from analysis.sections.methods import by_study
from analysis.study import Study


def texts(section: Section) -> str:
    parts = [[block["text"]] if "text" in block else block.get("items", []) for block in section.blocks]
    return " ".join(part for own in parts for part in own)


def change(run: Path, file: str, **values: Any) -> None:
    """Changes fields of a YAML or JSON file of the run."""
    content = yaml.safe_load((run / file).read_text())
    (run / file).write_text(json.dumps({**content, **values}))


def as_variant(run: Path, variant: str, **config: Any) -> None:
    """Makes the run one of a sweep."""
    change(run, "config.yaml", variant=variant, **config)
    run.rename(run.with_name(f"{run.name}-{variant}"))


@pytest.mark.parametrize(("data", "said"), [("own images (birds)", False), ("synthetic", False), ("STL-10", True)])
def test_only_numbers_on_stl10_are_compared_with_papers_about_it(
    fake: FakeStudy, tmp_path: Path, data: str, said: bool
) -> None:
    fake.data = data
    fake.probe("byol")
    fake.ood("byol-probe")
    assert ("Ghifary" in texts(ood.section(read_study(fake.path), tmp_path))) is said


def test_without_a_pretrained_model_nothing_is_said_about_the_labels_with_which_pretraining_pays(
    fake: FakeStudy,
) -> None:
    fake.few_labels("random")
    study = read_study(fake.path)
    assert gains(points(study))  # the probe on the random initialisation
    assert front._with_few_labels(study) == ""
    fake.few_labels("byol")
    assert "10 per class" in front._with_few_labels(read_study(fake.path))


def test_a_counterpart_has_the_swept_values_that_concern_it() -> None:
    fine = Model("simclr", "finetune", "temperature=0.1,epochs=10")
    known = [Model("simclr", None, variant) for variant in ("", "temperature=0.5", "temperature=0.1")]
    assert names.counterpart(fine.encoder, known) == known[2]
    assert names.counterpart(fine.encoder, known[:2]) == known[0]
    assert names.counterpart(fine.encoder, known[1:2]) is None
    assert names.counterpart(Model("simclr", None, "temperature=0.1"), [fine.encoder]) is None  # another length
    assert names.counterpart(Model("simclr", study="long"), known) is None


def test_in_a_sweep_of_the_labelled_training_models_are_compared_with_the_probe_on_their_encoder(
    fake: FakeStudy,
) -> None:
    fake.seeds = (0, 1)
    for seed in fake.seeds:
        change(fake.pretrain("simclr", seed), "result.json", weights_sha256=f"{seed}")
        fake.probe("simclr", seed)
        for epochs in (10, 20):
            for method in ("random", "simclr"):
                as_variant(fake.finetune(method, seed), f"epochs={epochs}")
    study = read_study(fake.path)
    ten, twenty = (Model("simclr", "finetune", f"epochs={epochs}") for epochs in (10, 20))
    assert own_probe(study, ten) == model_of("simclr-probe")
    assert baseline(study, ten) == Model("supervised", None, "epochs=10")
    assert study.same_encoders(ten, twenty, fake.seeds) and study.same_encoders(ten, own_probe(study, ten), [0])
    found = comparisons(study)
    finetuned = {entry.first for entry in found[TEST] if entry.first.adaptation == "finetune"}
    assert {entry.first for entry in found[OVER_PROBE]} == finetuned == {ten, twenty}


def test_models_of_different_encoders_are_not_the_same(fake: FakeStudy) -> None:
    for method in ("simclr", "byol"):
        change(fake.pretrain(method), "result.json", weights_sha256=method)
        fake.probe(method)
    study = read_study(fake.path)
    assert not study.same_encoders(*models_of("simclr-probe", "byol-probe"), [0])


def test_every_probe_on_the_random_initialisation_has_its_dotted_line(fake: FakeStudy) -> None:
    for count in (5, 9):
        as_variant(fake.probe("random"), f"l2_count={count}")
    study = read_study(fake.path)
    (axes,) = accuracy.dots(study).axes[:1]
    assert sum(line.get_linestyle() == ":" for line in axes.get_lines()) == 2
    assert front._dotted(study).startswith("The dotted lines are")


def test_the_heading_counts_the_ood_classes_that_have_images(fake: FakeStudy) -> None:
    fake.probe("byol")
    run = fake.ood("byol-probe")
    result = json.loads((run / "result.json").read_text())
    rows = [entry for entry in result["rows"] if entry.get("class") not in {"cat", "dog"}]
    rows += [
        row("ood", "accuracy", 0.0, 0, **{"class": name}) | {"value": None, "reason": "no image"}
        for name in ("cat", "dog")
    ]
    change(run, "result.json", rows=rows, substituted=[])
    headings = [column.heading for column in tables.main_columns(read_study(fake.path))]
    assert "OOD, 8 classes" in headings


def test_a_replaced_class_is_explained_only_if_there_is_one(fake: FakeStudy) -> None:
    fake.probe("byol")
    run = fake.ood("byol-probe")
    assert "a class of the models stands for one that they lack" in texts(ood.section(read_study(fake.path), fake.path))
    change(run, "result.json", substituted=[])
    found = texts(ood.section(read_study(fake.path), fake.path))
    assert "only some of the models' classes" in found
    assert "monkey" not in found


def test_the_length_of_the_labelled_training_is_named_only_for_models_that_have_one(fake: FakeStudy) -> None:
    fake.images = 2000
    fake.finetune("random")
    fake.probe("byol")  # .74 against .66
    study = read_study(fake.path)
    assert limits._labelled(study) == ""
    fake.finetune("byol")
    assert "both had 5 epochs" in limits._labelled(read_study(fake.path))


def test_a_longer_training_of_the_baseline_matters_only_if_a_fine_tuned_model_is_clearly_better(
    fake: FakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.finetune("random")
    fake.finetune("byol")
    study = read_study(fake.path)
    (entry,) = comparisons(study)[TEST]
    assert entry.difference.value > 0
    for verdict, said in (("clear", True), ("undecided", False)):
        found = {TEST: [replace(entry, verdict=verdict)]}
        monkeypatch.setattr(limits, "comparisons", lambda study, found=found: found)
        assert bool(limits._labelled(study)) is said


def test_the_trial_is_called_shorter_only_if_it_is(fake: FakeStudy, tmp_path: Path) -> None:
    run = fake.finetune("random")
    settings = yaml.safe_load((run / "config.yaml").read_text())["finetune"]
    for epochs, shorter in ((5, False), (2, True)):
        change(run, "config.yaml", finetune=settings | {"selection_epochs": epochs})
        blocks = training.section(read_study(fake.path), tmp_path).blocks
        caption = next(block for block in blocks if block.get("name") == "choices")["caption"]
        assert ("shorter than the final training" in caption) is shorter


def test_the_page_explains_the_grey_line_only_if_there_is_one() -> None:
    assert "grey line" in shift._caption(has_line=True)
    assert "grey line" not in shift._caption(has_line=False)


def test_of_many_interrupted_runs_the_first_are_named_and_the_others_counted(
    fake: FakeStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "resumes", lambda run: 2)
    for seed in range(9):
        fake.probe("byol", seed)
    text = cost._resumes(read_study(fake.path).complete())
    assert text.startswith("Interrupted and resumed 18 times: ")
    assert text.endswith("and 3 more.") and text.count(" and ") == 2  # one is of "Interrupted and resumed"


def test_a_text_that_only_some_joined_studies_have_names_them(fake: FakeStudy, tmp_path: Path) -> None:
    def study(name: str, tuned: list[str], epochs: int) -> Study:
        part = FakeStudy(tmp_path / name, methods=("supervised", "byol"))
        run = part.pretrain("byol")
        method = yaml.safe_load((run / "config.yaml").read_text())["method"]
        change(run, "config.yaml", method=method | {"tuned": tuned, "epochs": epochs})
        return read_study(part.path)

    parts = (study("long", [], 100), study("quick", ["optimizer.base_lr"], 4))
    assert "effort" not in findings.tuned(parts[1])  # the configuration has the changed values, not those tried
    joined = replace(parts[0], parts=parts)
    assert by_study(joined, methods.tuned_fields) == "quick: BYOL 1 (base lr)"
    assert by_study(joined, lambda part: "same") == "same"
    assert by_study(parts[1], methods.tuned_fields) == "BYOL 1 (base lr)"
