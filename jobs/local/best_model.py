"""The model of a complete study with which to predict the classes of other images."""

import shlex
from collections.abc import Sequence
from typing import Any

from jobs.plan.graph import Job
from ssl_pkg.cache import synthetic_set
from ssl_pkg.catalogue import ADAPTATIONS, RANDOM
from ssl_pkg.config.schema import SYNTHETIC
from ssl_pkg.messages.program import console_command
from ssl_pkg.run.directory import RunDirectory


def prediction_advice(jobs: Sequence[Job]) -> str:
    """Names the trained model that is most accurate on the holdout split of train, and the command that predicts.

    The test images take no part in the choice. Empty if no model has an accuracy on the holdout split.
    """
    found = {job: _holdout_accuracy(job) for job in jobs if job.stage in ADAPTATIONS and job.method != RANDOM}
    measured = {job: accuracy for job, accuracy in found.items() if accuracy is not None}
    if not measured:
        return ""
    best = max(measured, key=lambda job: measured[job])
    short = "; fine-tuned ones are measured there after shorter trainings" if any(map(_has_short_trials, found)) else ""
    (root,) = (word.removeprefix("data.root=") for word in best.overrides if word.startswith("data.root="))
    images = str(synthetic_set()) if root == SYNTHETIC else root
    line = shlex.join([console_command(), "predict", str(best.run_dir), images])
    return (
        f"Most accurate model on the holdout split of train: {best.name} ({100 * measured[best]:.1f} %{short}).\n"
        f"It predicts the classes of any folder of images; here of the test images:\n    {line}"
    )


def _holdout_accuracy(job: Job) -> float | None:
    rows: list[dict[str, Any]] = (RunDirectory(job.run_dir).result() or {}).get("rows", [])
    values = [row["value"] for row in rows if (row["evaluation"], row["metric"]) == ("validation", "accuracy")]
    return values[0] if values else None


def _has_short_trials(job: Job) -> bool:
    """Whether a fine-tuning's figures on the holdout split come from trainings with fewer epochs than the final one."""
    settings: dict[str, Any] = (RunDirectory(job.run_dir).config() or {}).get(job.stage, {})
    return bool(settings.get("selection_epochs", 0) < settings.get("epochs", 0))
