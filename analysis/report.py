"""Builds the report of a study: its tables, report.html, and report.pdf, compiled by typst without system fonts."""

import datetime
import importlib.util
import io
import json
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final

import matplotlib
import typst
from matplotlib.figure import Figure
from PIL import Image

from analysis import words, writing
from analysis.blocks import Section
from analysis.figures import style
from analysis.forked import in_a_fork
from analysis.number_text import table_csv
from analysis.page.build import render
from analysis.sections import (
    accuracy,
    comparisons,
    cost,
    data,
    findings,
    front,
    limits,
    methods,
    missing,
    provenance,
    repeating,
    sources,
    studies,
    sweep,
    training,
)
from analysis.study import Study
from analysis.words import _
from ssl_pkg.catalogue import STAGES
from ssl_pkg.run.directory import write_atomic
from ssl_pkg.run.study_plan import REPORT_FILE

PAGE: Final = "report.html"
_AFTER: Final = {"few_labels": ("folds",)}  # sections of several stages, by the stage that they follow
_TEMPLATE: Final = Path(__file__).parent / "report.typ"
_PPI: Final = 30  # of the pages whose ink is looked at
_TEXT_AREA: Final = (20 / 297, 279 / 297)  # shares of a page's height, as report.typ has them
_INK: Final = 200  # grey values below this are ink


def build(study: Study, out: Path, date: datetime.date, *, thumbnails: bool = False) -> Path:
    """Writes tables/, figures/, report.html and report.pdf in `out`; returns the path of report.pdf.

    thumbnails: whether report.html has small pictures of the images on the t-SNE maps; BadInput if they can't be read.

    The same study and date give the same bytes. report.pdf is last, because its presence tells `jobs` that the report
    is complete. Its modification time tells which results it contains (`ssl_pkg/run/study_plan.py`).
    """
    writing.write(study, out / "tables")

    def write_page() -> None:
        write_atomic(out / PAGE, render(study, date, thumbnails=thumbnails))

    if thumbnails:  # first, because images that can't be read must leave an earlier report as it is
        write_page()
    with nullcontext() if thumbnails else in_a_fork(write_page):
        found = content(study, out, date, thumbnails=thumbnails)
    path = out / REPORT_FILE
    write_atomic(path, compile_pdf(found), modified=study.newest)
    return path


def content(study: Study, out: Path, date: datetime.date, *, thumbnails: bool = False) -> dict[str, Any]:
    """The content of the report in the form that report.typ reads. Writes its figures and tables in `out`."""
    figures = out / "figures"
    (out / "tables").mkdir(parents=True, exist_ok=True)
    builders: tuple[Callable[[], Section], ...] = (
        lambda: front.section(study, figures),
        lambda: findings.section(study),
        lambda: limits.section(study),
        lambda: missing.section(study),
        lambda: studies.section(study, figures),
        lambda: data.section(study, figures),
        lambda: methods.section(study),
        lambda: accuracy.section(study),
        lambda: sweep.section(study, figures),
        lambda: comparisons.section(study),
        lambda: training.section(study, figures),
        lambda: accuracy.by_class(study, figures),
        *(partial(build_section, study, figures) for build_section in _stage_sections()),
        lambda: cost.section(study),
        lambda: provenance.section(study),
        lambda: repeating.section(study, date, thumbnails=thumbnails),
        lambda: sources.section(study),
    )
    with style.styled():
        sections = [build_section() for build_section in builders]
        drawings = [entry for section in sections for entry in section.figures]
        with in_a_fork(lambda: _save(drawings[::2])):
            _save(drawings[1::2])
    for block in (block for section in sections for block in section.blocks if "csv" in block):
        block["origin"] = repeating.origin(study, block["csv"], block["stages"])
        if block["kind"] == "table":
            write_atomic(out / block["csv"], table_csv(block["headings"], block["rows"]).encode())
    own = {"language": words.current(), "table": _("Table"), "reading": _("How to read:")}
    head = {"date": [date.year, date.month, date.day], **own, **front.title(study, date)}
    shown = [{"title": section.title, "blocks": section.blocks} for section in sections if section.blocks]
    return head | {"sections": shown}


def _save(drawings: Iterable[tuple[Figure, Path, str]]) -> None:
    for figure, folder, name in drawings:
        style.save(figure, folder, name)


def _stage_sections() -> list[Callable[[Study, Path], Section]]:
    """`section` of each module `analysis/sections/STAGE.py` that exists, in the order of the stage catalogue."""
    modules = [f"analysis.sections.{name}" for stage in STAGES for name in (stage, *_AFTER.get(stage, ()))]
    return [importlib.import_module(module).section for module in modules if importlib.util.find_spec(module)]


def compile_pdf(report: dict[str, Any]) -> bytes:
    """The bytes of the PDF, which is PDF/UA-1. Raises typst.TypstError if the template is broken.

    Figures stand where they are mentioned. If that leaves a page less than two thirds full, they float, apart from
    those right below a section's heading, which would stand above it. If that leaves a page less than half full, all
    float.
    """
    for floats, least in (("none", 2 / 3), ("others", 1 / 2)):
        pages = _compiled(report | {"floats": floats}, format="png", ppi=_PPI)
        if not isinstance(pages, list) or min(map(_filled, pages[:-1])) > least:
            break
    else:
        floats = "all"
    pdf: bytes = _compiled(report | {"floats": floats}, pdf_standards=["ua-1"])
    return pdf


def _compiled(report: dict[str, Any], **options: Any) -> Any:
    """What typst makes: bytes, or of several pages as PNG a list."""
    inputs = {"report": json.dumps(report)}
    fonts = [f"{matplotlib.get_data_path()}/fonts/ttf"]  # of the text in the figures
    settings: dict[str, Any] = {"root": "/", "font_paths": fonts, "ignore_system_fonts": True, "sys_inputs": inputs}
    return typst.compile(str(_TEMPLATE), **settings, **options)


def _filled(png: bytes) -> float:
    """How far down the text area of a page has ink, as share of its height."""
    with Image.open(io.BytesIO(png)) as page:
        top, bottom = (round(share * page.height) for share in _TEXT_AREA)
        ink = page.convert("L").crop((0, top, page.width, bottom)).point(lambda grey: 255 * (grey < _INK)).getbbox()
    return ink[3] / (bottom - top) if ink else 0.0
