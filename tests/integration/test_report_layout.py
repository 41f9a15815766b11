"""The PDF as a document: its pages, its tables across pages, and what a screen reader finds."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_reports import Built, swept
from fake_study import DATE, FakeStudy
from figure_texts import overfull
from matplotlib.figure import Figure
from report_pages import fills, misplaced

from analysis import report, words
from analysis.figures import style
from analysis.joining import by_data
from analysis.reading import read_study
from analysis.study import Study

if shutil.which("pdftotext") is None:
    pytest.skip("pdftotext is not installed: the pages of the PDF can't be read", allow_module_level=True)

_WORDS = {"language": "en", "table": "Table", "reading": "How to read:"}


def of_rows(rows: int, lines: int) -> dict[str, Any]:
    """The content of a report with some lines of text, and then a table."""
    cells = [[f"row{number}", "1"] for number in range(1, rows + 1)]
    table = {"kind": "table", "headings": ["Heading", ""], "rows": cells, "caption": "", "origin": ""}
    blocks = [*([{"kind": "text", "text": "line"}] * lines), table | {"size": 9, "left": 1, "widths": [1, 1]}]
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


def test_a_figure_right_below_a_heading_stands_there_also_where_others_float(tmp_path: Path) -> None:
    content = of_rows(0, 20)
    figures = []
    for name, height in (("high", 85), ("low", 25)):
        path = tmp_path / f"{name}.svg"
        path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 {height}"/>')
        figures.append({"kind": "figure", "path": str(path), "caption": name, "reading": "", "origin": ""})
    (section,) = content["sections"]
    lines = section["blocks"][:-1]
    content["sections"] = [
        {"title": "before", "blocks": [*lines, figures[0], *lines, *lines]},
        {"title": "after", "blocks": [figures[1], *lines]},
    ]
    first, *_, last = pages_of(report.compile_pdf(content))
    assert first.count("line") > len(lines)  # text fills the place of the first figure, which floats
    assert last.index("after") < last.index("Figure 2")


def test_no_word_overlaps_another_or_leaves_the_text_area(built: Built) -> None:
    pdf = built.pdf.read_bytes()
    assert misplaced(pdf) == []


def sweep_of(folder: Path) -> Study:
    swept(FakeStudy(folder / "sweep", methods=("simclr",)), (0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0))
    return read_study(folder / "sweep")


def hundred_classes(folder: Path) -> Study:
    classes = [f"{kind} {number}" for kind in ("golden retriever", "fire truck") for number in range(50)]
    FakeStudy(folder / "classes", classes=classes, images=1000, points=300).whole()
    return read_study(folder / "classes")


def two_studies(folder: Path) -> Study:
    for name in ("short", "longer"):
        FakeStudy(folder / name, methods=("supervised", "byol")).whole()
    (study,) = by_data([read_study(folder / name) for name in ("short", "longer")])
    return study


@contextmanager
def in_this_process(task: Callable[[], None]) -> Iterator[None]:
    yield
    task()


@pytest.mark.parametrize("language", words.LANGUAGES)
@pytest.mark.parametrize("made", [sweep_of, hundred_classes, two_studies])
def test_no_words_overlap_in_pages_or_figures_with_long_names_or_many_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: Callable[[Path], Study], language: str
) -> None:
    found: dict[str, list[str]] = {}

    def checked(figure: Figure, folder: Path, name: str) -> None:
        found[name] = overfull(figure)
        save(figure, folder, name)

    save = style.save
    monkeypatch.setattr(style, "save", checked)
    monkeypatch.setattr(report, "in_a_fork", in_this_process)
    with words.language(language):
        pdf = report.build(made(tmp_path), tmp_path / "report", DATE)
    assert len(found) > 9
    assert {name: wrong for name, wrong in found.items() if wrong} == {}
    assert misplaced(pdf.read_bytes()) == []


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
