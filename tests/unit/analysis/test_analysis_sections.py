# ruff: noqa: RUF001 (texts for people have superscripts and minus signs)

import json
import re
from pathlib import Path

import pytest
from fake_study import FakeStudy, model_of

from analysis.blocks import Block, Section
from analysis.figures import curves, style
from analysis.measures import Measurement
from analysis.sections import accuracy, front, sources, training, width
from analysis.study import read_study
from analysis.trials import below_probe
from ssl_pkg.catalogue import adapted
from ssl_pkg.rows import dimensions_of
from ssl_pkg.run.directory import model_name


def tables(section: Section) -> list[Block]:
    return [block for block in section.blocks if block["kind"] == "table"]


def test_choices_are_shown_only_for_more_than_one_candidate(fake: FakeStudy, tmp_path: Path) -> None:
    fake.pretrain("byol")
    fake.pretrain("simclr")
    fake.probe("byol")
    fake.finetune("byol", candidates=1)
    with style.styled():
        table, trials = tables(training.section(read_study(fake.path), tmp_path))
        assert [row[0] for row in table["rows"]] == ["BYOL probe"]
        assert table["headings"] == ["Model", "Validation accuracy (%)", "Log loss", "l2"]
        assert trials["rows"] == [["0.0003", "0.05", "off", "probe", "70.0 / 0.900 *"]]
        fake.finetune("simclr", candidates=2)
        table, trials = tables(training.section(read_study(fake.path), tmp_path))
    assert [row[0] for row in table["rows"]] == ["SimCLR fine-tuned", "BYOL probe"]
    assert table["headings"][2:] == ["Its probe (%)", "Log loss", "l2"]
    assert trials["headings"][4:] == ["SimCLR fine-tuned", "BYOL fine-tuned"]
    assert trials["rows"][1] == ["0.001", "0.05", "off", "probe", "65.0 / 1.000", "–"]


def test_the_trials_of_several_seeds_are_averaged_and_their_choices_counted(fake: FakeStudy, tmp_path: Path) -> None:
    for seed in (0, 1):
        file = fake.finetune("byol", seed) / "result.json"
        result = json.loads(file.read_text())
        if seed == 1:
            result["chosen"] = "trial 2"
            result["tried"][0] |= {"accuracy": None, "log_loss": None, "reason": "it diverged"}
            result["tried"][1] |= {"accuracy": 0.75, "log_loss": 0.8}
        file.write_text(json.dumps(result))
    with style.styled():
        *_, trials = tables(training.section(read_study(fake.path), tmp_path))
    assert [row[-1] for row in trials["rows"]] == ["70.0 / 0.900 *", "70.0 / 0.900 *"]


@pytest.mark.parametrize("own", [0.4, 0.7])
def test_a_model_below_its_own_probe_on_validation_is_named(fake: FakeStudy, own: float) -> None:
    file = fake.finetune("byol") / "result.json"
    result = json.loads(file.read_text())
    for row in result["rows"]:
        if (row["evaluation"], row["metric"]) == ("validation", "accuracy"):
            row["value"] = own
    file.write_text(json.dumps(result))
    study = read_study(fake.path)
    said = below_probe(study)
    assert ("byol fine-tuned 40.0 against 60.0" in said) == (own < 0.6)
    assert bool(said) == (own < 0.6)
    (listed,) = (block for block in front.findings(study).blocks if block["kind"] == "items")
    assert (said in listed["items"]) == bool(said)


def test_the_values_of_the_measures_can_be_read_back(fake: FakeStudy, tmp_path: Path) -> None:
    for model in ("supervised", "byol-probe"):
        fake.width(model)
    fake.pretrain("byol", complete=False)
    study = read_study(fake.path)
    with style.styled():
        _, ratios, *values = tables(width.section(study, tmp_path))
    written = {
        (Measurement(row["metric"], dimensions_of(row)).label, study.model_label(model_of(row["model"]))): row["value"]
        for row in fake.written
    }
    for label, *cells in ratios["rows"]:
        for model, cell in zip(ratios["headings"][1:], cells, strict=True):
            ratio = written[label, model] / written.pop((f"{label}, first order", model))
            assert float(cell) == pytest.approx(ratio, abs=0.0051)
    whole, head, common = values
    assert whole["headings"] == ["Measure", "Supervised", "BYOL probe"]
    assert head["headings"] == common["headings"] == ["Measure", "BYOL probe"]
    powers = set()
    for table in values:
        for label, *cells in table["rows"]:
            measure, _, unit = label.partition(", in\u00a010")
            power = int((unit or "0").translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
            powers.add(power)
            for model, cell in zip(table["headings"][1:], cells, strict=True):
                assert re.fullmatch(r"−?[0-9,]{1,6}(\.[0-9]+)?", cell)
                value = float(cell.replace(",", "").replace("−", "-")) * 10.0**power
                rounding = 0.51 * 10.0 ** (power - len(cell.partition(".")[2]))
                assert value == pytest.approx(written.pop((measure, model)), abs=rounding)
    assert not written
    assert powers == {-3, 0, 3}


@pytest.mark.parametrize(("factor", "sentence"), [(1.9, "up to radius 0.0005"), (2.1, "none of these radii")])
def test_a_radius_is_local_if_the_rise_is_at_most_twice_its_prediction(
    fake: FakeStudy, tmp_path: Path, factor: float, sentence: str
) -> None:
    run = fake.width("supervised")
    result = json.loads((run / "result.json").read_text())
    for row in result["rows"]:
        if row.get("measure") == "adaptive_worst":
            local = row["radius"] <= 0.0005 and row["normalized"]
            row["value"] = 1.0 if row["metric"] == "first_order" else factor if local else 3.0
    (run / "result.json").write_text(json.dumps(result))
    with style.styled():
        blocks = width.section(read_study(fake.path), tmp_path).blocks
    assert any(sentence in block.get("text", "") for block in blocks)


@pytest.mark.parametrize(
    ("stage", "method", "explained"),
    [("probe", "random", False), ("finetune", "random", True), ("finetune", "byol", True)],
)
def test_the_advantage_of_knn_is_explained_if_a_head_was_trained_on_crops(
    fake: FakeStudy, tmp_path: Path, stage: str, method: str, explained: bool
) -> None:
    {"probe": fake.probe, "finetune": fake.finetune}[stage](method)
    fake.embed(model_name(*adapted(method, stage)))
    with style.styled():
        text = accuracy.section(read_study(fake.path), tmp_path).blocks[0]["text"]
    assert "kNN: weighted nearest neighbours of the test images" in text
    assert ("trained on random crops" in text) is explained


def test_the_sources_list_the_papers_of_the_studys_methods_and_of_no_others(fake: FakeStudy) -> None:
    for method in ("byol", "barlow"):
        fake.pretrain(method)
    (block,) = sources.section(read_study(fake.path)).blocks
    assert block["items"][:2] == ["The paper of byol", "The paper of barlow"]
    assert not any("simclr" in item.lower() for item in block["items"])


def test_a_loss_below_zero_is_inside_its_panel(fake: FakeStudy) -> None:
    run = fake.pretrain("byol")
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines = [line | {"loss": -line["loss"]} if "loss" in line else line for line in lines]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with style.styled():
        figure = curves.pretraining(read_study(fake.path))
    assert figure
    lowest, highest = figure.axes[0].get_ylim()
    assert lowest < min(line["loss"] for line in lines if "loss" in line) < highest
