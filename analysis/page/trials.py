"""Interactive figure of the trials of fine-tuning and of the supervised baseline on the holdout split."""

import math
from collections.abc import Sequence
from typing import Any, Final

import plotly.graph_objects as go

from analysis import names
from analysis.names import Model
from analysis.page.plots import (
    Plot,
    View,
    dodged,
    hover,
    marker,
    model_entries,
    rows_axis,
    rows_height,
    text,
    traces,
)
from analysis.run import Run
from analysis.study import Study
from analysis.trials import FIELDS, candidate, setting_text
from analysis.words import _

_Candidate = tuple[Any, ...]
_REACH: Final = 0.3  # of a row, to both sides of its centre: where the models of one candidate are


def trials(study: Study) -> list[Plot]:
    """Every trial of every run: a row for each candidate, a mark for each model and seed."""
    tried = {run: [trial for trial in run.tried if _measured(trial)] for run in study.complete("finetune")}
    candidates = list(dict.fromkeys(candidate(trial) for found in tried.values() for trial in found))
    if len(candidates) < 2:
        return []
    models = names.in_order((run.model for run, found in tried.items() if found), study.methods)
    varied = [place for place, values in enumerate(zip(*candidates, strict=True)) if len(set(values)) > 1]
    labels = [" / ".join(setting_text(values[place]) for place in varied) for values in candidates]
    views = []
    for metric, label, title in (
        ("accuracy", _("Accuracy"), _("accuracy on the holdout split")),
        ("log_loss", _("Log loss"), _("log loss (nats) on the holdout split")),
    ):
        drawn = [
            _marks(study, run, found, metric, candidates=candidates, models=models)
            for run, found in tried.items()
            if found
        ]
        axis = {"tickformat": ".0%"} if metric == "accuracy" else {}
        content = traces(drawn, xaxis={"title": {"text": title}, **axis}, yaxis=rows_axis(labels))
        views.append(View(label, content, [run for run, found in tried.items() if found]))
    named = " / ".join(_(list(FIELDS.values())[place]).lower() for place in varied)
    caption = _(
        "Every trial on the holdout split of train, in a row for each {fields}. A large mark is the trial that a seed "
        "chose: the highest accuracy; ties go to the smallest log loss; as the highest of several it is an "
        "overestimate. A trial that diverged has no mark.",
        fields=named,
    )
    legend = model_entries(study, models, lines=False)
    return [Plot("trials", _("Trials of fine-tuning"), caption, views, height=rows_height(labels), legend=legend)]


def _measured(trial: Any) -> bool:
    if not isinstance(trial, dict) or not FIELDS.keys() <= trial.keys():
        return False
    values = [trial.get(key) for key in ("accuracy", "log_loss")]
    return all(isinstance(value, int | float) and math.isfinite(value) for value in values)


def _marks(
    study: Study,
    run: Run,
    found: Sequence[dict[str, Any]],
    metric: str,
    *,
    candidates: Sequence[_Candidate],
    models: Sequence[Model],
) -> Any:
    """The trials of a run. The models of one candidate are side by side in its row."""
    chosen = [trial.get("phase") == run.chosen for trial in found]
    shift = dodged(models.index(run.model), len(models), _REACH)
    shown = [
        hover(
            _("{run}, chosen", run=study.run_label(run)) if best else study.run_label(run),
            *(
                f"{_(name).lower()} {setting_text(value)}"
                for name, value in zip(FIELDS.values(), candidate(trial), strict=True)
            ),
            _(
                "accuracy {accuracy:.1f} %, log loss {loss:.3f}",
                accuracy=100 * trial["accuracy"],
                loss=trial["log_loss"],
            ),
            run.name,
        )
        for trial, best in zip(found, chosen, strict=True)
    ]
    return go.Scatter(
        x=[trial[metric] for trial in found], y=[candidates.index(candidate(trial)) + shift for trial in found],
        mode="markers", marker=marker(study, run.model) | {"size": [14 if best else 7 for best in chosen]},
        hovertext=shown, hoverinfo="text", legendgroup=run.model.full_name, name=text(study.model_label(run.model)),
    )  # fmt: skip
