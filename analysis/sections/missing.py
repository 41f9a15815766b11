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
from analysis.words import N_, _
from ssl_pkg.catalogue import LANDSCAPE

_SHOWN = 4  # metrics named in a sentence; the others are counted


def section(study: Study) -> Section:
    """The list of everything that is missing; no blocks if nothing is."""
    made = Section(_("What is missing, and why"))
    items = [*_failed(study), *study.notes, *unmeasured(study), *_landscapes(study)]
    if items:
        made.text(_("In the tables a dash marks a missing number. The following is missing from this report:"))
        made.items(items)
    return made


def _failed(study: Study) -> list[str]:
    return [_("{run} failed; its last printed line: {why}", run=name, why=why) for name, why in study.failed.items()]


def unmeasured(study: Study) -> list[str]:
    """A sentence for each reason why numbers could not be computed, with the models and metrics that it concerns."""
    metrics: dict[tuple[Model, str, str], dict[str, None]] = defaultdict(dict)  # of each model, evaluation and reason
    for row in study.unmeasured.to_dict("records"):
        metrics[row["model"], row["evaluation"], row["reason"]][_named(row)] = None
    models: dict[tuple[str, str, tuple[str, ...]], list[Model]] = defaultdict(list)
    for (model, evaluation, reason), found in metrics.items():
        models[evaluation, reason, tuple(found)].append(model)
    return [
        _(
            "{models}: no {metrics} ({evaluation}), because {reason}.",
            models=names.listed(study.model_label(model) for model in names.in_order(found, study.methods)),
            metrics=_few(which),
            evaluation=evaluation,
            reason=reason,
        )
        for (evaluation, reason, which), found in models.items()
    ]


def _named(row: dict[Hashable, Any]) -> str:
    """The metric of a row with its dimensions: `accuracy on cat`, `accuracy (corruption blur, severity 3)`."""
    if row["evaluation"] == WIDTH:
        return Measurement(row["metric"], row["dimensions"]).short
    dimensions = dict(sorted(row["dimensions"]))
    label = dimensions.pop("class", None)
    details = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in dimensions.items())
    metric = _("{metric} on {label}", metric=row["metric"], label=label) if label else str(row["metric"])
    return metric + (f" ({details})" if details else "")


def _few(metrics: tuple[str, ...]) -> str:
    shown, more = names.separated(metrics[:_SHOWN]), len(metrics) - _SHOWN
    return _("{metrics} and {more} other numbers", metrics=shown, more=more) if more > 0 else shown


def _landscapes(study: Study) -> list[str]:
    """A sentence for each landscape that is not drawn because a loss on it is not finite."""
    items = []
    for run in study.complete("width"):
        arrays = run.arrays(LANDSCAPE.file, "loss", "plane") or {}
        kinds = {"loss": N_("{count} points of the line"), "plane": N_("{count} points of the plane")}
        wrong = {name: int((~np.isfinite(arrays[name])).sum()) for name in kinds if name in arrays}
        if points := names.listed(_(kinds[name], count=count) for name, count in wrong.items() if count):
            items.append(
                _(
                    "{run}: the landscape is not drawn, because the loss is not finite at {points}.",
                    run=run.name,
                    points=points,
                )
            )
    return items
