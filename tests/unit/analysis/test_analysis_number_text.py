"""Tables of the report as CSV."""

import csv
import io
import json

from analysis import tables
from analysis.blocks import Section, formula
from analysis.estimates import Estimate
from analysis.number_text import table_csv


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text)))


def test_a_column_of_accuracies_has_value_and_interval_in_full_precision() -> None:
    found = Estimate(2 / 3, 0.5, 0.75, None, 100, {0: 2 / 3})
    rows = [["first", tables.percent(found)], ["second", tables.percent(None)]]
    assert rows[0][1] == "66.7 [50.0, 75.0]"
    assert read(table_csv(["Model", "Test (%)"], rows)) == [
        ["Model", "Test (%)", "Test (%): low", "Test (%): high"],
        ["first", "66.6666667", "50", "75"],
        ["second", tables.ABSENT, "", ""],
    ]


def test_texts_stay_as_they_are() -> None:
    rows = [["a, “b”", formula("sigma^2")], ["line\nbreak", "x"]]
    assert read(table_csv(["", "Definition"], rows)) == [
        ["column 1", "Definition"],
        ["a, “b”", "sigma^2"],
        ["line\nbreak", "x"],
    ]


def test_a_number_in_a_table_is_a_plain_text_in_json() -> None:
    made = Section("A", ("probe",))
    made.table("one", ["p"], [[tables.p_text(0.0123)]], "Caption.")
    made.table("one", ["p"], [[tables.p_text(0.5)]], "Caption.")
    first, second = json.loads(json.dumps(made.blocks))
    assert (first["rows"], second["rows"]) == ([["p = .012"]], [["p = .500"]])
    assert (first["csv"], second["csv"]) == ("tables/one.csv", "tables/one-2.csv")
    assert first["stages"] == ["probe"]
