"""The report of a whole study in Russian: complete, and laid out like the English one."""

# ruff: noqa: RUF001 (Russian)

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_reports import Whole
from fake_study import CLASSES, DATE
from report_pages import fills, misplaced

from analysis import report, words

# Words that a Russian text has only in names, in quoted output, or in citations.
_ENGLISH = re.compile(r"(?<![\w./=“«-])(the|of|is|are|and|with|for|not|from|by|than|each|all|over|as|was)(?![\w/=-])")

_AUTHORS = re.compile(r"[A-Z]\w+ and [A-Z]\w+")


@dataclass
class Russian:
    """The report of `whole` in Russian, and its content."""

    out: Path
    content: dict[str, Any]


@pytest.fixture(scope="module")
def russian(whole: Whole) -> Russian:
    out = whole.out.with_name("russian")
    contents: list[dict[str, Any]] = []
    compile_pdf = report.compile_pdf

    def recording(content: dict[str, Any]) -> bytes:
        contents.append(content)
        return compile_pdf(content)

    with words.language("ru"), pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "compile_pdf", recording)
        report.build(whole.study, out, DATE)
    return Russian(out, *contents)


def texts_of(content: dict[str, Any]) -> Iterator[str]:
    for section in content["sections"][:-1]:  # the last one has the sources
        yield section["title"]
        for block in section["blocks"]:
            yield from (block.get(key, "") for key in ("text", "caption", "reading", "origin"))
            yield from block.get("items", [])
            yield from block.get("headings", [])
            yield from (cell for row in block.get("rows", []) for cell in row if isinstance(cell, str))


def test_no_text_is_english(russian: Russian) -> None:
    texts = [text for text in texts_of(russian.content) if not text.startswith("Источник: ")]
    assert len(texts) > 500
    assert [text for text in texts if _ENGLISH.search(_AUTHORS.sub("", text))] == []


def test_no_label_of_a_figure_is_english(russian: Russian) -> None:
    labels = {
        label: path.name
        for path in sorted((russian.out / "figures").glob("*.svg"))
        for label in re.findall(r">([^<>]*[A-Za-z]{2,}[^<>]*)</text>", path.read_text())
    }
    names = (*CLASSES, "BYOL", "barlow", "JPEG", "OOD", "kNN", "best")
    english = {label: file for label, file in labels.items() if not any(name in label for name in names)}
    assert len(labels) > 20
    assert {label: file for label, file in english.items() if not re.search("[а-я]", label)} == {}


def test_the_numbers_have_a_decimal_comma(russian: Russian) -> None:
    cells = [cell for section in russian.content["sections"] for block in section["blocks"]
             for row in block.get("rows", []) for cell in row if getattr(cell, "numbers", None)]  # fmt: skip
    assert len(cells) > 100
    assert [cell for cell in cells if re.search(r"\d\.\d", cell)] == []
    assert sum("," in cell for cell in cells) > 100


@pytest.mark.skipif(shutil.which("pdftotext") is None, reason="pdftotext is not installed, which reads the pages")
def test_its_pages_are_as_full_as_the_english_ones_and_no_word_overlaps(russian: Russian) -> None:
    pdf = (russian.out / "report.pdf").read_bytes()
    found = [round(fill, 2) for fill in fills(pdf)]
    assert min(found[:-1]) > 2 / 3, found
    assert misplaced(pdf) == []
