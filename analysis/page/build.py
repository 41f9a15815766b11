"""Assembles report.html from the template, its style sheet and script, plotly.js, and the data of the figures."""

import base64
import datetime
import gzip
import json
import shlex
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

from plotly.offline import get_plotlyjs
from plotly.utils import PlotlyJSONEncoder

from analysis.commands import commands
from analysis.page import accuracy, classes, curves, maps, parts, shift, trials, width
from analysis.page import thumbnails as pictures
from analysis.page.plots import Plot
from analysis.study import Study

_MOST: Final = 8_000_000  # bytes, of a page with thumbnails
_STATIC: Final = Path(__file__).parent / "static"
_SCRIPTS: Final = (
    "base.js",
    "tables.js",
    "thumbnails.js",
    "figures.js",
    "start.js",
)  # in the order of their definitions


def render(study: Study, date: datetime.date, *, thumbnails: bool = False) -> bytes:
    """The page as UTF-8. The same study and date give the same bytes.

    thumbnails: whether the page has small pictures of the images on the t-SNE maps, as many as fit into _MOST bytes.
    Raises BadInput if they can't be read.
    """
    plots = figures(study)
    arguments = [*study.paths, "--date", f"{date}", *["--thumbnails"] * thumbnails]
    template = Template(_static("page.html"))
    content = {
        "title": escape(f"{study.name}: self-supervised pretraining"),
        "style": _static("page.css"),
        "script": "\n".join(map(_static, _SCRIPTS)),
        "head": parts.head(study, date),
        "short": parts.short(study),
        "first": parts.figures(plots[:1]),
        "links": parts.links(plots),
        "summary": parts.summary(study),
        "findings": parts.sentences(study),
        "figures": parts.figures(plots[1:]),
        "missing": parts.lacking(study),
        "command": escape(f".venv/bin/python -m analysis {shlex.join(arguments)}"),
        "data": _packed(json.dumps(data(study, plots), cls=PlotlyJSONEncoder, separators=(",", ":"))),
        "plotly": _packed(get_plotlyjs()),
        "thumbnails": "",
    }
    if thumbnails:
        room = _MOST - len(template.substitute(content).encode())
        content["thumbnails"] = pictures.thumbnails(study, room)
    return template.substitute(content).encode()


def figures(study: Study) -> list[Plot]:
    """The figures that the study has data for."""
    return [
        *accuracy.dots(study),
        *curves.pretraining(study),
        *curves.health(study),
        *curves.finetuning(study),
        *trials.trials(study),
        *curves.probing(study),
        *accuracy.few_labels(study),
        *classes.per_class(study),
        *classes.confusion(study),
        *classes.reliability(study),
        *shift.against_ood(study),
        *shift.corrupted(study),
        *maps.maps(study),
        *maps.snapshots(study),
        *width.landscape(study),
        *width.slices(study),
        *width.widths(study),
    ]


def data(study: Study, plots: list[Plot]) -> dict[str, Any]:
    """What the script reads: the figures, the rows of results.csv, and folder and command of each run."""
    runs = {run.name: {"folder": str(run.directory.path), "seed": run.seed} for run in study.runs}
    for name, command in commands(study).items():
        runs[name]["command"] = command
    return {"plots": {plot.name: plot.content() for plot in plots}, "results": parts.tidy(study), "runs": runs}


def _static(name: str) -> str:
    return (_STATIC / name).read_text(encoding="utf-8")


def _packed(text: str) -> str:
    """The text compressed by gzip, in base64."""
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode("ascii")
