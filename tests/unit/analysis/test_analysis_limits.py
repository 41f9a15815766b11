"""The section on what can't be concluded: about which images, and about the width of the optimum."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_study import FakeStudy

from analysis import correlation
from analysis.measures import chosen
from analysis.reading import read_study
from analysis.sections import limits
from analysis.study import Study
from analysis.widths import widths_of


def change(run: Path, file: str, **values: Any) -> None:
    """Changes fields of a YAML or JSON file of the run."""
    path = run / file
    path.write_text(json.dumps({**yaml.safe_load(path.read_text()), **values}))


def sentences(study: Study) -> list[str]:
    return [item for block in limits.section(study).blocks for item in block.get("items", [])]


def about_width(study: Study) -> list[str]:
    return [text for text in sentences(study) if "optimum" in text]


def test_images_of_stl10_are_not_denied_for_other_images_out_of_distribution(fake: FakeStudy) -> None:
    fake.data = "STL-10"
    fake.finetune("random")
    fake.data = "stand-in"
    fake.ood("supervised")
    first, second, *_ = sentences(read_study(fake.path))
    assert first == "How the models compare on other images than STL-10."
    assert second.startswith(
        "How the models compare on CIFAR-10 or other OOD images: for OOD, this study used stand-in images."
    )
    assert "STL-10" not in second


@pytest.mark.parametrize("target", ["test", "gap"])
def test_a_relation_to_the_gap_is_no_relation_to_accuracy(
    fake: FakeStudy, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    for method in ("simclr", "byol"):
        for model in (fake.probe(method), fake.finetune(method)):
            fake.width(f"{method}-{model.name.partition('-')[0]}")
    study = read_study(fake.path)
    measure = chosen(widths_of(study))
    assert measure is not None
    found = [
        correlation.Correlation(measure, name, "all", -0.9, -0.99, -0.5, 0.001, 4, 0.01 if name == target else 0.5)
        for name in ("test", "gap")
    ]
    monkeypatch.setattr(limits, "correlations", lambda study: found)
    (said,) = about_width(study)
    assert ("over 4 models no correlation with test or OOD accuracy is significant" in said) == (target == "gap")
    assert ("is a cause of accuracy" in said) == (target == "test")


def test_models_of_equal_accuracy_are_not_called_too_few(fake: FakeStudy) -> None:
    for method in ("simclr", "byol"):
        for model in (fake.probe(method), fake.finetune(method)):
            fake.width(f"{method}-{model.name.partition('-')[0]}")
            result = json.loads((model / "result.json").read_text())
            for row in result["rows"]:
                if (row["evaluation"], row["metric"]) == ("test", "accuracy"):
                    row["value"] = 0.5
            (model / "result.json").write_text(json.dumps(result))
    (said,) = about_width(read_study(fake.path))
    assert "all models have the same width or the same accuracy" in said
    few = FakeStudy(fake.path.with_name("few"), methods=("byol",), images=100)
    few.probe("byol")
    few.width("byol-probe")
    (said,) = about_width(read_study(few.path))
    assert "there are too few models" in said


def test_what_the_numbers_leave_open_is_said(fake: FakeStudy) -> None:
    fake.finetune("random")
    for method in ("simclr", "byol"):
        run = fake.pretrain(method)
        fake.probe(method)
        config = yaml.safe_load((run / "config.yaml").read_text())
        tuned = {"simclr": [], "byol": ["optimizer.base_lr"]}[method]
        change(run, "config.yaml", method=config["method"] | {"tuned": tuned})
    found = sentences(read_study(fake.path))
    assert found[0].startswith("How the models compare on STL-10 or other images: this study used synthetic images.")
    assert "SimCLR and BYOL had the reduced budget “fake” (4 epochs in batches of 256, at 48 px)." in found[1]
    assert found[2] == "How much other seeds would change the numbers: each model has one seed."
    assert (
        found[3]
        == "Whether another search of the pretraining's hyperparameters would give another order of the methods."
    )
    assert any(item.startswith("Which model has the highest test accuracy. ") for item in found)

    change(run, "config.yaml", method=config["method"] | {"epochs": 8})
    each = "(SimCLR: 4 epochs in batches of 256, at 48 px; BYOL: 8 epochs in batches of 256, at 48 px)."
    found = sentences(read_study(fake.path))
    assert [item for item in found if "reduced budget" in item] == [found[1]]
    assert found[1].endswith(f"SimCLR and BYOL had the reduced budget “fake” {each}")


def test_a_clear_winner_of_many_seeds_on_stl10_leaves_little_open(fake: FakeStudy) -> None:
    fake.images, fake.data = 2000, "STL-10"
    for seed in range(3):
        run = fake.pretrain("simclr", seed)
        change(run, "config.yaml", budget={"name": "photos", "resolution": 96, "ssl_epochs": 200, "max_steps": None})
        fake.finetune("random", seed)
        fake.finetune("simclr", seed)  # .76 against .66
    found = sentences(read_study(fake.path))
    assert found == [
        "How the models compare on other images than STL-10.",
        "How the methods compare after longer pretraining, or with larger images: SimCLR had the budget “photos” (4 "
        "epochs in batches of 256, at 96 px).",
        "Whether the supervised baseline would reach the pretrained models with a longer training: both had 5 epochs "
        "on the labels.",
    ]
