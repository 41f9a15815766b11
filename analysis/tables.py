"""The tables of a study as data frames, and the formats of their numbers for people."""

# ruff: noqa: RUF001 (texts for people have Greek letters, dashes and minus signs)

import math
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd

from analysis import statistics
from analysis.comparisons import random_probe
from analysis.correlation import correlations
from analysis.estimates import Difference, Estimate, difference, estimate
from analysis.measures import Measurement
from analysis.names import Model
from analysis.number_text import NumberText
from analysis.statistics import ALPHA, Mean
from analysis.study import RESULT_COLUMNS, Study
from analysis.widths import measured, measures_of, models_of
from analysis.words import _, language, localized, ngettext
from ssl_pkg.rows import dimensions_of

ABSENT: Final = "–"
Gap = Difference | statistics.Difference | Mean  # with the ends of its interval
WIDTH_DIMENSIONS: Final = ("measure", "radius", "scope", "normalized", "penalty", "eigenvalue")


@dataclass(frozen=True)
class Column:
    """A column of accuracies in the main table: its key and heading, and the rows that its numbers come from."""

    key: str
    heading: str
    evaluation: str
    metric: str


def results(study: Study) -> pd.DataFrame:
    """Every number of every complete run, one a row; the columns are RESULT_COLUMNS."""
    frame = study.results[RESULT_COLUMNS]
    return frame.assign(model=[model.name for model in frame["model"]])


def main_columns(study: Study) -> list[Column]:
    """The columns of the main table: test accuracy, and every other accuracy that the study has.

    The kNN accuracy on the holdout split of train is shown only if there is none on test.
    """
    ood = study.results[(study.results["evaluation"] == "ood") & (study.results["n"] > 0)]
    classes = ood["class"].nunique()
    classes = classes or next((len(run.classes) for run in study.complete("ood") if run.classes), 0)
    lacking = len(substituted(study))
    columns = [
        Column("test", _("Test accuracy"), "test", "accuracy"),
        Column("ood10", _classes(classes), "ood", "accuracy"),
        *([Column("ood9", _classes(classes - lacking), "ood", "accuracy_shared")] if lacking else []),
        Column("knn", _("kNN on test"), "knn", "accuracy"),
        Column("knn_validation", _("kNN on holdout"), "knn_validation", "accuracy"),
    ]
    shown = [
        column
        for column in columns
        if column.key == "test" or any(main_value(study, model, column) for model in study.models)
    ]
    on_test = any(column.key == "knn" for column in shown)
    return [column for column in shown if not (on_test and column.key == "knn_validation")]


def _classes(count: int) -> str:
    return ngettext("OOD, {n} class", "OOD, {n} classes", count)


def main_value(study: Study, model: Model, column: Column) -> Estimate | None:
    """The number of a model in a column. The kNN accuracy from pretraining is shown with the encoder's probe."""
    if column.key == "knn_validation" and model.adaptation == "probe":
        model = model.encoder
    return estimate(study, model, column.evaluation, column.metric)


def substituted(study: Study) -> list[str]:
    """The classes that replace an OOD class that the models lack: monkey, which replaces CIFAR-10's frog."""
    found = [(run.result or {}).get("substituted") for run in study.complete("ood")]
    return sorted({str(name) for names_ in found if isinstance(names_, list) for name in names_})


def gain(study: Study, model: Model) -> Difference | None:
    """Test accuracy minus that of the linear probe on the random initialisation; None for that probe."""
    base = random_probe(study, model)
    return None if model == base else difference(study, model, base, "test")


def summary(study: Study) -> pd.DataFrame:
    """The main table with plain numbers: accuracies as fractions, the gain in percentage points."""
    rows = []
    for model in study.models:
        row: dict[str, Any] = {"model": model.name, "variant": model.variant, "study": model.study, "seeds": 0}
        for column in main_columns(study):
            found = main_value(study, model, column)
            row |= {
                column.key: found.value if found else None,
                f"{column.key}_low": found.low if found else None,
                f"{column.key}_high": found.high if found else None,
                f"{column.key}_sd": found.sd if found else None,
            }
            if column.key == "test" and found:
                row["seeds"] = len(found.by_seed)
        gap = gain(study, model)
        row["gain_points"] = 100 * gap.value if gap else None
        row["gain_low"] = 100 * gap.low if gap and gap.low is not None else None
        row["gain_high"] = 100 * gap.high if gap and gap.high is not None else None
        rows.append(row)
    frame = pd.DataFrame(rows)
    return frame.astype(
        dict.fromkeys(frame.columns.drop(["model", "variant", "study", "seeds"], errors="ignore"), float)
    )


def summary_text(study: Study) -> tuple[list[str], list[list[str]]]:
    """Headings and cells of the main table as text for people."""
    columns = main_columns(study)
    first, *others = (column.heading for column in columns)
    headings = [_("Model"), first, _("Gain over random probe"), *others]
    rows = []
    for model in study.models:
        cells = [percent(main_value(study, model, column)) for column in columns]
        rows.append([study.model_label(model), cells[0], gain_text(gain(study, model)), *cells[1:]])
    return headings, rows


def percent(found: Estimate | Mean | None) -> NumberText:
    """An accuracy in percent with its interval: `74.1 [73.1, 75.0]`."""
    if found is None:
        return NumberText(ABSENT)
    value = 100 * found.value
    if found.low is not None and found.high is not None:
        low, high = 100 * found.low, 100 * found.high
        text = _("{value:.1f} [{low:.1f}, {high:.1f}]", value=value, low=low, high=high)
        return NumberText(text, value=value, low=low, high=high)
    return fixed(value, 1)


def whole_percent(share: float | None) -> NumberText:
    """A share in a cell of a heat map, as a whole number of percent."""
    return fixed(None if share is None else 100 * share, 0)


def gain_text(gap: Gap | None) -> NumberText:
    """A difference of accuracies in percentage points, with its interval."""
    if gap is None:
        return NumberText(ABSENT)
    value = 100 * gap.value
    if gap.low is None or gap.high is None:
        return signed(value)
    low, high = 100 * gap.low, 100 * gap.high
    text = _("{value} [{low}, {high}]", value=signed(value), low=signed(low), high=signed(high))
    return NumberText(text, value=value, low=low, high=high)


def p_text(p: float) -> NumberText:
    """A p-value: `p = .012`, with a fourth decimal where three would not show whether it is below ALPHA."""
    if math.isnan(p):
        return NumberText(ABSENT)
    if not 0.001 <= p <= 0.99:
        return NumberText(_("p < .001") if p < 0.001 else _("p > .99"), value=p)
    digits = 4 if round(p, 3) == ALPHA else 3
    decimals = f"{p:.{digits}f}".partition(".")[2]
    return NumberText(_("p = .{decimals}", decimals=decimals), value=p)


def signed(value: float, digits: int = 1) -> NumberText:
    """A number with its sign; minus is the typographic one."""
    return NumberText(localized(f"{value:+.{digits}f}").replace("-", "−"), value=value)


def fixed(value: float | None, digits: int) -> NumberText:
    """A number with this many decimals."""
    return NumberText(ABSENT if value is None else localized(f"{value:.{digits}f}"), value=value)


def number(value: float | None) -> NumberText:
    """Three significant digits, with an exponent only below 1e-3 and from 1e5."""
    if value is None or math.isnan(value):
        return NumberText(ABSENT)
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return NumberText(localized(f"{value:.2e}"), value=value)
    return NumberText(localized(f"{value:,.{max(0, 2 - int(f'{value:e}'.partition('e')[2]))}f}"), value=value)


def verdict_text(verdict: str | None) -> str:
    """The verdict of a comparison for people."""
    return _(verdict) if verdict else ABSENT


def width(study: Study) -> pd.DataFrame:
    """Every number of the evaluation `width` for every model: mean and standard deviation over seeds.

    The columns are metric, WIDTH_DIMENSIONS, model, variant, study, value, sd, seeds, at_least, at_most. A number that
    could not be computed has a row without a value. `seeds` counts those with a value.
    """
    rows = []
    for measure in measures_of(study):
        for model in models_of(study, [measure]):
            found = measured(study, model, measure)
            value = found.estimate if found else None
            values = (value.value, value.sd, len(value.by_seed)) if value else (None, None, 0)
            bounds = (found.at_least, found.at_most) if found else (None, None)
            rows.append(
                [measure.metric, *_dimensions(measure), model.name, model.variant, model.study, *values, *bounds]
            )
    columns = ["metric", *WIDTH_DIMENSIONS, "model", "variant", "study", "value", "sd", "seeds", "at_least", "at_most"]
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(("value", "sd", "at_least", "at_most"), float))


def _dimensions(measure: Measurement) -> list[Any]:
    return [dict(measure.dimensions).get(name) for name in WIDTH_DIMENSIONS]


def per_class(study: Study) -> pd.DataFrame:
    """Accuracy by class on test and OOD: evaluation, model, variant, study, class, value, low, high, sd, n, seeds."""
    rows = []
    for evaluation in ("test", "ood"):
        lost = study.unmeasured[study.unmeasured["evaluation"] == evaluation]
        for model in study.models:
            for label in class_names(study, evaluation):
                origin = {"evaluation": evaluation, "model": model.name, "variant": model.variant}
                key: dict[str, Any] = origin | {"study": model.study, "class": label}
                found = estimate(study, model, evaluation, "accuracy", dimensions_of(key))
                counts = lost.loc[(lost["model"] == model) & (lost["class"] == label), "n"]
                if found is None and len(counts):
                    rows.append({**key, "value": None, "n": counts.iloc[0], "seeds": 0})
                if found:
                    spread = {"low": found.low, "high": found.high, "sd": found.sd}
                    rows.append({**key, "value": found.value, **spread, "n": found.n, "seeds": len(found.by_seed)})
    columns = ["evaluation", "model", "variant", "study", "class", "value", "low", "high", "sd", "n", "seeds"]
    return pd.DataFrame(rows, columns=columns)


def class_names(study: Study, evaluation: str) -> list[str]:
    """The models' classes in their order, then any others that have an accuracy; empty if no class has one.

    A class without images is included, so that the report shows its absence.
    """
    rows = study.results
    found = dict.fromkeys(rows.loc[rows["evaluation"] == evaluation, "class"].dropna())
    order = next((run.classes for run in study.complete() if run.classes), [])
    return list(dict.fromkeys([*order, *found])) if found else []


def runs(study: Study) -> pd.DataFrame:
    """Every run in the folder or in the plan: stage, model, variant, study, seed, seconds, complete, state, folder.

    The states are English in every language.
    """
    with language("en"):
        found = [(run.stage, run.model, run.seed, run.seconds, run.complete, run.state, run.name) for run in study.runs]
    present = {(run.stage, run.model, run.seed) for run in study.runs}
    found += [(*key, None, False, "not started", "") for key in study.planned if key not in present]
    columns = ["stage", "model", "variant", "study", "seed", "seconds", "complete", "state", "folder"]
    rows = [[stage, model.name, model.variant, model.study, *rest] for stage, model, *rest in found]
    return pd.DataFrame(rows, columns=columns)


def correlation(study: Study) -> pd.DataFrame:
    """Spearman's rho of every width measure of the network with every target, over all models and by kind."""
    columns = ["target", "kind", "rho", "low", "high", "p", "corrected", "n"]
    rows = [[*_dimensions(found.measure), *(getattr(found, name) for name in columns)] for found in correlations(study)]
    return pd.DataFrame(rows, columns=[*WIDTH_DIMENSIONS, *columns])


def notes(study: Study) -> list[str]:
    """Notes for the main table: failed runs, excluded runs and files, and the count of numbers without a value."""
    failed = [_("{run} failed: {why}", run=name, why=why) for name, why in study.failed.items()]
    lost = len(study.unmeasured)
    more = ngettext(
        "{n:,} number could not be computed; the report says why.",
        "{n:,} numbers could not be computed; the report says why.",
        lost,
    )
    return [*failed, *study.notes, *([more] if lost else [])]
