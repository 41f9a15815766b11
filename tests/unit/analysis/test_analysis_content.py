# ruff: noqa: RUF001 (texts for people have Greek letters and minus signs)

import json
import math
from pathlib import Path
from string import Formatter
from typing import Any

import fake_study
import numpy as np
import pytest
import yaml
from fake_contents import model_of
from fake_study import DATE, FakeStudy

from analysis import report, words
from analysis.blocks import Block, Section
from analysis.comparisons import TEST, compared
from analysis.figures import curves, style
from analysis.method_texts import LABELLED, PROBE, SELF_SUPERVISED
from analysis.names import Model
from analysis.reading import read_study
from analysis.sections import cost, data, front, methods, probe, repeating, training, width
from analysis.study import Study
from ssl_pkg import conf

CONF = Path(conf.__file__).parent


def change(run: Path, file: str, **values: Any) -> None:
    """Changes fields of a YAML or JSON file of the run."""
    path = run / file
    path.write_text(json.dumps({**yaml.safe_load(path.read_text()), **values}))


def texts(section: Section) -> str:
    return " ".join(str(block.get("text", "")) for block in section.blocks)


def items(section: Section) -> list[str]:
    return [item for block in section.blocks if block["kind"] == "items" for item in block["items"]]


def table(section: Section, name: str) -> Block:
    (found,) = (block for block in section.blocks if block.get("name") == name)
    return found


def test_the_methods_of_the_study_are_explained_with_their_settings_and_no_others(fake: FakeStudy) -> None:
    fake.pretrain("moco")
    fake.pretrain("barlow")
    fake.finetune("random")
    made = methods.section(read_study(fake.path))
    parts = [block["text"] for block in made.blocks if block["kind"] == "heading"]
    assert parts == ["MoCo v2", "barlow", "Supervised baseline and fine-tuning"]
    equations = [block["math"] for block in made.blocks if block["kind"] == "equation"]
    assert equations == [*SELF_SUPERVISED["moco"].equations, *LABELLED.equations]
    assert "a queue of keys" in texts(made) and "the queue of K = 512 keys" in texts(made)
    assert "τ = 0.2: the temperature" in texts(made)
    assert "Source: The paper of barlow." in texts(made)
    assert "predict" not in texts(made)  # BYOL's
    assert "2 candidates for learning rate" in texts(made)


def test_the_exchanged_views_and_the_search_are_named_only_where_they_took_part(fake: FakeStudy) -> None:
    run = fake.pretrain("moco")
    config = yaml.safe_load((run / "config.yaml").read_text())
    for took_part in (False, True):
        model = config["method"]["model"] | {"symmetric": took_part}
        tuned = ["model.temperature"] if took_part else []
        method = config["method"] | {"model": model, "tuned": tuned}
        (run / "config.yaml").write_text(yaml.safe_dump(config | {"method": method}))
        found = texts(methods.section(read_study(fake.path)))
        assert ("The loss with exchanged views is added." in found) is took_part
        assert ("to choose the values of the pretraining that are named on the first page" in found) is took_part
        assert "False" not in found


def test_a_russian_explanation_has_the_settings_with_a_decimal_comma(fake: FakeStudy) -> None:
    fake.pretrain("moco")
    with words.language("ru"):
        made = methods.section(read_study(fake.path))
    assert "очередь из K = 512 ключей" in texts(made) and "τ = 0,2: температура" in texts(made)
    assert ["температура", "0,2"] in table(made, "settings-pretraining")["rows"]


def test_the_command_of_a_russian_report_makes_a_russian_one(fake: FakeStudy) -> None:
    fake.probe("random")
    with words.language("ru"):
        made = repeating.section(read_study(fake.path), DATE)
    assert table(made, "repeating")["rows"][-1][1]["command"].endswith(" --language ru")


@pytest.mark.parametrize("method", SELF_SUPERVISED)
def test_the_settings_that_an_explanation_names_are_fields_of_the_method(method: str) -> None:
    fields = yaml.safe_load((CONF / "method" / f"{method}.yaml").read_text())["model"]
    named = {name for _, name, _, _ in Formatter().parse(SELF_SUPERVISED[method].symbols) if name}
    assert named <= fields.keys()


@pytest.mark.parametrize("code", words.LANGUAGES)
def test_all_equations_can_be_set(fake: FakeStudy, tmp_path: Path, code: str) -> None:
    fake.finetune("random")
    fake.width("supervised")
    with words.language(code):
        with style.styled():
            made = width.section(read_study(fake.path), tmp_path)
        formulas = table(made, "width-measures") | {"origin": ""}
        made.blocks = [block for block in made.blocks if block["kind"] == "equation"]
        assert len(made.blocks) == 2
        for explanation in (*SELF_SUPERVISED.values(), LABELLED, PROBE):
            methods.explain(made, explanation, {})
    head = {
        "language": code,
        "title": "T",
        "subtitle": "",
        "data": "",
        "note": "",
        "keywords": [],
        "date": [DATE.year, DATE.month, DATE.day],
        "table": "Table",
        "reading": "",
    }
    sections = [{"title": made.title, "blocks": [*made.blocks, formulas]}]
    assert report.compile_pdf(head | {"sections": sections}).startswith(b"%PDF")


def test_the_chosen_measure_is_explained_with_the_settings_of_the_runs(fake: FakeStudy, tmp_path: Path) -> None:
    fake.finetune("random")
    run = fake.width("supervised")
    change(run, "config.yaml", width={"images": 1000, "ascent_images": 128, "ascent_steps": 20, "common_l2": 0.01})
    with style.styled():
        made = width.section(read_study(fake.path), tmp_path)
    assert "at most a fraction r = 0.00025 of itself" in texts(made)
    assert "each random part of about 128 of 1000 images" in texts(made)
    assert "projected gradient ascent in 20 steps" in texts(made)
    assert any(item.startswith("Invariance.") for item in items(made))


def test_probes_stand_beside_the_supervised_baseline(fake: FakeStudy, tmp_path: Path) -> None:
    fake.finetune("random")
    fake.probe("random")
    fake.pretrain("simclr")
    fake.probe("simclr")
    fake.finetune("simclr")
    study = read_study(fake.path)
    rows = table(probe.section(study, tmp_path), "probes")["rows"]
    assert [row[0] for row in rows] == ["Random init. probe", "Supervised", "SimCLR probe"]
    assert rows[0][3:] == rows[1][3:] == ["–", "–"]
    (own,) = (row["value"] for row in fake.written if row["model"] == "simclr-probe" and row["metric"] == "accuracy"
              and row["evaluation"] == "test" and "class" not in row)  # fmt: skip
    (base,) = (row["value"] for row in fake.written if row["model"] == "supervised" and row["metric"] == "accuracy"
               and row["evaluation"] == "test" and "class" not in row)  # fmt: skip
    assert rows[2][1].startswith(f"{100 * own:.1f} [")
    assert rows[2][3].startswith(f"{100 * (own - base):+.1f} [".replace("-", "−"))
    entry = compared(study, TEST, model_of("simclr-probe"), Model("supervised"))
    assert entry is not None and rows[2][4] == entry.verdict


def test_the_number_of_images_of_each_split_follows_from_the_files(fake: FakeStudy, tmp_path: Path) -> None:
    run = fake.probe("random")
    provenance = json.loads((run / "provenance.json").read_text())
    counts = {"train": 5_000, "test": 8_000, "unlabeled": 100_000}
    sizes = {f"{split}_X.bin": count * 96 * 96 * 3 for split, count in counts.items()}
    sizes |= {"train_y.bin": 10_000, "test_y.bin": 16_000}  # labels of more than 255 classes have two bytes
    files = {f"stl10_binary/{name}": {"bytes": size, "md5": "0"} for name, size in sizes.items()}
    change(run, "provenance.json", data=provenance["data"] | {"files": files})
    made = data.section(read_study(fake.path), tmp_path)
    assert texts(made).startswith("These are not STL-10 numbers.")
    for part in ("5,000 labelled images of train", "8,000 labelled test images", "100,000 unlabeled images"):
        assert part in texts(made)
    assert [row[0] for row in table(made, "data")["rows"]] == sorted(files)


def costs(fake: FakeStudy, **changes: Any) -> tuple[Path, Study]:
    run = fake.pretrain("simclr")  # 12 steps in batches of 256, one second each
    change(run, "provenance.json", **changes)
    return run, read_study(fake.path)


def test_the_speed_of_a_training_is_that_of_its_log(fake: FakeStudy) -> None:
    _, study = costs(fake)
    (row,) = table(cost.section(study), "speed")["rows"]
    assert row == ["SimCLR", "pretrain", "x86_64", "256"]


def test_the_hours_are_those_of_all_gpus_or_threads(fake: FakeStudy) -> None:
    hardware = {"device": "cuda", "name": "H100", "precision": "bfloat16", "threads": 8}
    run, study = costs(fake, world_size=4, hardware=hardware, resumes=2)
    (row,) = table(cost.section(study), "cost")["rows"]
    assert row == ["pretrain", "1", "10 min", "0.667", "2"]  # 600 s
    assert table(cost.section(study), "cost")["headings"][3] == "GPU hours"
    assert "Interrupted and resumed 2 times: pretrain-simclr-s0 (2 times)." in texts(cost.section(study))
    change(run, "provenance.json", hardware=hardware | {"device": "cpu"}, resumes=0)
    made = cost.section(read_study(fake.path))
    assert table(made, "cost")["rows"] == [["pretrain", "1", "10 min", "5.33", "0"]]
    assert "No run was interrupted and resumed." in texts(made)


@pytest.mark.parametrize("sharing", [1, 2])
def test_runs_that_share_a_gpu_are_named_beside_the_sum_of_gpu_hours(fake: FakeStudy, sharing: int) -> None:
    run, _ = costs(fake, hardware={"device": "cuda", "threads": 8})
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["study"] = settings.get("study", {}) | {"runs_per_gpu": sharing}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    assert ("Runs that shared a GPU" in texts(cost.section(read_study(fake.path)))) == (sharing > 1)


def test_runs_that_did_not_record_their_devices_are_counted(fake: FakeStudy) -> None:
    run = fake.probe("random")
    change(run, "provenance.json", hardware={})
    _, study = costs(fake)
    assert "of CPU threads (1 of them did not record their devices)" in texts(cost.section(study))


def test_interruptions_that_no_run_recorded_are_not_called_none(fake: FakeStudy) -> None:
    _, study = costs(fake)
    assert "Interruptions were not recorded." in texts(cost.section(study))
    assert table(cost.section(study), "cost")["rows"][0][-1] == "–"


@pytest.mark.slow
def test_the_queue_is_drawn_until_it_is_full_and_longer(fake: FakeStudy, tmp_path: Path) -> None:
    fake.pretrain("simclr")
    assert curves.details(read_study(fake.path)) is None
    run = fake.pretrain("moco")  # 512 keys in batches of 256
    with style.styled():
        figure = curves.details(read_study(fake.path))
    assert figure is not None
    loss, guess, share = (line for axes in figure.axes for line in axes.get_lines())
    written = [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    np.testing.assert_allclose(loss.get_ydata(), written)
    assert guess.get_ydata()[0] == pytest.approx(math.log(513))
    assert list(share.get_ydata())[:4] == [0.0, 0.5, 1.0, 1.0]
    assert "twice that" not in str(training.section(read_study(fake.path), tmp_path).blocks)
    config = yaml.safe_load((run / "config.yaml").read_text())["method"]
    change(run, "config.yaml", method=config | {"model": config["model"] | {"symmetric": True}})
    assert "or twice that for a symmetric loss" in str(training.section(read_study(fake.path), tmp_path).blocks)


def test_the_loss_of_a_method_without_negatives_is_drawn_with_the_deviation_of_z(fake: FakeStudy) -> None:
    run = fake.pretrain("byol")
    with style.styled():
        figure = curves.details(read_study(fake.path))
    assert figure is not None
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for axes, key in zip(figure.axes, ("loss", "z_std"), strict=True):
        (drawn,) = axes.get_lines()
        np.testing.assert_allclose(drawn.get_ydata(), [line[key] for line in lines])


@pytest.mark.parametrize(
    ("supervised", "images", "answer"),
    [
        (0.4, 1000, "With all labels, pretraining helps here. Clearly better than the supervised baseline: BYOL probe"),
        (0.74, 40, "With all labels, it is not shown that pretraining helps"),
        (0.97, 1000, "With all labels, pretraining does not help here: every pretrained model is clearly worse."),
    ],
)
def test_the_first_answer_says_in_plain_words_whether_pretraining_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, supervised: float, images: int, answer: str
) -> None:
    monkeypatch.setitem(fake_study.SKILL, "supervised", supervised)
    fake = FakeStudy(tmp_path / "study", methods=("supervised", "byol"), images=images)
    fake.finetune("random")
    fake.probe("byol")
    fake.finetune("byol")
    assert front.answers(read_study(fake.path))[0].startswith(answer)


def test_the_first_answer_is_not_about_every_model_while_a_run_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(fake_study.SKILL, "supervised", 0.97)
    fake = FakeStudy(tmp_path / "study", methods=("supervised", "byol"), images=1000)
    fake.finetune("random")
    fake.probe("byol")
    answer = front.answers(read_study(fake.path))[0]
    assert answer.startswith("With all labels, it is not shown that pretraining helps")
    fake.finetune("byol")
    assert "every pretrained model is clearly worse" in front.answers(read_study(fake.path))[0]
