"""The measurements of the width of an optimum for each model: values over seeds, bounds, and seeds without a value."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import pandas as pd

from analysis import names
from analysis.estimates import Dimensions, Estimate, estimate
from analysis.measures import WIDTH, Measurement, in_order
from analysis.names import Model
from analysis.records import mapping
from analysis.study import Study

Key = tuple[Model, str, frozenset[tuple[str, Any]]]


@dataclass(frozen=True)
class Measured:
    """A measurement of one model.

    estimate: over the seeds that have a value. at_least, at_most: a bound of the mean over seeds, if the search ended
    at a limit for some seed; then there is no estimate. lost: number of seeds without a value or a bound, of those that
    have a test accuracy.
    """

    estimate: Estimate | None
    at_least: float | None = None
    at_most: float | None = None
    lost: int = 0

    @property
    def value(self) -> float | None:
        """The mean over seeds; None unless every seed has a value."""
        return self.estimate.value if self.estimate and not self.lost else None


def measured(study: Study, model: Model, measure: Measurement) -> Measured | None:
    """A measurement of one model; None if no run has it."""
    return _every(study).get((model, measure.metric, measure.dimensions))


@lru_cache(maxsize=1)
def _every(study: Study) -> dict[Key, Measured]:
    """The measurements by model, metric and dimensions."""
    frame = study.results[study.results["evaluation"] == WIDTH]
    groups = frame.groupby(["model", "metric", "dimensions"], sort=False)
    return {key: _measured(study, *key, rows) for key, rows in cast(Iterable[tuple[Key, pd.DataFrame]], groups)}


def _measured(study: Study, model: Model, metric: str, dimensions: Dimensions, rows: pd.DataFrame) -> Measured:
    found = estimate(study, model, WIDTH, metric, dimensions)
    tested = estimate(study, model, "test", "accuracy")
    known = rows.loc[rows[["value", "at_least", "at_most"]].notna().any(axis=1), "seed"]
    lost = len({*rows["seed"], *(tested.by_seed if tested else ())} - set(known))
    if rows[["at_least", "at_most"]].isna().all(axis=None):
        return Measured(found, lost=lost)
    low, high = (_mean(rows["value"].fillna(rows[bound])) for bound in ("at_least", "at_most"))
    return Measured(None, low, high, lost)


def _mean(ends: "pd.Series[float]") -> float | None:
    """The mean over seeds; None if a seed lacks the bound, because the bound of the mean is then unknown."""
    return None if ends.isna().any() else float(ends.mean())


def measures_of(study: Study) -> list[Measurement]:
    """What the evaluation `width` measured, in the report's order: widths, predictions, and loss and accuracy."""
    rows = study.results[study.results["evaluation"] == WIDTH]
    return in_order(Measurement(*pair) for pair in zip(rows["metric"], rows["dimensions"], strict=True))


def models_of(study: Study, measures: Collection[Measurement]) -> list[Model]:
    """The models of which a run has one of the measurements, also without a value, in the report's order."""
    every = _every(study)
    found = (model for model, metric, dimensions in every if Measurement(metric, dimensions) in measures)
    return names.in_order(found, study.methods)


def widths_of(study: Study) -> list[Measurement]:
    """The measures of width, without predictions and without loss and accuracy on the subset."""
    return [measure for measure in measures_of(study) if measure.of_width]


def predictions_of(study: Study) -> list[Measurement]:
    """The sharpness measures that have a first-order prediction."""
    found = set(measures_of(study))
    return [measure for measure in widths_of(study) if measure.first_order in found]


def setting(study: Study, name: str) -> Any:
    """A setting of the stage `width` in its first complete run; None if it is unknown, or differs between studies."""
    parts = [part.complete("width")[:1] for part in study.parts or (study,)]
    found = [mapping(run.config.get("width")).get(name) for runs in parts for run in runs]
    return found[0] if found and all(value == found[0] for value in found) else None
