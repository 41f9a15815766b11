"""Assembles report.html from the template, its style sheet and script, plotly.js, and the data of the figures."""

import base64
import datetime
import gzip
import json
import re
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

from plotly.offline import get_plotlyjs
from plotly.utils import PlotlyJSONEncoder

from analysis.commands import commands, of_report
from analysis.page import accuracy, classes, curves, maps, parts, shift, sweep, trials, width
from analysis.page import thumbnails as pictures
from analysis.page.plots import Plot
from analysis.sections import cost, findings, limits, missing
from analysis.study import Study
from analysis.words import N_, _, current

_MOST: Final = 8_000_000  # bytes, of a page with thumbnails
_STATIC: Final = Path(__file__).parent / "static"
_SCRIPTS: Final = ("base.js", "tables.js", "thumbnails.js", "keyboard.js", "figures.js", "start.js")  # in this order
_CALL: Final = re.compile(r'\b_\("([^"]+)"')  # of a text in the scripts
_PLOTLY: Final = (  # plotly's own texts
    N_("Download plot as a PNG"), N_("Zoom"), N_("Pan"), N_("Zoom in"), N_("Zoom out"), N_("Reset axes"),
    N_("Orbital rotation"), N_("Turntable rotation"), N_("Reset camera to default"), N_("Reset camera to last save"),
    N_("Preparing image - this may take a few seconds"), N_("Image download succeeded"),
    N_("Sorry, there was a problem downloading your image!"), N_("Double-click to zoom back out"),
)  # fmt: skip


def render(study: Study, date: datetime.date, *, thumbnails: bool = False) -> bytes:
    """The page as UTF-8. The same study and date give the same bytes.

    thumbnails: whether the page has small pictures of the images on the t-SNE maps, as many as fit into _MOST bytes.
    Raises BadInput if they can't be read.
    """
    plots = figures(study)
    template = Template(_static("page.html"))
    script = "\n".join(map(_static, _SCRIPTS))
    sections = {"limits": limits.section(study), "cost": cost.section(study)}
    targets = [
        ("main", _("Main table")),
        *((name, made.title) for name, made in sections.items() if made.blocks),
        *((plot.name, plot.title) for plot in plots),
        ("results", _("All results")),
    ]
    content = {
        "language": current(),
        "title": escape(_("{study}: self-supervised pretraining", study=study.name)),
        "style": _static("page.css"),
        "script": script,
        "words": _words(script),
        "head": parts.head(study, date),
        "short": parts.short(study),
        "first": parts.figures(plots[:1]),
        "links": parts.links(targets),
        "summary": parts.summary(study),
        "findings": parts.section(findings.section(study)),
        "figures": parts.figures(plots[1:]),
        "missing": parts.section(missing.section(study)),
        **{name: parts.section(made) for name, made in sections.items()},
        **_labels(),
        "command": escape(of_report(study, date, thumbnails=thumbnails)),
        "data": _packed(json.dumps(data(study, plots), cls=PlotlyJSONEncoder, separators=(",", ":"))),
        "plotly": _packed(get_plotlyjs()),
        "thumbnails": "",
    }
    if thumbnails:
        room = _MOST - len(template.substitute(content).encode())
        content["thumbnails"] = pictures.thumbnails(study, room)
    return template.substitute(content).encode()


def _labels() -> dict[str, str]:
    """The texts of the template."""
    found = {
        "skip": _("To the results"),
        "dark": _("Dark"),
        "figures_heading": _("Figures"),
        "main_heading": _("Main table"),
        "results_heading": _("All results"),
        "no_script": _(
            "Figures and the table of all results need JavaScript. The numbers are also in tables/results.csv."
        ),
        "pointing": _("Point at a mark, or press the arrow keys in a figure, to see value, interval, seed and run."),
        "results_text": _(
            "Every number of every complete run, as in tables/results.csv; accuracies are fractions. Point at a number "
            "to see all its digits."
        ),
        "made_by": _("To make this page and the PDF beside it again:"),
    }
    return {name: escape(text) for name, text in found.items()}


def _words(script: str) -> str:
    """The texts of the script and of plotly in the language of the page, as JSON; those in English are left out."""
    texts = dict.fromkeys([*_CALL.findall(script), *_PLOTLY])
    found = {text: translated for text in texts if (translated := _(text)) != text}
    return json.dumps(found, ensure_ascii=False).replace("<", "\\u003c")


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
        *sweep.over_values(study),
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
