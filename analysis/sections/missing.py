"""What the report lacks, and why: failed and excluded runs, unusable files, and numbers that could not be computed."""

from collections import defaultdict
from collections.abc import Hashable
from typing import Any

import numpy as np

from analysis import names
from analysis.blocks import Section
from analysis.measures import WIDTH, Measurement
from analysis.names import Model
from analysis.study import Study
from ssl_pkg.catalogue import LANDSCAPE

_SHOWN = 4  # metrics named in a sentence; the others are counted


def section(study: Study) -> Section:
    """The list of everything that is missing; no blocks if nothing is."""
    made = Section("What is missing, and why")
    items = [*_failed(study), *study.notes, *unmeasured(study), *_landscapes(study)]
    if items:
        made.text("In the tables a dash marks a missing number. The following is missing from this report:")
        made.items(items)
    return made


def _failed(study: Study) -> list[str]:
    return [f"{name} failed; its last printed line: {why}" for name, why in study.failed.items()]


def unmeasured(study: Study) -> list[str]:
    """A sentence for each reason why numbers could not be computed, with the models and metrics that it concerns."""
    metrics: dict[tuple[Model, str, str], dict[str, None]] = defaultdict(dict)  # of each model, evaluation and reason
    for row in study.unmeasured.to_dict("records"):
        metrics[row["model"], row["evaluation"], row["reason"]][_named(row)] = None
    models: dict[tuple[str, str, tuple[str, ...]], list[Model]] = defaultdict(list)
    for (model, evaluation, reason), found in metrics.items():
        models[evaluation, reason, tuple(found)].append(model)
    return [
        f"{names.listed(study.model_label(model) for model in names.in_order(found, study.methods))}: no {_few(which)} "
        f"({evaluation}), because {reason}."
        for (evaluation, reason, which), found in models.items()
    ]


def _named(row: dict[Hashable, Any]) -> str:
    """The metric of a row with its dimensions: `accuracy on cat`, `accuracy (corruption blur, severity 3)`."""
    if row["evaluation"] == WIDTH:
        return Measurement(row["metric"], row["dimensions"]).short
    dimensions = dict(sorted(row["dimensions"]))
    label = dimensions.pop("class", None)
    details = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in dimensions.items())
    return str(row["metric"]) + (f" on {label}" if label else "") + (f" ({details})" if details else "")


def _few(metrics: tuple[str, ...]) -> str:
    shown = metrics[:_SHOWN]
    more = len(metrics) - len(shown)
    return ", ".join(shown) + (f" and {more} other numbers" if more else "")


def _landscapes(study: Study) -> list[str]:
    """A sentence for each landscape that is not drawn because a loss on it is not finite."""
    items = []
    for run in study.complete("width"):
        arrays = run.arrays(LANDSCAPE.file, "loss", "plane") or {}
        wrong = {name: int((~np.isfinite(arrays[name])).sum()) for name in ("loss", "plane") if name in arrays}
        shown = [
            f"{count} points of the {'line' if name == 'loss' else name}" for name, count in wrong.items() if count
        ]
        if shown:
            items.append(
                f"{run.name}: the landscape is not drawn, because the loss is not finite at {names.listed(shown)}."
            )
    return items
