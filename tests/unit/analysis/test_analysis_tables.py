import csv

import numpy as np
import pandas as pd
import pytest
from fake_contents import model_of
from fake_reports import Whole
from fake_study import AWKWARD, FakeStudy

from analysis import tables, words
from analysis.figures.curves import RATES
from analysis.reading import read_study
from analysis.statistics import Mean
from ssl_pkg.rows import DIMENSIONS


def test_results_csv_contains_exactly_the_rows_of_the_runs(whole: Whole) -> None:
    with (whole.out / "tables" / "results.csv").open(newline="") as file:
        header, *lines = csv.reader(file)
    assert header[:8] == ["model", "evaluation", "metric", "value", "low", "high", "n", "seed"]
    assert header[8:12] == ["method", "adaptation", "variant", "study"]
    assert header[12:] == [*DIMENSIONS, "data", "reason", "at_least", "at_most"]
    entries = [dict(zip(header, line, strict=True)) for line in lines]
    keys = ("model", "evaluation", "metric", "seed", *DIMENSIONS)
    read = {tuple(entry[key] for key in keys): entry for entry in entries}
    assert len(read) == len(lines) == len(whole.fake.written)
    assert {entry["data"] for entry in entries} == {whole.fake.data}
    for row in whole.fake.written:
        entry = read[tuple(str(row.get(key, "")) for key in keys)]
        assert float(entry["value"]) == row["value"]
        assert [float(entry[key]) if entry[key] else None for key in ("low", "high")] == [row["low"], row["high"]]
        assert int(entry["n"]) == row["n"]
        model = model_of(row["model"])
        assert (entry["method"], entry["adaptation"] or None, entry["variant"]) == (model.method, model.adaptation, "")


def test_the_summary_in_markdown_names_its_data(whole: Whole) -> None:
    *table, empty, note = (whole.out / "tables" / "summary.md").read_text().splitlines()
    assert len(table) == 2 + len(whole.fake.finals())
    assert empty == ""
    assert note.startswith("These are not STL-10 numbers. The data was “synthetic”")


def test_summary_has_mean_and_deviation_over_seeds(fake: FakeStudy) -> None:
    fake.seeds = (0, 1, 2)
    for seed in fake.seeds:
        fake.probe("random", seed)
        fake.finetune("random", seed)
    values = {
        model: np.array(
            [
                r["value"]
                for r in fake.written
                if (r["model"], r["evaluation"], r["metric"], r.get("class")) == (model, "test", "accuracy", None)
            ]
        )
        for model in ("supervised",)
    }
    frame = tables.summary(read_study(fake.path)).set_index("model")
    assert frame.loc["supervised", "seeds"] == 3
    assert frame.loc["supervised", "test"] == pytest.approx(values["supervised"].mean())
    assert frame.loc["supervised", "test_sd"] == pytest.approx(values["supervised"].std(ddof=1))
    low, value, high = frame.loc["supervised", ["test_low", "test", "test_high"]]
    assert low < value < high


def test_with_one_seed_the_interval_is_that_of_the_row(whole: Whole) -> None:
    frame = tables.summary(whole.study).set_index("model")
    row = next(
        r
        for r in whole.fake.written
        if (r["model"], r["evaluation"], r["metric"]) == ("byol-probe", "test", "accuracy")
    )
    assert frame.loc["byol-probe", ["test", "test_low", "test_high"]].tolist() == [
        row["value"],
        row["low"],
        row["high"],
    ]
    gain = 100 * (frame.loc["byol-probe", "test"] - frame.loc["random-probe", "test"])
    assert frame.loc["byol-probe", "gain_points"] == pytest.approx(gain)
    assert "ood9" in frame
    assert "knn" in frame


def test_knn_of_pretraining_is_shown_if_there_is_none_on_test(fake: FakeStudy) -> None:
    fake.pretrain("simclr")
    fake.probe("simclr")
    study = read_study(fake.path)
    column = tables.main_columns(study)[-1]
    assert column.heading == RATES["knn"] == "kNN on holdout"
    fake.embed("simclr-probe")
    assert tables.main_columns(read_study(fake.path))[-1].heading == "kNN on test"
    found = tables.main_value(study, model_of("simclr-probe"), column)
    assert found is not None
    assert found.value == pytest.approx(0.62)


def test_per_class_accepts_any_class_name(whole: Whole) -> None:
    frame = pd.read_csv(whole.out / "tables" / "per_class.csv")
    assert set(frame["class"]) == set(whole.fake.classes)
    rows = {(r["model"], r["evaluation"], r["class"]): r["value"] for r in whole.fake.written if "class" in r}
    for entry in frame.to_dict("records"):
        assert entry["value"] == rows[entry["model"], entry["evaluation"], entry["class"]]
    lines = (whole.out / "tables" / "per_class.md").read_text().splitlines()
    cells = {line.replace("\\|", "").count("|") for line in lines}
    assert cells == {len(frame.columns) + 1}
    assert AWKWARD in set(frame["class"])


@pytest.mark.parametrize(
    ("p", "text"), [(0.0004, "p < .001"), (0.0123, "p = .012"), (0.999, "p > .99"), (0.0996, "p = .100")]
)
def test_p_values_have_three_decimals(p: float, text: str) -> None:
    assert tables.p_text(p) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, tables.ABSENT),
        (float("nan"), tables.ABSENT),
        (0.0, "0.00"),
        (0.12345, "0.123"),
        (1234.5, "1,234"),
        (2.5e-7, "2.50e-07"),
    ],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert tables.number(value) == text


def test_numbers_in_russian_have_a_decimal_comma_and_keep_the_plain_numbers() -> None:
    with words.language("ru"):
        assert tables.percent(Mean(0.5, 0.412, 0.6)) == "50,0 [41,2; 60,0]"
        assert tables.gain_text(Mean(-0.05, -0.1, 0.012)) == "\N{MINUS SIGN}5,0 [\N{MINUS SIGN}10,0; +1,2]"
        assert [tables.p_text(p) for p in (0.0004, 0.0123, 0.999)] == ["p < 0,001", "p = 0,012", "p > 0,99"]
        assert tables.fixed(1.25, 2) == "1,25"
        assert tables.number(1234.5) == "1\N{NO-BREAK SPACE}234"
        assert tables.percent(Mean(0.5, 0.412, 0.6)).numbers == pytest.approx({"value": 50, "low": 41.2, "high": 60})
