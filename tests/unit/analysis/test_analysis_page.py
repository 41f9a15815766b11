import base64
import csv
import gzip
import json
import re
import shlex
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_reports import Whole, swept
from fake_study import AWKWARD, DATE, FakeStudy
from scipy.stats import norm

from analysis.commands import commands
from analysis.page.build import figures, render
from analysis.page.plots import text
from analysis.reading import read_study
from analysis.sections import repeating
from jobs.plan.graph import plan
from ssl_pkg.config import StudyConfig
from ssl_pkg.overrides import key_of

MEBIBYTE = 2**20
INJECTION = '</script><script>alert("1")</script><img src=x onerror=alert(2)>&amp;'


@pytest.fixture(scope="module")
def page(whole: Whole) -> str:
    return render(whole.study, DATE).decode()


def unpacked(page: str, part: str = "data") -> Any:
    found = re.search(rf'<script type="text/plain" id="{part}">([^<]*)</script>', page)
    assert found is not None
    content = gzip.decompress(base64.b64decode(found[1])).decode()
    return json.loads(content, parse_constant=pytest.fail) if part == "data" else content


class Elements(HTMLParser):
    """The start tags of a page with their attributes, and its text outside of scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._open = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open not in ("script", "style"):
            self.words += data


def cells(column: dict[str, Any]) -> list[Any]:
    if "levels" in column:
        return [None if code < 0 else column["levels"][code] for code in column["codes"]]
    return list(column["values"])


def test_the_table_of_all_results_is_results_csv(whole: Whole, page: str) -> None:
    with (whole.out / "tables" / "results.csv").open(newline="") as file:
        header, *lines = csv.reader(file)
    columns = {column["name"]: cells(column) for column in unpacked(page)["results"]}
    empty = {name for place, name in enumerate(header) if not any(line[place] for line in lines)}
    assert list(columns) == [name for name in header if name not in empty]
    numeric = {"value", "low", "high", "n", "seed", "severity", "radius", "labels_per_class", "draw", "eigenvalue"}
    for name, values in columns.items():
        written = [line[header.index(name)] for line in lines]
        assert len(values) == len(written)
        if name in numeric:
            assert values == [float(cell) if cell else None for cell in written], name
        else:
            assert [value or "" for value in values] == written, name


def test_the_main_table_is_sorted_by_the_numbers_of_summary_csv(whole: Whole, page: str) -> None:
    with (whole.out / "tables" / "summary.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    found = [attributes["data-value"] for tag, attributes in Elements(page).tags if "data-value" in attributes]
    shown = ["test", "gain_points", *(key for key in rows[0] if f"{key}_low" in rows[0] and key != "test")]
    assert found == [row[key] for row in rows for key in shown]


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


def test_a_whole_study_has_every_figure_with_its_runs_and_commands(whole: Whole, page: str) -> None:
    content = unpacked(page)
    expected = [
        *("accuracy", "pretraining", "health", "finetuning", "trials", "probes", "few-labels", "classes", "confusion"),
        *("reliability", "test-against-ood", "corruptions", "tsne", "tsne-finetuning", "landscape"),
        *("landscape-line", "widths"),
    ]
    assert list(content["plots"]) == expected
    assert [attributes["id"] for tag, attributes in Elements(page).tags if tag == "figure"] == expected
    for plot in content["plots"].values():
        for view in plot["views"]:
            assert view["runs"]
            for name in view["runs"]:
                assert Path(content["runs"][name]["folder"]).is_dir()
                assert f"run_dir=again/{name}" in content["runs"][name]["command"]


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


def test_texts_of_users_are_shown_and_never_interpreted(tmp_path: Path) -> None:
    fake = FakeStudy(tmp_path / "<b>\"x\" & 'y'", images=60, points=20, classes=(INJECTION, "b"))
    fake.pretrain("simclr")
    fake.probe("random")
    fake.embed("random-probe")
    file = fake.path / "probe-random-s0" / "provenance.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"commit": INJECTION}))
    page = render(read_study(fake.path), DATE).decode()
    plain = Elements(render(read_study(_plain(tmp_path)), DATE).decode())
    found = Elements(page)
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in plain.tags]
    assert INJECTION in found.words
    assert fake.path.name in found.words
    assert unpacked(page)["plots"]["tsne"]["classes"][0] == INJECTION


def _plain(folder: Path) -> Path:
    fake = FakeStudy(folder / "plain", images=60, points=20, classes=("a", "b"))
    fake.pretrain("simclr")
    fake.probe("random")
    fake.embed("random-probe")
    return fake.path


@pytest.mark.parametrize("name", ["<b>x</b>", "<a href='x'>", "a & b", "%{x}", "&lt;"])
def test_plotly_shows_texts_as_they_are(name: str) -> None:
    shown = text(name)
    assert "<" not in shown
    assert "%{" not in shown
    assert Elements(shown).words == name  # plotly decodes entities as a browser does


def test_the_page_loads_nothing(page: str) -> None:
    found = Elements(page)
    assert not [attributes for _, attributes in found.tags if attributes.keys() & {"src", "srcset", "data", "poster"}]
    assert all(str(attributes["href"]).startswith("#") for _, attributes in found.tags if "href" in attributes)
    assert "link" not in {tag for tag, _ in found.tags}
    assert "url(" not in page
    assert "@import" not in page
    (policy,) = (attributes["content"] for _, attributes in found.tags if "http-equiv" in attributes)
    assert str(policy).startswith("default-src 'none';")


def test_the_command_of_a_report_has_its_date(whole: Whole, page: str) -> None:
    assert f"python -m analysis {whole.fake.path} --date {DATE}" in page
    assert f"--date {DATE}" in str(repeating.section(whole.study, DATE).blocks)


def test_the_same_study_and_date_give_the_same_page(whole: Whole, page: str) -> None:
    assert render(read_study(whole.fake.path), DATE).decode() == page


def test_a_study_of_the_size_of_stl10_gives_a_small_page(tmp_path: Path) -> None:
    fake = FakeStudy(tmp_path / "stl10", images=8000, points=6500, steps=4000)
    for method in ("random", "simclr", "byol", "moco"):
        fake.probe(method)
        fake.finetune(method)
    for method in fake.methods[1:]:
        fake.pretrain(method)
    for model in fake.finals():
        fake.embed(model)
        fake.width(model)
    assert len(render(read_study(fake.path), DATE)) < 8 * MEBIBYTE


def test_a_study_with_missing_parts_gives_a_page_without_them(fake: FakeStudy) -> None:
    fake.pretrain("simclr")
    fake.pretrain("byol", complete=False)
    study = read_study(fake.path)
    assert [plot.name for plot in figures(study)] == ["pretraining", "health"]
    page = render(study, DATE).decode()
    assert "No model has a test accuracy yet" in page
    assert "1 of the 47 planned runs are complete. Missing: " in page
    (fake.path / "plan.json").unlink()
    assert "1 of the 2 runs that were started are complete" in render(read_study(fake.path), DATE).decode()
    fake.probe("random")
    fake.few_labels("random")
    names = [plot.name for plot in figures(read_study(fake.path))]
    assert names == ["accuracy", "pretraining", "health", "probes", "few-labels", "classes", "confusion", "reliability"]


def test_a_diverged_model_gives_a_page(fake: FakeStudy) -> None:
    pretrained = fake.pretrain("byol")
    with (pretrained / "metrics.jsonl").open("a") as file:
        file.write('{"step": 41, "epoch": 4.1, "phase": "train", "loss": NaN, "z_std": Infinity}\n')
    fake.finetune("random")
    width = fake.width("supervised")
    arrays = dict(np.load(width / "landscape.npz"))
    arrays["plane"][0, 0] = arrays["loss"][0] = np.inf
    np.savez(width / "landscape.npz", **arrays)
    ood = fake.ood("supervised")
    lost = {"value": None, "low": None, "high": None, "reason": "not finite"}
    for run in (width, ood):
        result = json.loads((run / "result.json").read_text())
        (run / "result.json").write_text(json.dumps(result | {"rows": [row | lost for row in result["rows"]]}))
    (ood / "predictions.npz").unlink()
    study = read_study(fake.path)
    page = render(study, DATE).decode()
    expected = ["accuracy", "pretraining", "health", "finetuning", "trials", "classes", "confusion", "reliability"]
    assert list(unpacked(page)["plots"]) == expected
    columns = {column["name"]: cells(column) for column in unpacked(page)["results"]}
    values = [value for value, why in zip(columns["value"], columns["reason"], strict=True) if why == "not finite"]
    assert values
    assert set(values) == {None}
    assert "not finite" in Elements(page).words


def test_a_sweep_has_an_entry_for_each_variant(tmp_path: Path) -> None:
    fake = FakeStudy(tmp_path / "sweep", methods=("simclr",), images=60, points=20)
    swept(fake, [0.1, 0.5])
    plots = unpacked(render(read_study(fake.path), DATE).decode())["plots"]
    labels = [entry["label"] for entry in plots["pretraining"]["legend"]]
    assert labels == ["SimCLR (temperature=0.1)", "SimCLR (temperature=0.5)"]
    assert len({entry["dash"] for entry in plots["pretraining"]["legend"]}) == 2
    rows = plots["accuracy"]["views"][0]["layout"]["yaxis"]["ticktext"]
    assert rows[0].replace("<br>", " ") == "SimCLR (temperature=0.1) probe"


def test_a_command_has_the_settings_that_jobs_planned(tmp_path: Path) -> None:
    fake = FakeStudy(tmp_path / "runs" / "few", methods=("supervised", "simclr"), images=40, data="data folder")
    overrides = ["budget=tiny", "method.model.temperature=0.3", "probe.l2_count=5"]
    fake.path.mkdir(parents=True)
    fake.write_plan(*overrides)
    fake.pretrain("simclr")
    fake.probe("simclr")
    fake.finetune("random")
    preset = StudyConfig(name="few", methods=("supervised", "simclr"), seeds=(0,), cpus=1)
    folders = {"runs": tmp_path / "runs", "reports": tmp_path}
    jobs = {job.name: job for job in plan(preset, **folders, data_root=fake.data, overrides=overrides)}
    found = commands(read_study(fake.path))
    assert len(found) == 3
    for name, command in found.items():
        program, *words = shlex.split(command)
        assert program == ".venv/bin/ssl-study-stage"
        given, planned = ({key_of(word): word for word in line} for line in (words, jobs[name].overrides))
        assert given.pop("run_dir") == f"run_dir=again/{name}"
        del planned["run_dir"]
        if name.startswith("probe"):
            assert given.pop("source") == f"source={fake.path / 'pretrain-simclr-s0'}"
            del planned["source"]
        assert given.items() <= planned.items()
        assert planned.keys() - given.keys() <= {"data.root"}  # which FakeStudy does not write


def matrix(spec: dict[str, Any]) -> np.ndarray:
    shape = [int(size) for size in spec["shape"].split(", ")]
    return np.frombuffer(base64.b64decode(spec["bdata"]), {"f4": np.float32}[spec["dtype"]]).reshape(shape)


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


def test_the_first_figure_is_above_the_main_table(page: str) -> None:
    assert (
        page.index('<figure id="accuracy"') < page.index('<section id="main">') < page.index('<figure id="pretraining"')
    )
