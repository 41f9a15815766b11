"""report.html: its tables, texts and commands, for any study and any names."""

import csv
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from babel.messages.extract import extract_from_dir
from fake_reports import Whole
from fake_study import DATE, FakeStudy
from page_reading import Elements, cells, unpacked

import analysis.page
from analysis import words
from analysis.commands import commands
from analysis.page.build import figures, render
from analysis.page.plots import text
from analysis.reading import read_study
from analysis.sections import limits, repeating
from jobs.plan.graph import plan
from ssl_pkg.config.overrides import key_of
from ssl_pkg.config.schema import StudyConfig

MEBIBYTE = 2**20
STATIC = Path(analysis.page.__file__).parent / "static"
INJECTION = '</script><script>alert("1")</script><img src=x onerror=alert(2)>&amp;'


@pytest.mark.slow
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


@pytest.mark.slow
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
    command = f".venv/bin/python -m analysis {whole.fake.path} --out again/report --date {DATE}"
    assert f"<code>{command}</code>" in page
    assert command in str(repeating.section(whole.study, DATE).blocks)


@pytest.mark.slow
def test_the_same_study_and_date_give_the_same_page(whole: Whole, page: str) -> None:
    assert render(read_study(whole.fake.path), DATE).decode() == page


@pytest.mark.slow
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


@pytest.mark.slow
def test_a_study_with_missing_parts_gives_a_page_without_them(fake: FakeStudy) -> None:
    fake.pretrain("simclr")
    fake.pretrain("byol", complete=False)
    study = read_study(fake.path)
    assert [plot.name for plot in figures(study)] == ["pretraining", "health"]
    page = render(study, DATE).decode()
    assert "No model has a test accuracy yet" in page
    assert '<p class="warning">This report is incomplete: 1 of the 47 planned runs is complete. ' in page
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
        program, *parts = shlex.split(command)
        assert program == ".venv/bin/ssl-study-stage"
        given, planned = ({key_of(word): word for word in line} for line in (parts, jobs[name].overrides))
        assert given.pop("run_dir") == f"run_dir=again/{name}"
        del planned["run_dir"]
        assert given.pop("threads") == "threads=1"  # of the provenance, because another number gives other bits
        if name.startswith("probe"):
            assert given.pop("source") == f"source={fake.path / 'pretrain-simclr-s0'}"
            del planned["source"]
        assert given.items() <= planned.items()
        assert planned.keys() - given.keys() <= {"data.root"}  # which FakeStudy does not write


def test_the_command_of_a_run_of_several_processes_starts_as_many(fake: FakeStudy) -> None:
    run = fake.pretrain("simclr")
    fake.probe("simclr")
    provenance = json.loads((run / "provenance.json").read_text())
    (run / "provenance.json").write_text(json.dumps(provenance | {"world_size": 4}))
    found = commands(read_study(fake.path))
    assert found[run.name].startswith(".venv/bin/torchrun --nproc-per-node 4 -m ssl_pkg study=")
    assert found["probe-simclr-s0"].startswith(".venv/bin/ssl-study-stage study=")


def test_the_first_figure_is_above_the_main_table(page: str) -> None:
    assert (
        page.index('<figure id="accuracy"') < page.index('<section id="main">') < page.index('<figure id="pretraining"')
    )


def test_the_cost_of_each_stage_is_a_table(whole: Whole, page: str) -> None:
    cost = page[page.index('<section id="cost">') : page.index('<section id="missing">')]
    assert '<a href="#cost">Cost</a>' in page
    for stage in ("pretrain", "probe", "finetune", "ood"):
        runs = [run for run in whole.fake.path.glob(f"{stage}-*") if (run / "result.json").exists()]
        assert re.search(rf'<tr><th scope="row">{stage}</th><td>{len(runs)}</td><td>', cost), stage
    assert cost.count("<table>") == 3


def test_what_cannot_be_concluded_precedes_the_figures(whole: Whole, page: str) -> None:
    start = page.index('<section id="limits">')
    assert start < page.index('<figure id="pretraining"')
    found = Elements(page[start : page.index("</section>", start)]).words
    sentences = [item for block in limits.section(whole.study).blocks for item in block.get("items", [])]
    assert sentences
    assert all(sentence in found for sentence in sentences)
    assert '<a href="#limits">' in page


def test_a_page_without_recorded_times_has_no_cost(fake: FakeStudy) -> None:
    file = fake.probe("random") / "result.json"
    page = render(read_study(fake.path), DATE).decode()
    assert '<a href="#cost">' in page
    file.write_text(json.dumps(json.loads(file.read_text()) | {"seconds": None}))
    page = render(read_study(fake.path), DATE).decode()
    assert '<a href="#cost">' not in page
    assert '<section id="cost">\n</section>' in page


@pytest.mark.slow
def test_a_page_in_another_language_carries_the_texts_of_its_script(whole: Whole, page: str) -> None:
    with words.language("ru"):
        russian = render(whole.study, DATE).decode()
    dictionaries = [words_of(text) for text in (page, russian)]
    assert dictionaries[0] == {}
    found = extract_from_dir(STATIC, [("**.js", "javascript")], keywords={"_": None})
    calls = {str(message) for _, _, message, *_ in found}
    assert len(calls) > 20
    assert calls <= dictionaries[1].keys()
    assert '<html lang="ru">' in russian
    assert "--language ru" in russian
    (shown,) = unpacked(russian)["plots"]["accuracy"]["views"][0]["data"][0]["hovertext"]
    assert re.search(r"\d,\d \[\d+,\d; \d+,\d\]\u00a0%", shown)
    assert unpacked(russian)["results"] == unpacked(page)["results"]


def words_of(page: str) -> dict[str, str]:
    found = re.search(r'<script type="application/json" id="words">([^<]*)</script>', page)
    assert found is not None
    content: dict[str, str] = json.loads(found[1])
    return content
