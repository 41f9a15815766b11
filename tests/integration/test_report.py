import json
import re
import shutil
import subprocess
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
from fake_contents import models_of
from fake_reports import Built
from fake_study import AWKWARD, DATE, FakeStudy
from scipy.stats import binomtest

from analysis import data, few_labels, planned, report, tables, words
from analysis.comparisons import TEST, comparisons
from analysis.estimates import difference
from analysis.figures import style
from analysis.reading import read_study
from analysis.sections import accuracy, findings, front, methods, provenance
from jobs.plan.graph import Job

FIGURES = {
    "accuracy", "curves-pretraining", "curves-details", "curves-health", "curves-probe", "curves-finetuning",
    "tsne", "tsne-finetuning",
    "per-class", "confusion-test", "confusion-ood", "reliability", "corruptions", "test-against-ood",
    "few-labels", "landscape-line", "landscape-plane", "width-accuracy", "width-correlations",
}  # fmt: skip


def _pages(pdf: bytes) -> int:
    return max(int(count) for count in re.findall(rb"/Type\s*/Pages.*?/Count\s+(\d+)", pdf, re.DOTALL))


def test_a_whole_study_gives_every_part_of_the_report(built: Built) -> None:
    pdf = built.pdf.read_bytes()
    assert pdf.startswith(b"%PDF")
    assert 9 <= _pages(pdf) <= 24
    assert {path.stem for path in (built.out / "figures").glob("*.pdf")} == FIGURES
    assert {path.stem for path in (built.out / "figures").glob("*.png")} == FIGURES
    names = {path.name for path in (built.out / "tables").iterdir()}
    both = {f"{table}.{kind}" for table in ("summary", "width", "per_class", "runs") for kind in ("csv", "md")}
    assert both | {"results.csv"} <= names


def test_nothing_in_a_figure_is_smaller_than_seven_points(built: Built) -> None:
    assert min(built.font_sizes) >= 7


def test_markup_in_a_name_is_printed_literally(built: Built) -> None:
    if shutil.which("pdftotext") is None:
        pytest.skip("pdftotext is not installed: the text of the PDF can't be read")
    text = subprocess.run(["pdftotext", "-raw", built.pdf, "-"], capture_output=True, text=True, check=True).stdout
    assert style.shortened([AWKWARD])[0] in text  # axes of the figures, drawn by matplotlib
    content = {"kind": "text", "text": AWKWARD}
    table = {"kind": "table", "headings": [AWKWARD], "rows": [[AWKWARD]], "caption": AWKWARD, "origin": AWKWARD}
    blocks = [content, table | {"size": 9, "left": 1, "widths": []}, {"kind": "items", "items": [AWKWARD], "size": 10}]
    head = {"title": AWKWARD, "subtitle": "", "keywords": [], "data": "", "note": AWKWARD, "language": "en"}
    head |= {"table": "Table", "reading": "How to read:"}
    sections = [{"title": AWKWARD, "blocks": blocks}]
    pdf = report.compile_pdf(head | {"date": [2026, 1, 2], "sections": sections})
    printed = subprocess.run(
        ["pdftotext", "-raw", "-", "-"], input=pdf, capture_output=True, check=True
    ).stdout.decode()
    assert printed.count(AWKWARD) == 9


def test_a_report_of_one_run_names_the_missing_runs(fake: FakeStudy, tmp_path: Path) -> None:
    fake.finetune("random")
    (fake.path / "finetune-random-s0" / "provenance.json").unlink()
    study = read_study(fake.path)
    pdf = report.build(study, tmp_path / "out", DATE)
    assert pdf.read_bytes().startswith(b"%PDF")
    with style.styled():
        note = front.section(study, tmp_path).blocks[0]
    assert note == {
        "kind": "note",
        "text": "This report is incomplete: 1 of the 47 planned runs is complete. No test accuracy yet: SimCLR, BYOL "
        "and MoCo v2. The command of the study runs the missing ones and then makes the report again.",
    }
    assert planned.runs(study).startswith("Missing: pretrain (3), probe (4), finetune (3), ")


@pytest.mark.parametrize("damaged", [[], 1, ["x"]])
def test_code_and_hardware_are_those_of_all_starts(fake: FakeStudy, damaged: object) -> None:
    fake.finetune("random")
    file = fake.path / "finetune-random-s0" / "provenance.json"
    last = json.loads(file.read_text())
    first = last | {"commit": "aaaa", "hardware": last["hardware"] | {"name": "Z80"}}
    for starts, code in (([first, last], "0123456789ab and aaaa"), (damaged, "0123456789ab")):
        file.write_text(json.dumps(last | {"starts": starts}))
        facts = dict(provenance.facts(read_study(fake.path)))
        assert facts["Code"] == code
        assert ("Z80" in facts["Hardware"]) == (starts != damaged)


def test_the_first_page_says_how_often_a_training_passed_over_few_images(fake: FakeStudy, tmp_path: Path) -> None:
    runs = {"unlabeled": fake.pretrain("simclr"), "train": fake.finetune("random")}
    with style.styled():
        assert "Few images" not in json.dumps(front.section(read_study(fake.path), tmp_path).blocks)
    for split, run in runs.items():
        length = {"split": split, "images": 96, "batch_size": 64, "epochs": 4, "passes": 75, "steps": 300}
        result = json.loads((run / "result.json").read_text())
        (run / "result.json").write_text(json.dumps(result | {"training": length}))
    study = read_study(fake.path)
    with style.styled():
        (items,) = (block["items"] for block in front.section(study, tmp_path).blocks if block["kind"] == "items")
    assert items[-1] == (
        "Few images: an epoch passes 75 times over the 96 images of unlabeled (pretraining) and 75 times over the 96 "
        "images of train (training on labels), because it would otherwise have few steps."
    )
    recipe = next(block["rows"] for block in methods.section(study).blocks if block["kind"] == "table")
    assert ["passes over the split in an epoch", "75"] in recipe
    assert ["steps", "300"] in recipe


@pytest.mark.parametrize("images", [24, 92, 94])
def test_the_first_page_says_what_few_test_images_mean(fake: FakeStudy, tmp_path: Path, images: int) -> None:
    fake.images = images
    fake.finetune("random")
    interval = binomtest(images // 2, images).proportion_ci(method="wilson")
    expected = (
        f"Few test images: on {images}, an accuracy of 50 % has a 95 % interval of {100 * interval.low:.0f} to "
        f"{100 * interval.high:.0f} %."
    )
    answers = front.answers(read_study(fake.path))
    assert (expected in answers) == (interval.high - interval.low > 0.2)
    assert not any("Few out-of-distribution" in answer for answer in answers)
    fake.ood("supervised")
    with words.language("ru"):
        found = [answer for answer in front.answers(read_study(fake.path)) if f"мало ({images})" in answer]
    assert len(found) == (2 if interval.high - interval.low > 0.2 else 0)


def test_the_first_page_answers_the_question_with_numbers_and_a_figure(fake: FakeStudy, tmp_path: Path) -> None:
    fake.images, fake.methods = 400, ("supervised", "simclr")
    fake.finetune("random")
    fake.pretrain("simclr")
    fake.finetune("simclr")
    fake.few_labels("random", skills={(10, "probe"): 0.3, (10, "finetune"): 0.3})
    fake.few_labels("simclr", skills={(10, "probe"): 0.8, (10, "finetune"): 0.3, (50, "finetune"): 0.9})
    study = read_study(fake.path)
    with style.styled():
        incomplete, question, answers, figure, missing = front.section(study, tmp_path).blocks
    assert incomplete["text"].startswith("This report is incomplete: 5 of the 23 planned runs are complete. ")
    assert question["text"].startswith(
        "ResNet-18 networks were trained and tested on these images (synthetic images, 10 classes, 48 px). What was "
        "asked: does pretraining without labels (SimCLR) help"
    )
    assert "the same network trained on the labels alone and a random one" in question["text"]
    helps, best, finetuned, few = answers["items"]
    assert helps.startswith(
        "With all labels, pretraining helps here. Clearly better than the supervised baseline: SimCLR fine-tuned. Each "
        "model has one seed, so every comparison is one of these trained networks and not of the methods: "
    )
    assert best.startswith("Test accuracy in percent: SimCLR fine-tuned is highest with 7")
    assert (
        "Fine-tuned against supervised, p corrected for all comparisons with the baseline, test accuracy, in points: "
        "clearly above" in finetuned
    )
    gain = next(gain for gain in few_labels.gains(few_labels.points(study)) if gain.model.name == "simclr-probe")
    finetuned_gain = difference(study, *models_of("simclr-finetune", "supervised"), "test")
    assert finetuned_gain is not None
    compared = comparisons(study)[TEST][0]
    assert compared.p_holm is not None
    assert few == (
        "Gains over supervised training from scratch in points, by number of labels (clear differences only): with 10 "
        f"per class, SimCLR probe {tables.gain_text(gain.difference)} ({tables.p_text(gain.p_holm)}); with all labels, "
        f"SimCLR fine-tuned {tables.gain_text(finetuned_gain)} ({tables.p_text(compared.p_holm)})."
    )
    assert figure["path"] == str(tmp_path / "accuracy.svg")
    assert missing["text"].startswith("Missing: ")


def test_the_same_study_and_date_give_the_same_bytes(fake: FakeStudy, tmp_path: Path) -> None:
    fake.probe("random")
    first, second = (report.build(read_study(fake.path), tmp_path / name, DATE).parent for name in ("first", "second"))
    for path in sorted(first.rglob("*.*")):
        other = second / path.relative_to(first)
        assert path.read_bytes() == other.read_bytes(), path.name


def test_a_report_lacks_a_run_that_completes_while_it_is_made(fake: FakeStudy, tmp_path: Path) -> None:
    fake.probe("random")
    out = tmp_path / "out"
    job = Job("report", "report", (str(fake.path), "--out", str(out)), (), out)
    study = read_study(fake.path)
    late = fake.probe("byol")
    report.build(study, out, DATE)
    assert not job.complete
    shutil.rmtree(late)
    assert job.complete


def test_figures_do_not_change_matplotlibs_settings(built: Built) -> None:
    assert built.pdf.is_file()
    assert mpl.rcParams["text.parse_math"] is True
    with style.styled():
        assert mpl.rcParams["text.parse_math"] is False


def test_a_report_on_own_images_says_so_on_its_first_page_and_in_its_main_table(fake: FakeStudy) -> None:
    fake.data = "own images (birds)"
    fake.probe("random")
    study = read_study(fake.path)
    page = front.title(study, DATE)
    assert page["note"] == ""  # nobody takes photographs of birds for STL-10
    assert page["data"] == "data: own images (birds)"
    assert front.question(study).endswith(f" {data.data_note(study)}")
    assert "The images are own images (birds), packed photographs." in data.data_note(study)
    captions = [block.get("caption", "") for block in accuracy.section(study).blocks]
    assert any("in percent on own images (birds)." in caption for caption in captions)


@pytest.mark.parametrize("split", ["unlabeled", "train"])
def test_the_first_sentence_says_what_was_trained_on_which_images(fake: FakeStudy, split: str) -> None:
    fake.data = "stand-in"
    run = fake.pretrain("simclr")
    fake.ood("simclr-probe")
    for file, key, change in (
        ("result.json", "training", {"split": split}),
        ("provenance.json", "data", {"files": files(train=4748, test=3262, unlabeled=20_000)}),
    ):
        content = json.loads((run / file).read_text())
        (run / file).write_text(json.dumps(content | {key: content[key] | change}))
    counts = {
        "unlabeled": "20,000 without labels for pretraining, 4,748 with labels for probes, fine-tuning and supervised "
        "training, 3,262 for test and 100 out of distribution.",
        "train": "4,748 with labels for probes, fine-tuning and supervised training, and without them for pretraining, "
        "3,262 for test and 100 out of distribution.",
    }
    assert front.question(read_study(fake.path)).startswith(
        "ResNet-18 networks were trained and tested on these images (stand-in images, 10 classes, 48 px): "
        + counts[split]
    )


def files(**sizes: int) -> dict[str, dict[str, int]]:
    return {f"stl10_binary/{split}_X.bin": {"bytes": 3 * 96 * 96 * size} for split, size in sizes.items()}


def test_answers_call_a_difference_clear_only_if_it_is(fake: FakeStudy) -> None:
    fake.images = 400
    fake.finetune("random")
    fake.pretrain("simclr")
    fake.probe("random")
    fake.finetune("simclr")  # .76 against .66
    sentences = front.answers(read_study(fake.path))
    assert any("clearly above: SimCLR" in sentence for sentence in sentences)
    run = fake.finetune("byol")
    for name in ("predictions.npz", "result.json"):
        shutil.copy(fake.path / "finetune-simclr-s0" / name, run / name)
    result = json.loads((run / "result.json").read_text())
    (run / "result.json").write_text(json.dumps(result | {"method": "byol", "model": "byol-finetune"}))
    best = next(text for text in front.answers(read_study(fake.path)) if text.startswith("Test accuracy"))
    assert best.endswith("p > .99 (corrected for all pairs of models): equivalent.")


@pytest.mark.parametrize(("planned", "tested"), [((0, 1, 2), (0,)), ((0,), (0, 1)), ((0, 1), ()), ((0, 1), (0, 1))])
def test_sentences_about_seeds_follow_from_the_seeds_with_a_test_accuracy(
    fake: FakeStudy, tmp_path: Path, planned: tuple[int, ...], tested: tuple[int, ...]
) -> None:
    fake.seeds = planned
    fake.pretrain("simclr", 0)
    for seed in tested:
        fake.finetune("random", seed)
    fake.probe("byol", 1).joinpath("result.json").unlink()
    study = read_study(fake.path)
    assert study.seeds_tested == len(tested)
    with style.styled():
        blocks = [findings.section(study).blocks, accuracy.section(study).blocks, front.section(study, tmp_path).blocks]
        text = json.dumps(blocks, ensure_ascii=False)
    several = len(tested) > 1
    assert ("95 % intervals over seeds and test images" in text) is several
    assert ("95 % intervals over the test images, of one seed" in text) is (len(tested) == 1)
    assert ("Each model has one seed" in text) is (len(tested) == 1)


def test_extreme_numbers_do_not_break_a_figure(fake: FakeStudy, tmp_path: Path) -> None:
    fake.finetune("random")
    run = fake.width("supervised")
    flat = np.zeros(5)
    np.savez(run / "landscape.npz", alphas=flat, loss=flat, accuracy=flat, grid=np.arange(3), plane=np.zeros((3, 3)))
    embed = fake.embed("supervised")
    points, labels = np.zeros((3, 2)), np.array([0, 1, 11])
    np.savez(embed / "tsne.npz", train=points, train_labels=labels, test=points, test_labels=labels)
    assert report.build(read_study(fake.path), tmp_path / "out", DATE).is_file()
