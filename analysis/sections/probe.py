"""The linear probes beside the supervised baseline."""

from pathlib import Path

import numpy as np

from analysis import names, tables
from analysis.blocks import Section
from analysis.comparisons import TEST, comparisons
from analysis.estimates import estimate
from analysis.method_texts import PROBE
from analysis.records import mapping
from analysis.sections.methods import by_study, explain
from analysis.sections.training import choice
from analysis.study import Study
from analysis.trials import chosen_l2, penalties
from analysis.words import _
from ssl_pkg.catalogue import SUPERVISED

_GRID = ("l2_count", "l2_low", "l2_high", "validation_fraction")


def section(study: Study, figures: Path) -> Section:
    """How a probe is fitted, and its accuracy beside that of supervised training; empty without a probe."""
    made = Section(_("Linear probe"), ("probe", "finetune"))
    if any(model.adaptation == "probe" for model in study.models):
        explain(made, PROBE, {})
        made.text(by_study(study, _penalties))
        made.text(_at_the_edge(study))
        _beside(made, study)
    return made


def _penalties(study: Study) -> str:
    """How the penalty is chosen, with the grid as run."""
    settings = next((mapping(run.config.get("probe")) for run in study.of("probe")), {})
    if not settings.keys() >= set(_GRID):
        return ""
    count, low, high, share = (settings[name] for name in _GRID)
    return _(
        "λ is chosen from {count} logarithmically spaced values from {low:g} to {high:g}, by the log loss on a "
        "holdout split of {percent:g} % of train, because several penalties often have the same accuracy. The probe "
        "is then fitted on all of train. The section “Learning curves” has a figure of the grid.",
        count=count,
        low=low,
        high=high,
        percent=100 * share,
    )


def _at_the_edge(study: Study) -> str:
    """The probes whose penalty is the smallest or largest of the grid, beyond which a better one may be."""
    found = []
    for run in study.complete("probe"):
        grid, penalty = penalties(run)["l2"], chosen_l2(study, run)
        if len(grid) > 1 and (np.isclose(penalty, grid.min()) or np.isclose(penalty, grid.max())):
            found.append(study.model_label(run.model))
    if not found:
        return ""
    return _(
        "The chosen λ is at the edge of the grid, beyond which there may be a better one: {models}.",
        models=names.listed(found),
    )


def _beside(made: Section, study: Study) -> None:
    """A row for each probe and for the supervised baseline."""
    rows = []
    for model in (model for model in study.models if model.adaptation == "probe" or model.method == SUPERVISED):
        entry = next((entry for entry in comparisons(study).get(TEST, []) if entry.first == model), None)
        rows.append(
            [
                study.model_label(model),
                tables.percent(estimate(study, model, "test", "accuracy")),
                choice("l2", estimate(study, model, "validation", "l2")),
                tables.gain_text(entry.difference if entry else None),
                tables.verdict_text(entry.verdict if entry else None),
            ]
        )
    made.table(
        "probes",
        [_("Model"), _("Test accuracy (%)"), _("Chosen λ"), _("Minus supervised (points)"), _("Verdict")],
        rows,
        _(
            "Linear probes and supervised training from random weights on the same labelled images, with 95 % "
            "intervals; each seed has its own λ. The section “Comparisons” explains the verdict."
        ),
    )
