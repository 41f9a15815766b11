"""The report names everything that is missing with its reason, and is built all the same."""

import json
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_contents import model_of
from fake_study import DATE, FakeStudy

from analysis import report, tables
from analysis.__main__ import main
from analysis.figures import classes, style
from analysis.joining import by_data
from analysis.reading import read_study
from analysis.sections import accuracy, front, images, missing
from ssl_pkg.data.contact_sheet import WIDTH, contact_sheet
from ssl_pkg.data.fonts import SIZE
from ssl_pkg.data.images import Split
from ssl_pkg.rows import unmeasured

WHY = "the logits of 3 of 100 images are not finite"


def make_null(run: Path, *evaluations: str) -> None:
    """Sets every number of these evaluations to null, as for a model that diverged."""
    result = json.loads((run / "result.json").read_text())
    for row in result["rows"]:
        if row["evaluation"] in evaluations:
            row.update(value=None, low=None, high=None, reason=WHY)
    (run / "result.json").write_text(json.dumps(result))


def fail(fake: FakeStudy, name: str, *lines: str) -> None:
    log = fake.path / "logs" / f"{name}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("\n".join([*lines, ""]))


def other_data(run: Path, root: str = "/data/other", **files: Any) -> None:
    provenance = json.loads((run / "provenance.json").read_text())
    provenance["data"] = {"name": "stand-in", "root": root, "files": files}
    (run / "provenance.json").write_text(json.dumps(provenance))


def text(blocks: list[dict[str, Any]]) -> str:
    return json.dumps(blocks, ensure_ascii=False)


@pytest.mark.slow
def test_a_report_of_models_without_numbers_says_why(
    fake: FakeStudy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.finetune("random")
    for run in (fake.probe("random"), fake.ood("supervised")):
        make_null(run, "test", "ood", "validation")
    make_null(fake.width("supervised"), "width")
    empty = fake.embed("supervised")
    make_null(empty, "knn")
    np.savez(empty / "tsne.npz")
    result = json.loads((empty / "result.json").read_text())
    result["rows"].append(unmeasured("tsne", "map", 60, "all equal"))
    (empty / "result.json").write_text(json.dumps(result))
    out = tmp_path / "out"
    assert main([str(fake.path), "--out", str(out), "--date", DATE.isoformat()]) == 0
    assert (out / "report.pdf").is_file()
    study = read_study(fake.path)
    assert study.notes == ()  # the rows of the results say why the arrays are missing
    found = missing.unmeasured(study)
    metrics = "accuracy, mean_class_accuracy, accuracy on airplane, accuracy on bird and 10 other numbers"
    assert f"Random init. probe: no {metrics} (test), because {WHY}." in found
    assert "Supervised: no map (tsne), because all equal." in found
    assert any("(width)" in sentence for sentence in found)
    frame = tables.width(study)
    assert len(frame) == 24
    assert frame["value"].isna().all()
    assert "numbers could not be computed" in capsys.readouterr().out
    assert "numbers could not be computed" in (out / "tables" / "summary.md").read_text()
    assert WHY in (out / "tables" / "results.csv").read_text()


def test_models_with_fewer_seeds_are_named(fake: FakeStudy) -> None:
    fake.seeds = (0, 1)
    for seed in fake.seeds:
        fake.finetune("random", seed)
        last = fake.probe("simclr", seed)
    fake.probe("byol")
    make_null(last, "test")
    study = read_study(fake.path)
    sentence = "fewer seeds than the study's 2: SimCLR probe 1 and BYOL probe 1."
    assert sentence in study.seeds_text
    assert sentence in front.answers(study)[0]
    with style.styled():
        blocks = accuracy.section(study).blocks
    assert sentence in next(block["caption"] for block in blocks if block["kind"] == "table")


def test_a_class_without_test_images_keeps_its_column(fake: FakeStudy) -> None:
    run = fake.finetune("random")
    result = json.loads((run / "result.json").read_text())
    for row in result["rows"]:
        if row.get("class") == "deer":
            row.update(value=None, low=None, high=None, n=0, reason="there are no images of this class")
    (run / "result.json").write_text(json.dumps(result))
    study = read_study(fake.path)
    frame = tables.per_class(study)
    (deer,) = frame[(frame["class"] == "deer") & (frame["evaluation"] == "test")].to_dict("records")
    assert (deer["n"], deer["seeds"]) == (0, 0)
    assert np.isnan(deer["value"])
    with style.styled():
        figure = classes.heat_maps(study)
    assert figure is not None
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == list(fake.classes)
    assert [cell.get_text() for cell in figure.axes[0].texts][4] == tables.ABSENT
    assert missing.unmeasured(study) == [
        "Supervised: no accuracy on deer (test), because there are no images of this class."
    ]


def test_a_number_without_a_value_is_named_with_its_dimensions(fake: FakeStudy) -> None:
    run = fake.finetune("random")
    result = json.loads((run / "result.json").read_text())
    result["rows"] += [
        unmeasured("corruptions", "accuracy", 100, "so", {"corruption": "blur", "severity": 3}),
        unmeasured("width", "width", 100, "so", {"measure": "keskar", "scope": "head", "normalized": False}),
    ]
    (run / "result.json").write_text(json.dumps(result))
    assert missing.unmeasured(read_study(fake.path)) == [
        "Supervised: no accuracy (corruption blur, severity 3) (corruptions), because so.",
        "Supervised: no Keskar sharpness (head only) (width), because so.",
    ]


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("predictions.npz", b"PK\x03\x04 torn", "predictions.npz is damaged"),
        ("predictions.npz", None, "predictions.npz is missing"),
        ("predictions.npz", {"logits": np.zeros((4, 10))}, "predictions.npz lacks labels"),
        ("predictions.npz", {"logits": np.zeros((4, 10)), "labels": np.arange(3)}, "contradicts its other arrays"),
        ("predictions.npz", {"logits": np.zeros((4, 3)), "labels": np.zeros(4, int)}, "of other classes than the run"),
        ("tsne.npz", {"train": np.zeros((4, 2))}, "tsne.npz lacks train_labels, test and test_labels"),
        ("landscape.npz", {"alphas": np.zeros((2, 2))}, "landscape.npz has alphas of shape (2, 2)"),
    ],
)
def test_an_unusable_artifact_is_named(fake: FakeStudy, file: str, content: Any, reason: str) -> None:
    stages = {"predictions.npz": fake.ood, "tsne.npz": fake.embed, "landscape.npz": fake.width}
    run = stages[file]("simclr-probe")
    (run / file).unlink()
    if isinstance(content, bytes):
        (run / file).write_bytes(content)
    elif content is not None:
        np.savez(run / file, **content)
    (note,) = read_study(fake.path).notes
    assert note.startswith(f"{run.name}: {file}")
    assert reason in note


def test_runs_on_other_data_are_named_and_excluded(fake: FakeStudy) -> None:
    fake.finetune("random")
    fake.pretrain("simclr")
    for method in ("simclr", "byol", "moco"):  # more probes than pretraining runs, but pretraining runs decide
        other_data(fake.probe(method), **{"stl10_binary/test_X.bin": {"bytes": 12345, "md5": "0"}})
    fake.ood("supervised")  # the OOD images are files of their own
    other_data(fake.path / "ood-supervised-s0", "/data/fake", **{"cifar/test_batch": {"bytes": 1, "md5": "1"}})
    large = fake.embed("supervised")
    other_data(large, **{"stl10_binary/test_X.bin": {"bytes": 12345, "md5": "7f263ba9f9e0b06b93213547f721ac82"}})
    study = read_study(fake.path)
    assert study.models == [model_of("supervised")]
    assert [run.directory.name for run in study.complete()] == [
        "pretrain-simclr-s0", "finetune-random-s0", "ood-supervised-s0", "embed-supervised-s0",
    ]  # fmt: skip
    assert [note.partition(":")[0] for note in study.notes] == ["probe-byol-s0", "probe-moco-s0", "probe-simclr-s0"]
    assert (
        "it read other data (from /data/other) than the study (from /data/fake): stl10_binary/test_X.bin"
        in study.notes[0]
    )


def test_runs_that_start_from_an_excluded_run_are_excluded(fake: FakeStudy) -> None:
    fake.finetune("random")
    fake.pretrain("simclr")
    fake.ood("supervised")
    probe, ood = fake.probe("simclr"), fake.ood("simclr-probe")
    (ood / "config.yaml").write_text(f"stage: ood\nseed: 0\nsource: {probe}\n")
    other_data(probe, **{"stl10_binary/test_X.bin": {"bytes": 12345, "md5": "0"}})
    study = read_study(fake.path)
    assert ood.name not in [run.directory.name for run in study.complete()]
    assert (
        f"{ood.name}: excluded, because it starts from {probe.name}, which read other data than the study."
        in study.notes
    )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"value": 7.5}, "test accuracy = 7.5, which is not a fraction"),
        ({"value": True}, "rows.0.value = True: Input should be a valid number"),
        ({"value": "0.9"}, "rows.0.value = '0.9': Input should be a valid number"),
        ({"metric": ["accuracy"]}, "rows.0.metric = ['accuracy']: Input should be a valid string"),
        ({"radius": "0.1"}, "rows.0.radius = '0.1': Input should be a valid number"),
        ({"colour": "red"}, "rows.0.colour = 'red': Extra inputs are not permitted"),
    ],
)
def test_a_result_with_an_impossible_row_is_not_used(fake: FakeStudy, change: dict[str, Any], reason: str) -> None:
    fake.finetune("random")
    run = fake.probe("simclr")
    result = json.loads((run / "result.json").read_text())
    row = next(row for row in result["rows"] if (row["evaluation"], row["metric"]) == ("test", "accuracy"))
    row |= change
    (run / "result.json").write_text(json.dumps(result))
    study = read_study(fake.path)
    assert run.name not in [run.directory.name for run in study.complete()]
    assert any(reason in note for note in study.notes)


def test_failed_runs_are_named_with_their_last_line(fake: FakeStudy, tmp_path: Path) -> None:
    fake.finetune("random")
    fail(
        fake,
        "embed-supervised-s0",
        ">>> first",
        "old",
        "<<< exit status 2 after 1 s",
        ">>> again",
        "boom",
        "<<< exit status -11 after 3 s",
    )
    fail(fake, "finetune-random-s0", ">>> x", "late words", "<<< exit status 1 after 1 s")  # complete since
    fail(fake, "ood-supervised-s0", ">>> x", "stopped", "<<< exit status 75 after 1 s")
    fail(fake, "width-supervised-s0", ">>> x", "still at work")
    fail(fake, "embed-supervised-s0-perplexity=x", ">>> x", "wrong", "<<< exit status 2 after 1 s")  # of no known run
    unplanned = fake.path / "embed-supervised-s7"
    unplanned.mkdir()
    (unplanned / "config.yaml").write_text("{stage: embed, seed: 7}")
    fail(fake, unplanned.name, ">>> x", "broken", "<<< exit status 1 after 1 s")
    study = read_study(fake.path)
    assert study.failed == {"embed-supervised-s0": "boom", "embed-supervised-s7": "broken"}
    assert "embed-supervised-s0 failed; its last printed line: boom" in text(missing.section(study).blocks)


@pytest.mark.slow
def test_contact_sheets_are_shown_legibly_if_they_are_pictures(fake: FakeStudy, tmp_path: Path) -> None:
    split = Split("train", np.zeros((6, 3, 96, 96), np.uint8), np.arange(6) % 3)
    sheet = contact_sheet([split], None, ["a", "b", "c"])
    for method in ("simclr", "byol"):
        run = fake.pretrain(method)
        (run / "contact_sheet.png").write_bytes(sheet if method == "byol" else sheet[:40])
    (fake.ood("supervised") / "contact_sheet.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    damaged, block, damaged_ood = images.section(read_study(fake.path), out / "figures").blocks
    assert "pretrain-simclr-s0: contact_sheet.png is damaged" in text([damaged])
    assert "ood-supervised-s0: contact_sheet.png is damaged" in text([damaged_ood])
    assert Path(block["path"]).read_bytes() == sheet
    pdf = report.build(read_study(fake.path), out, DATE).read_bytes()
    listed = subprocess.run(["pdfimages", "-list", "-"], input=pdf, capture_output=True, check=True).stdout.decode()
    (density,) = (int(row.split()[12]) for row in listed.splitlines()[2:] if f" {WIDTH} " in row)
    assert 72 * SIZE / density >= 7  # points


def test_a_landscape_that_is_not_drawn_is_named(fake: FakeStudy) -> None:
    run = fake.width("simclr-probe")
    with np.load(run / "landscape.npz") as saved:
        arrays = dict(saved)
    arrays["plane"][2, 3] = np.inf
    np.savez(run / "landscape.npz", **arrays)
    assert zipfile.is_zipfile(run / "landscape.npz")
    assert "the loss is not finite at 1 points of the plane" in text(missing.section(read_study(fake.path)).blocks)


def test_seeds_of_joined_studies_are_counted_within_each_study(tmp_path: Path) -> None:
    """One study has one seed and the other three, of which a probe lacks one: only this probe has fewer."""
    one, three = (
        FakeStudy(tmp_path / name, methods=("byol",), seeds=seeds, images=60)
        for name, seeds in (("one", (0,)), ("three", (0, 1, 2)))
    )
    for fake in (one, three):
        for seed in fake.seeds:
            fake.probe("random", seed)
        for seed in fake.seeds[:2]:
            fake.probe("byol", seed)
    (joined,) = by_data([read_study(fake.path) for fake in (one, three)])
    assert "fewer seeds than their study has: BYOL (three) probe 2 of 3." in joined.seeds_text
