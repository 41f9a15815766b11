"""The candidates that a labelled training tried on the holdout split, as `tried` in its result.json lists them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Final

import numpy as np
import pandas as pd

from analysis import names, tables
from analysis.artifacts import numbers
from analysis.blocks import Section
from analysis.comparisons import own_probe
from analysis.estimates import estimate
from analysis.names import Model
from analysis.number_text import NumberText
from analysis.records import mapping
from analysis.run import Run
from analysis.study import Study
from analysis.words import N_, _, localized, ngettext

_COLUMNS: Final = 5  # models in the columns of the table; more are in its rows
FIELDS: Final = {
    "lr": N_("Learning rate"),
    "weight_decay": N_("Weight decay"),
    "jitter": N_("Jitter"),
    "head": N_("Initial head"),
}


def chosen_curve(run: Run) -> pd.DataFrame:
    """The metric lines of the trial that was chosen, which are without the held-out images; empty if there is none."""
    frame = run.metrics
    return frame[frame["phase"] == run.chosen] if "phase" in frame and run.chosen else frame.iloc[:0]


def penalties(run: Run) -> pd.DataFrame:
    """The l2 penalties in the result of a probe, with log loss and accuracy of each on the holdout split."""
    rows = [numbers(row) for row in run.tried if isinstance(row, dict)]
    return pd.DataFrame(rows, columns=["l2", "log_loss", "accuracy"]).astype(float).dropna().sort_values("l2")


def chosen_l2(study: Study, run: Run) -> float:
    """The l2 penalty that a probe chose; nan if it is not recorded."""
    found = estimate(study, run.model, "validation", "l2")
    return found.by_seed.get(run.seed, np.nan) if found else np.nan


def table(made: Section, study: Study) -> None:
    """Every trial of every model: accuracy and log loss on the holdout split, and which one was chosen."""
    cells: dict[tuple[str, ...], dict[Model, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for run in study.complete("finetune"):
        for trial in run.tried:
            if isinstance(trial, dict) and FIELDS.keys() <= trial.keys():
                cells[candidate(trial)][run.model].append({**trial, "chosen": trial.get("phase") == run.chosen})
    models = names.in_order((model for found in cells.values() for model in found), study.methods)
    labels = [study.model_label(model) for model in models]
    headings = [*map(_, FIELDS.values()), *labels]
    rows = [
        [*map(setting_text, values), *(_cell(found.get(model, [])) for model in models)]
        for values, found in cells.items()
    ]
    if len(models) > _COLUMNS:
        headings = [_("Model"), *(_named(values) for values in cells)]
        rows = [[label, *texts] for label, *texts in zip(labels, *(row[len(FIELDS) :] for row in rows), strict=True)]
    made.table(
        "trials",
        headings,
        rows,
        _(
            "Every trial of the search: accuracy in percent and log loss in nats on the holdout split of train, mean "
            "over the seeds in which it did not diverge. Each star marks the choice of one seed: the highest accuracy; "
            "ties go to the smallest log loss; as the highest of several it is an overestimate. Initial head: the "
            "last layer starts from a linear probe on the frozen encoder (LP-FT, Kumar et al., 2022) or from random "
            "weights."
        ),
        size=8.5,
        stages=("finetune",),
    )


def _named(values: Sequence[Any]) -> str:
    """A candidate in words: `learning rate 0.001, weight decay 0.05, jitter off, initial head probe`."""
    return names.separated(
        [f"{_(title).lower()} {setting_text(value)}" for title, value in zip(FIELDS.values(), values, strict=True)]
    )


def candidate(trial: Mapping[str, Any]) -> tuple[Any, ...]:
    """The values of FIELDS that a trial had."""
    return tuple(trial[name] for name in FIELDS)


def below_probe(study: Study) -> str:
    """Names the fine-tuned models whose validation accuracy has an interval below that of the probe on their encoder.

    The two are comparable if the holdout splits have the same size, because then they are the same images.
    """
    parts = []
    for model in names.in_order((run.model for run in study.complete("finetune")), study.methods):
        own = estimate(study, model, "validation", "accuracy")
        probe = estimate(study, own_probe(study, model), "validation", "accuracy")
        if own is None or probe is None or own.n != probe.n:
            continue
        if (own.value if own.high is None else own.high) < probe.value:
            parts.append(
                _(
                    "{model} {accuracy} against {probe}",
                    model=study.model_label(model),
                    accuracy=tables.percent(own),
                    probe=tables.percent(probe),
                )
            )
    if not parts:
        return ""
    epochs = next((mapping(run.config.get("finetune")).get("selection_epochs") for run in study.of("finetune")), None)
    length = "" if epochs is None else ngettext(" of {n} epoch", " of {n} epochs", epochs)
    return _(
        "On the holdout split the accuracy of these fine-tuned models after a trial{length} is below that of a linear "
        "probe on the encoder that they started from, in percent: {models}. This is not a test of a difference: "
        "the accuracies are those of the chosen candidates, for fine-tuning the highest, for the probe that of the "
        "smallest log loss.",
        length=length,
        models="; ".join(parts),
    )


def _cell(trials: list[dict[str, Any]]) -> str:
    keys = ("accuracy", "log_loss")
    measured = [trial for trial in trials if all(isinstance(trial.get(key), int | float) for key in keys)]
    if not measured:
        return "; ".join(dict.fromkeys(str(trial.get("reason", "")) for trial in trials)) or tables.ABSENT
    accuracy, loss = (fmean(float(trial[key]) for trial in measured) for key in keys)
    stars = "*" * sum(trial["chosen"] for trial in trials)
    text = _("{accuracy:.1f} / {loss:.3f} {stars}", accuracy=100 * accuracy, loss=loss, stars=stars).strip()
    return NumberText(text, accuracy=100 * accuracy, log_loss=loss)


def setting_text(value: Any) -> str:
    """The value of a field as text for people."""
    if isinstance(value, bool):
        return _("on") if value else _("off")
    if isinstance(value, int | float):
        return NumberText(localized(f"{value:g}"), value=value)
    return {"probe": _("probe"), "random": _("random")}.get(str(value)) or str(value)
