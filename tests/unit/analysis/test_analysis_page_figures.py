"""The figures of report.html show the numbers of the runs and of the tables."""

import base64
import csv
import json
from pathlib import Path

import numpy as np
import pytest
from fake_reports import Whole, swept
from fake_study import AWKWARD, DATE, FakeStudy
from page_reading import matrix, unpacked
from scipy.stats import norm

from analysis.page import accuracy, sweep
from analysis.page.build import render
from analysis.reading import read_study


def test_the_accuracy_figure_shows_the_numbers_and_intervals_of_summary_csv(whole: Whole, page: str) -> None:
    with (whole.out / "tables" / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    views = {view["label"]: view for view in unpacked(page)["plots"]["accuracy"]["views"]}
    traces = views["Test accuracy"]["data"]
    assert len(traces) == len(rows)
    for trace, row in zip(traces, rows, strict=True):
        value, low, high = (100 * float(row[key]) for key in ("test", "test_low", "test_high"))
        assert trace["x"] == [pytest.approx(value)]
        ends = trace["error_x"]
        assert value - ends["arrayminus"][0] == pytest.approx(low)
        assert value + ends["array"][0] == pytest.approx(high)
        assert f"{value:.1f} [{low:.1f}, {high:.1f}] %" in trace["hovertext"][0]
        assert "seed 0; " in trace["hovertext"][0]


def test_every_curve_of_every_run_is_drawn(whole: Whole, page: str) -> None:
    plots = unpacked(page)["plots"]
    pretrained = {run.directory.name for run in whole.study.of("pretrain")}
    finetuned = {run.directory.name for run in whole.study.of("finetune")}
    assert set(plots["pretraining"]["views"][0]["runs"]) == pretrained
    assert all(set(view["runs"]) == finetuned for view in plots["finetuning"]["views"])


def test_a_map_has_every_image_in_its_class(whole: Whole, page: str) -> None:
    plot = unpacked(page)["plots"]["tsne"]
    assert plot["classes"][0] == AWKWARD
    assert len({*zip(plot["colors"], plot["symbols"], strict=True)}) == len(plot["classes"])
    run = whole.fake.path / plot["views"][0]["runs"][0]
    arrays = np.load(run / "tsne.npz")
    train, test = plot["views"][0]["frames"]
    for frame, split in ((train, "train"), (test, "test")):
        kinds = {"u1": np.uint8, "i2": np.int16}
        x, y, classes = (
            np.frombuffer(base64.b64decode(frame[key]["bdata"]), kinds[frame[key]["dtype"]])
            for key in ("x", "y", "classes")
        )
        np.testing.assert_array_equal(classes, arrays[f"{split}_labels"])
        scale = 32_000 / np.abs(np.concatenate([arrays["train"], arrays["test"]])).max()
        np.testing.assert_allclose(np.stack([x, y], 1), arrays[split] * scale, atol=0.5)


@pytest.mark.slow
def test_a_sweep_has_an_entry_for_each_variant(tmp_path: Path) -> None:
    fake = FakeStudy(tmp_path / "sweep", methods=("simclr",), images=60, points=20)
    swept(fake, [0.1, 0.5])
    plots = unpacked(render(read_study(fake.path), DATE).decode())["plots"]
    labels = [entry["label"] for entry in plots["pretraining"]["legend"]]
    assert labels == ["SimCLR (temperature=0.1)", "SimCLR (temperature=0.5)"]
    assert len({entry["dash"] for entry in plots["pretraining"]["legend"]}) == 2
    rows = plots["accuracy"]["views"][0]["layout"]["yaxis"]["ticktext"]
    assert rows[0].replace("<br>", " ") == "SimCLR (temperature=0.1) probe"


def test_the_heat_map_shows_the_numbers_of_per_class_csv(whole: Whole, page: str) -> None:
    with (whole.out / "tables" / "per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    views = {view["label"]: view["data"][0] for view in unpacked(page)["plots"]["classes"]["views"]}
    for label, evaluation in (("Test", "test"), ("OOD", "ood")):
        values = [float(row["value"]) for row in rows if row["evaluation"] == evaluation]
        np.testing.assert_allclose(matrix(views[label]["z"]).ravel(), 100 * np.array(values), rtol=1e-6)
    first, shown = rows[0], views["Test"]["hovertext"][0][0]
    value, low, high = (100 * float(first[key]) for key in ("value", "low", "high"))
    assert f"{value:.1f} [{low:.1f}, {high:.1f}] %" in shown
    assert "seed 0; probe-random-s0" in shown


def test_a_confusion_matrix_counts_the_predictions_of_its_run(whole: Whole, page: str) -> None:
    views = {view["label"]: view for view in unpacked(page)["plots"]["confusion"]["views"]}
    for label, folder in (("Random init. probe, test", "probe-random-s0"), ("Supervised, OOD", "ood-supervised-s0")):
        with np.load(whole.fake.path / folder / "predictions.npz") as arrays:
            labels, predicted = arrays["labels"], arrays["logits"].argmax(axis=1)
        shares = [[100 * np.mean(predicted[labels == true] == other) for other in range(10)] for true in range(10)]
        np.testing.assert_allclose(matrix(views[label]["data"][0]["z"]), shares, atol=0.01)
        assert views[label]["runs"] == [folder]
        assert views[label]["data"][0]["y"][1].startswith("bird (20 predictions)")


def test_reliability_has_the_accuracy_and_the_share_of_each_bin(whole: Whole, page: str) -> None:
    view = unpacked(page)["plots"]["reliability"]["views"][0]
    _, curve, share = view["data"][:3]
    with np.load(whole.fake.path / "probe-random-s0" / "predictions.npz") as arrays:
        logits, labels = arrays["logits"].astype(float), arrays["labels"]
    confidence = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)).max(axis=1)
    bins = [(confidence >= place / 15) & (confidence < (place + 1) / 15) for place in range(15)]
    accuracies = [(logits.argmax(axis=1) == labels)[own].mean() for own in bins if own.sum() >= 10]
    kinds = {"f4": np.float32}
    y, height = (np.frombuffer(base64.b64decode(it["y"]["bdata"]), kinds[it["y"]["dtype"]]) for it in (curve, share))
    np.testing.assert_allclose(y, accuracies, rtol=1e-6)
    np.testing.assert_allclose(height, [own.mean() for own in bins], rtol=1e-6)


def test_corruptions_and_ood_are_drawn_with_the_numbers_of_the_runs(whole: Whole, page: str) -> None:
    plots = unpacked(page)["plots"]
    results = {
        (row["model"], row["evaluation"], row["metric"], row.get("corruption"), row.get("severity")): row["value"]
        for row in whole.fake.written
    }
    views = {view["label"]: view["data"] for view in plots["corruptions"]["views"]}
    names = whole.fake.finals()
    for model, trace in zip(names, views["JPEG"], strict=True):
        found = [results[model, "corruptions", "accuracy", "jpeg", severity] for severity in (1, 3, 5)]
        expected = [results[model, "corruptions", "clean_accuracy", None, None], *found]
        assert trace["y"] == [pytest.approx(100 * value) for value in expected]
        assert [round(x) for x in trace["x"]] == [0, 1, 3, 5]
    for model, trace in zip(names, views["Mean over severities"], strict=True):
        assert trace["y"][-1] == pytest.approx(100 * results[model, "corruptions", "mean_accuracy", "jpeg", None])
    (view,) = plots["test-against-ood"]["views"]
    dots = [trace for trace in view["data"] if trace.get("error_y")]
    for model, trace in zip(names, dots, strict=True):
        shared = results[model, "ood", "accuracy_shared", None, None]
        assert norm.cdf(trace["y"][0]) == pytest.approx(shared)
        assert f"OOD {100 * shared:.1f} [" in trace["hovertext"][0]


def test_every_trial_is_drawn_and_the_chosen_one_is_larger(whole: Whole, page: str) -> None:
    views = {view["label"]: view for view in unpacked(page)["plots"]["trials"]["views"]}
    for name, trace in zip(views["Log loss"]["runs"], views["Log loss"]["data"], strict=True):
        result = json.loads((whole.fake.path / name / "result.json").read_text())
        assert trace["x"] == [trial["log_loss"] for trial in result["tried"]]
        chosen = [trial["phase"] == result["chosen"] for trial in result["tried"]]
        assert [size == max(trace["marker"]["size"]) for size in trace["marker"]["size"]] == chosen


def test_the_caption_mentions_the_dotted_lines_of_a_view_only_if_it_has_some(whole: Whole) -> None:
    (dots,) = accuracy.dots(whole.study)
    found = [(len(view.content["layout"].get("shapes", ())), "Dotted line: " in view.note) for view in dots.views]
    assert found[0] == (0, False)  # test and OOD
    assert found[1:]
    assert set(found[1:]) == {(1, True)}
    assert "otted" not in dots.caption


@pytest.mark.parametrize("baseline", [True, False])
def test_a_sweep_is_drawn_over_its_values(tmp_path: Path, baseline: bool) -> None:
    fake = FakeStudy(tmp_path / "sweep", methods=("simclr",), images=60, points=20)
    swept(fake, [0.1, 0.5, 2.0])
    runs = {"simclr-finetune": "finetune-simclr", "simclr-probe": "probe-simclr"}
    if baseline:
        fake.finetune("random")
    (plot,) = sweep.over_values(read_study(fake.path))
    assert [view.label for view in plot.views] == ["temperature: test", "temperature: OOD, all classes"]
    assert ("Dotted" in plot.caption) == baseline
    assert len(plot.legend) == 2 + baseline
    test = plot.views[0].content
    assert test["layout"]["xaxis"]["type"] == "log"
    drawn = {trace["legendgroup"]: trace for trace in test["data"]}
    assert len(drawn) == 2 + baseline
    for model, folder in runs.items():
        assert drawn[model]["x"] == [0.1, 0.5, 2.0]
        values = [accuracy_of(fake.path / f"{folder}-s0-temperature={value}") for value in (0.1, 0.5, 2.0)]
        assert drawn[model]["y"] == [pytest.approx(100 * value) for value in values]
        assert f"temperature = 2: {100 * values[2]:.1f} [" in drawn[model]["hovertext"][2]
        assert f"{folder}-s0-temperature=2.0" in drawn[model]["hovertext"][2]
    if baseline:
        (line,) = set(drawn["supervised"]["y"])
        assert line == pytest.approx(100 * accuracy_of(fake.path / "finetune-random-s0"))


def accuracy_of(run: Path) -> float:
    rows = json.loads((run / "result.json").read_text())["rows"]
    (value,) = {
        row["value"]
        for row in rows
        if (row["evaluation"], row["metric"]) == ("test", "accuracy") and "class" not in row
    }
    return float(value)
