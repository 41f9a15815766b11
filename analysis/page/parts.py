"""The static parts of the page as HTML: head, answers, main table, sections of the report. Every text is escaped."""

import datetime
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import pandas as pd

from analysis import planned, tables
from analysis.blocks import Section
from analysis.data import data_note
from analysis.page.plots import Plot
from analysis.sections import front, provenance
from analysis.study import Study
from analysis.words import _


def head(study: Study, date: datetime.date) -> str:
    """Title, and what data it was."""
    title = front.title(study, date)
    warning = ' class="warning"' if title["note"] else ""
    return (
        f"<h1>{escape(title['title'])}</h1>\n<p>{escape(title['subtitle'])}</p>\n"
        f"<p{warning}>{escape(data_note(study))}</p>\n"
    )


def short(study: Study) -> str:
    """What was asked, the answers, what is missing, and the facts of the study."""
    heading = _("Data, code and hardware")
    rows = [(name, value) for name, value in provenance.facts(study) if value]
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows)
    answers = "".join(f"<li>{escape(answer)}</li>" for answer in front.answers(study) if answer)
    missing = planned.incomplete(study)
    note = f'<p class="warning">{escape(missing)}</p>\n' if missing else ""
    return (
        f"{note}<p>{escape(front.question(study))}</p>\n<ul>{answers}</ul>\n<p>{escape(planned.runs(study))}</p>\n"
        f"<details><summary>{escape(heading)}</summary><dl>{facts}</dl></details>\n"
    )


def summary(study: Study) -> str:
    """The main table. Each cell has the number that it is sorted by."""
    headings, rows = tables.summary_text(study)
    if not rows:
        return _paragraph(_("No model has a test accuracy yet, so there is no table."))
    frame = tables.summary(study)
    keys = ["test", "gain_points", *(column.key for column in tables.main_columns(study)[1:])]
    body = []
    for place, row in enumerate(rows):
        numbers = [_number(frame[key].iloc[place]) for key in keys]
        cells = [f'<td data-value="{n}">{escape(cell)}</td>' for n, cell in zip(numbers, row[1:], strict=True)]
        body.append(f'<tr><th scope="row">{escape(row[0])}</th>{"".join(cells)}</tr>')
    columns = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    table = f'<table class="sortable"><thead><tr>{columns}</tr></thead><tbody>{"".join(body)}</tbody></table>'
    return _scrolled(table, _("Main table")) + _paragraph(_("Accuracies in %, gain in points, with 95 % intervals."))


def _paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>\n"


def _scrolled(table: str, label: str) -> str:
    """A table in a region that scrolls."""
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(label)}">{table}</div>\n'


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))


def section(made: Section) -> str:
    """The texts, lists and tables of a section of the report; nothing if it has none."""
    blocks = "".join(_block(block, made.title) for block in made.blocks)
    return f"<h2>{escape(made.title)}</h2>\n{blocks}" if blocks else ""


def _block(block: dict[str, Any], title: str) -> str:
    if block["kind"] in ("text", "note"):
        return _paragraph(block["text"])
    if block["kind"] == "items":
        return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in block['items'])}</ul>\n"
    if block["kind"] == "table":
        return _scrolled(_table(block), title) + _paragraph(block["caption"])
    return ""


def _table(block: dict[str, Any]) -> str:
    """A table of the report; a row is named by its first cell."""
    classes = [' class="words"' if place < block["left"] else "" for place in range(len(block["headings"]))]
    head = "".join(
        f'<th scope="col"{looks}>{escape(heading)}</th>'
        for heading, looks in zip(block["headings"], classes, strict=True)
    )
    rows = ""
    for first, *rest in block["rows"]:
        cells = "".join(f"<td{looks}>{escape(cell)}</td>" for cell, looks in zip(rest, classes[1:], strict=True))
        rows += f'<tr><th scope="row">{escape(first)}</th>{cells}</tr>'
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"


def figures(plots: Sequence[Plot]) -> str:
    """A place for each figure, which the script fills; its height is known, so that nothing moves when it is drawn."""
    wait = escape(_("The figure is being drawn."))
    return "".join(
        f'<figure id="{plot.name}" aria-labelledby="{plot.name}-title"><h3 id="{plot.name}-title">{escape(plot.title)}'
        f'</h3><div class="controls"></div>'
        f'<div class="plot" style="height:{plot.height}px" data-wait="{wait}"></div>'
        f'<p class="announcement" aria-live="polite"></p>'
        f'<figcaption>{escape(plot.caption)} <span class="note">{escape(plot.views[0].note)}</span></figcaption>'
        f'<div class="origin"></div></figure>\n'
        for plot in plots
    )


def links(targets: Iterable[tuple[str, str]]) -> str:
    """The links of the navigation. targets: id and title of each."""
    return "".join(f'<a href="#{name}">{escape(title)}</a>' for name, title in targets)


def tidy(study: Study) -> list[dict[str, Any]]:
    """The columns of results.csv that are not empty: name, and values; of texts, the different values and their codes.

    A missing value is null, or the code -1.
    """
    frame = tables.results(study)
    return [_column(name, frame[name]) for name in frame.columns if _filled(frame[name])]


def _filled(values: "pd.Series[Any]") -> bool:
    return bool((values.notna() & (values.astype(str) != "")).any())


def _column(name: str, values: "pd.Series[Any]") -> dict[str, Any]:
    if pd.api.types.is_numeric_dtype(values):
        return {"name": name, "values": [None if pd.isna(value) else value for value in values.tolist()]}
    codes, levels = pd.factorize(values)
    return {"name": name, "levels": [str(level) for level in levels], "codes": codes.tolist()}
