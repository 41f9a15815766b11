"""Where the numbers of a report come from."""

import copy
import csv
from pathlib import Path

from fake_reports import Built
from report_numbers import unexplained

from ssl_pkg.catalogue import STAGES


def test_every_number_of_a_report_is_in_one_of_its_csv_files(built: Built) -> None:
    assert unexplained(built.content, built.out) == []


def test_a_number_of_a_table_or_text_that_is_in_no_csv_file_is_noticed(built: Built) -> None:
    content = copy.deepcopy(built.content)
    blocks = [block for section in content["sections"] for block in section["blocks"]]
    cells = next(block for block in blocks if block.get("name") == "accuracy")["rows"]
    assert (cells[1][0], cells[1][1], cells[1][-1]) == ("Supervised", "66.0 [59.4, 72.6]", "61.0")
    cells[1][1], cells[1][-1] = "81.3 [75.9, 86.7]", cells[0][-1]  # another model's number
    listed = next(block for block in blocks if block["kind"] == "items")["items"]
    assert "BYOL fine-tuned is highest with 78.0 [72.3, 83.7]" in listed[1]
    listed[1] = listed[1].replace("78.0 [72.3, 83.7]", "66.0 [59.4, 72.6]")  # another model's again
    listed[2] += " BYOL probe 81.3 points."
    blocks[0]["text"] += " Another 123.456 points."
    assert [entry.partition(" in: ")[0] for entry in unexplained(content, built.out)] == [
        "123.456",
        "66.0 [59.4, 72.6]",
        "81.3",
        "81.3 [75.9, 86.7]",
        "30.0",
    ]


def test_every_table_and_figure_names_a_csv_file_of_its_own_and_stages_with_a_command(built: Built) -> None:
    blocks = [block for section in built.content["sections"] for block in section["blocks"] if "csv" in block]
    files = [block["csv"] for block in blocks]
    assert len(set(files)) == len(files) > 30
    written = {str(path.relative_to(built.out)) for path in built.out.rglob("*.csv")}
    assert set(files) <= written
    assert {file for file in written - set(files) if file.startswith("figures/")} == set()
    with (built.out / "tables" / "commands.csv").open(newline="") as lines:
        runs = list(csv.DictReader(lines))
    assert {run["stage"] for run in runs} == set(STAGES)
    assert all(f"stage={run['stage']}" in run["command"] and f"seed={run['seed']}" in run["command"] for run in runs)
    for block in blocks:
        assert set(block["stages"]) <= {run["stage"] for run in runs}
        assert block["csv"] in block["origin"]
        assert all(stage in block["origin"] for stage in block["stages"])
    measured = [block for block in blocks if block["kind"] == "figure"]
    assert all(block["stages"] for block in measured)


def test_every_figure_is_there_as_vector_graphics_picture_and_numbers(built: Built) -> None:
    folder: Path = built.out / "figures"
    names = {path.stem for path in folder.iterdir()}
    assert {path.name for path in folder.iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("pdf", "svg", "png", "csv")
    }
