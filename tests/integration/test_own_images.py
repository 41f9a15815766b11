"""A user's photographs, from their folders to a report and to predictions."""

import csv
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from fake_study import DATE
from report_numbers import unexplained

from analysis import report, writing
from analysis.reading import read_study
from ssl_pkg.predict import main as predict

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "data"))
from hostile_photographs import write_photographs

PROJECT = Path(__file__).parents[2]
SMALLER = ("budget=tiny", "study.methods=[simclr]", "threads=1")


def of_the_readme(command: str) -> list[str]:
    """The words after `ssl-study` of the README's line with this command for own images."""
    text = (PROJECT / "README.md").read_text(encoding="utf-8").partition("## Your own images\n")[2]
    (line,) = re.findall(rf"^\.venv/bin/ssl-study ({command} .*?)(?: #|$)", text.partition("\n## ")[0], re.MULTILINE)
    return shlex.split(line)


def ssl_study(words: Sequence[str], cwd: Path) -> str:
    code = "import ssl_study_commands as commands; commands.study()"
    line = [sys.executable, "-P", "-c", code, *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=3000, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photographs of three classes, in which the README's lines were typed; the study is a small one."""
    folder = tmp_path_factory.mktemp("own")
    write_photographs(folder / "photos", classes=3, count=40)
    assert "train      96 images, 32 of each class" in ssl_study(of_the_readme("pack"), folder)
    assert "so the study has no ood runs" in ssl_study([*of_the_readme("study"), *SMALLER], folder)
    return folder


@pytest.mark.timeout(3600)
def test_the_readmes_line_predicts_new_photographs(folder: Path) -> None:
    write_photographs(folder / "photos-new", classes=1, count=3, start=5000)
    assert "the predictions for 3 images of photos-new" in ssl_study(of_the_readme("predict"), folder)
    assert len((folder / "predictions.csv").read_text(encoding="utf-8").splitlines()) == 1 + 3


@pytest.mark.timeout(3600)
def test_a_study_of_three_classes_without_ood_images_has_all_other_numbers(folder: Path) -> None:
    reports = folder / "reports" / "photos-quick"
    assert (reports / "report.pdf").stat().st_size > 50_000
    text = subprocess.run(["pdftotext", reports / "report.pdf", "-"], capture_output=True, text=True, check=True).stdout
    assert "the data has no out-of-distribution set" in " ".join(text.split())
    results = pd.read_csv(reports / "tables" / "results.csv")
    assert not results["evaluation"].str.contains("ood").any()
    assert {"test", "few_labels", "corruptions", "width", "knn", "tsne"} <= set(results["evaluation"])
    of_classes = results[(results["evaluation"] == "test") & results["class"].notna()]
    assert set(of_classes["class"]) == {"class00", "class01", "class02"}
    assert set(of_classes["n"]) == {8}
    assert set(results["model"]) >= {"random-probe", "simclr-probe", "simclr-finetune"}


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("model", ["probe-simclr-s0", "finetune-simclr-s0"])
def test_predictions_equal_those_of_the_study(
    folder: Path, tmp_path: Path, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = folder / "runs" / "photos-quick" / model
    accuracy = next(
        row
        for row in json.loads((run / "result.json").read_text())["rows"]
        if (row["evaluation"], row["metric"]) == ("test", "accuracy") and "class" not in row
    )
    with np.load(run / "predictions.npz") as saved:
        logits, labels = saved["logits"].astype(float), saved["labels"]
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    with (folder / "data/photos/files.csv").open(newline="") as file:
        names = [row["file"] for row in csv.DictReader(file) if row["split"] == "test"]
    for images in ("data/photos", "photos"):
        out = tmp_path / f"{images.replace('/', '-')}.csv"
        assert predict([str(run), str(folder / images), "--out", str(out)]) == 0
        printed = capsys.readouterr().out
        with out.open(newline="") as file:
            rows = {row["file"]: row for row in csv.DictReader(file)}
        assert len(rows) == {"data/photos": 24, "photos": 120}[images]
        found = [[float(rows[name][f"p(class0{label})"]) for label in range(3)] for name in names]
        assert np.abs(np.array(found) - expected).max() < 2e-6
        assert [rows[name]["predicted"] for name in names] == [f"class0{label}" for label in expected.argmax(axis=1)]
        assert [rows[name]["label"] for name in names] == [f"class0{label}" for label in labels]
        if images == "data/photos":
            value, low, high = (f"{100 * accuracy[key]:.1f}" for key in ("value", "low", "high"))
            assert f"accuracy: {value} % of 24 images with a label; 95 % interval {low} to {high} %" in printed


@pytest.mark.timeout(3600)
def test_every_number_of_the_report_is_in_one_of_its_csv_files(folder: Path, tmp_path: Path) -> None:
    study = read_study(folder / "runs" / "photos-quick")
    writing.write(study, tmp_path / "tables")
    assert unexplained(report.content(study, tmp_path, DATE), tmp_path) == []
