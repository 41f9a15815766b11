"""The static parts of the page as HTML: head, answers, main table, findings, what is missing. Every text is escaped."""

import datetime
import math
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import pandas as pd

from analysis import tables
from analysis.blocks import Section
from analysis.data import data_note
from analysis.page.plots import Plot
from analysis.sections import findings, front, missing, provenance
from analysis.study import Study


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
    rows = [(name, value) for name, value in provenance.facts(study) if value]
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows)
    answers = "".join(f"<li>{escape(answer)}</li>" for answer in front.answers(study) if answer)
    return (
        f"<p>{escape(front.question(study))}</p>\n<ul>{answers}</ul>\n<p>{escape(front.runs(study))}</p>\n"
        f"<details><summary>Data, code and hardware</summary><dl>{facts}</dl></details>\n"
    )


def summary(study: Study) -> str:
    """The main table. Each cell has the number that it is sorted by."""
    headings, rows = tables.summary_text(study)
    if not rows:
        return "<p>No model has a test accuracy yet, so there is no table.</p>\n"
    frame = tables.summary(study)
    keys = ["test", "gain_points", *(column.key for column in tables.main_columns(study)[1:])]
    body = []
    for place, row in enumerate(rows):
        numbers = [_number(frame[key].iloc[place]) for key in keys]
        cells = [f'<td data-value="{n}">{escape(cell)}</td>' for n, cell in zip(numbers, row[1:], strict=True)]
        body.append(f'<tr><th scope="row">{escape(row[0])}</th>{"".join(cells)}</tr>')
    columns = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Main table"><table class="sortable">'
        f"<thead><tr>{columns}</tr></thead><tbody>{''.join(body)}</tbody></table></div>\n"
        "<p>Accuracies in %, gain in points, with 95 % intervals.</p>\n"
    )


def _number(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else repr(float(value))


def section(made: Section) -> str:
    """The texts and lists of a section of the report; nothing if it has none."""
    blocks = "".join(_block(block) for block in made.blocks)
    return f"<h2>{escape(made.title)}</h2>\n{blocks}" if blocks else ""


def _block(block: dict[str, Any]) -> str:
    if block["kind"] in ("text", "note"):
        return f"<p>{escape(block['text'])}</p>\n"
    if block["kind"] == "items":
        return f"<ul>{''.join(f'<li>{escape(item)}</li>' for item in block['items'])}</ul>\n"
    return ""


def sentences(study: Study) -> str:
    """The sentences that the report generates from the numbers."""
    return section(findings.section(study))


def lacking(study: Study) -> str:
    """What is missing, and why."""
    return section(missing.section(study))


def figures(plots: Sequence[Plot]) -> str:
    """A place for each figure, which the script fills; its height is known, so that nothing moves when it is drawn."""
    return "".join(
        f'<figure id="{plot.name}" aria-labelledby="{plot.name}-title"><h3 id="{plot.name}-title">{escape(plot.title)}'
        f'</h3><div class="controls"></div><div class="plot" style="height:{plot.height}px"></div>'
        f'<p class="announcement" aria-live="polite"></p><figcaption>{escape(plot.caption)}</figcaption>'
        f'<div class="origin"></div></figure>\n'
        for plot in plots
    )


def links(plots: Iterable[Plot]) -> str:
    """The links of the navigation to the figures."""
    return "".join(f'<a href="#{plot.name}">{escape(plot.title)}</a>' for plot in plots)


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
