"""The PDF as a document: its pages, its tables across pages, and what a screen reader finds."""

import shutil
import subprocess
from typing import Any

import pytest
from fake_reports import Built
from report_pages import fills, misplaced

from analysis import report

if shutil.which("pdftotext") is None:
    pytest.skip("pdftotext is not installed: the pages of the PDF can't be read", allow_module_level=True)

_WORDS = {"language": "en", "table": "Table", "reading": "How to read:"}


def of_rows(rows: int, lines: int) -> dict[str, Any]:
    """The content of a report with some lines of text, and then a table."""
    cells = [[f"row{number}", "1"] for number in range(1, rows + 1)]
    table = {"kind": "table", "headings": ["Heading", ""], "rows": cells, "caption": "", "origin": ""}
    blocks = [*([{"kind": "text", "text": "line"}] * lines), table | {"size": 9, "left": 1, "widths": []}]
    head = {"title": "a", "subtitle": "", "keywords": [], "data": "", "note": "", "date": [2026, 1, 2], **_WORDS}
    return head | {"sections": [{"title": "b", "blocks": blocks}]}


def pages_of(pdf: bytes) -> list[str]:
    done = subprocess.run(["pdftotext", "-layout", "-", "-"], input=pdf, capture_output=True, check=True)
    return done.stdout.decode().split("\f")[:-1]


def test_no_row_of_a_table_is_alone_on_a_page_and_every_page_has_the_head() -> None:
    split = set()
    for lines in range(24, 34):
        pages = pages_of(report.compile_pdf(of_rows(12, lines)))
        parts = [(page.count("row"), page.count("Heading")) for page in pages if "row" in page]
        assert all(rows > 1 and heads == 1 for rows, heads in parts)
        assert sum(rows for rows, _ in parts) == 12
        split.add(parts[0][0])
    assert len(split) > 4  # the table was split at many places


def test_every_page_but_the_last_is_at_least_two_thirds_full(built: Built) -> None:
    found = [round(fill, 2) for fill in fills(built.pdf.read_bytes())]
    assert len(found) > 9
    assert min(found[:-1]) > 2 / 3, found


def test_no_word_overlaps_another_or_leaves_the_text_area(built: Built) -> None:
    pdf = built.pdf.read_bytes()
    assert misplaced(pdf) == []


def test_a_word_that_is_too_long_for_its_column_is_noticed() -> None:
    content = of_rows(3, 1)
    content["sections"][0]["blocks"][-1]["rows"] = [["x" * 200, "1"], ["y", "2" * 70]]
    pdf = report.compile_pdf(content)
    assert len(misplaced(pdf)) > 1


def test_the_pdf_is_accessible_and_has_properties_and_bookmarks(built: Built) -> None:
    pdf = built.pdf.read_bytes()
    assert b"<pdfuaid:part>1</pdfuaid:part>" in pdf  # so typst has checked that every figure has an alternative text
    facts = subprocess.run(["pdfinfo", "-"], input=pdf, capture_output=True, check=True).stdout.decode()
    found = dict(line.split(":", 1) for line in facts.splitlines() if ":" in line)
    assert found["Tagged"].strip() == "yes"
    assert found["Title"].strip() == built.content["title"]
    assert "ResNet-18" in found["Keywords"]
    assert "Author" not in found
    assert b"/Outlines" in pdf
    fonts = subprocess.run(["pdffonts", "-"], input=pdf, capture_output=True, check=True).stdout.decode()
    assert all(" yes yes yes " in line for line in fonts.splitlines()[2:])  # embedded, subset, with Unicode
