"""Width of the optimum: the measures, the landscapes, and their relation to accuracy."""

# ruff: noqa: RUF001 (what people read has Greek letters, dashes and minus signs)

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from analysis import names, tables
from analysis.blocks import Block, Section, formula
from analysis.correlation import TARGETS, Correlation, correlations, measures_of, widths_of
from analysis.estimates import Estimate, estimate
from analysis.figures import width
from analysis.measures import WIDTH, Measurement
from analysis.names import Model
from analysis.study import Study

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MODELS = 8  # columns of a table
_PANELS = 6  # measures that get a scatter of their own


def section(study: Study, figures: Path) -> Section:
    """Everything on the width of the optimum."""
    made = Section("Width of the optimum")
    measures, found = measures_of(study), correlations(study)
    if not measures:
        return made
    made.text(
        "All measures use one fixed, unaugmented, labelled subset of train, the same seeds and the same radii for "
        "every model. Batch normalisation is folded into the convolutions first. Where cross-entropy is near zero, "
        "scaling the logits changes sharpness at equal accuracy; so the loss on "
        "the subset is given too, and measures on normalised logits where they were taken. A probe was trained in its "
        "head alone: “head only” perturbs nothing else."
    )
    _formulas(made, measures)
    _values(made, study)
    _landscapes(made, study, figures)
    made.subheading("Relation to accuracy")
    _relation(made, study, found, figures)
    return made


def _formulas(made: Section, measures: Sequence[Measurement]) -> None:
    definitions = dict.fromkeys(measure.definition for measure in measures if measure.definition)
    rows: list[list[str | Block]] = [
        [entry.label, formula(entry.formula), entry.rescaling, entry.wider] for entry in definitions
    ]
    caption = "The measures: what each is, what rescaling the weights does to it, and which values mean a wide optimum."
    made.table(["Measure", "Definition", "Rescaling", "Wide"], rows, caption, left=4, widths=[1.5, 2.8, 0.8, 0.4])


def _values(made: Section, study: Study) -> None:
    """A table of the whole network, of every model, and one of the head alone, of the probes."""
    spread = (
        "±: standard deviation over seeds where there are several; of one seed the distance to the farther end of the "
        "95 % interval over the random draws that the measure takes, if it takes any."
    )
    measures, taken = measures_of(study), study.results[study.results["evaluation"] == WIDTH]
    whole = [measure for measure in measures if not measure.of_head]
    head = [measure for measure in measures if measure.of_head]
    for shown, caption in (
        (whole, "Values of the measures. " + spread),
        (head, "The same measures, of the head alone."),
    ):
        own = taken["dimensions"].isin([measure.dimensions for measure in shown])
        every = names.in_order(taken.loc[own, "model"], study.methods)
        for start in range(0, len(every), _MODELS):
            models = every[start : start + _MODELS]
            made.table(
                ["Measure", *(study.model_label(model) for model in models)],
                [_row(measure, [_value(study, model, measure) for model in models]) for measure in shown],
                caption,
                size=7.5,
                widths=[max(1.7, 7 - len(models)), *([1.0] * len(models))],
            )


def _value(study: Study, model: Model, measure: Measurement) -> Estimate | None:
    return estimate(study, model, WIDTH, measure.metric, measure.dimensions)


def _row(measure: Measurement, found: Sequence[Estimate | None]) -> list[str]:
    """A measure's values in one power of ten, with the decimals that give their median three digits."""
    middle = float(np.median([abs(entry.value) for entry in found if entry] or [0.0]))
    exponent = math.floor(math.log10(middle)) if middle else 0
    power = 0 if -1 <= exponent <= 3 else 3 * (exponent // 3)
    decimals = max(0, 2 - exponent + power)

    def shown(value: float) -> str:
        return f"{round(value / 10.0**power, decimals) + 0.0:,.{decimals}f}".replace("-", "−")

    cells = []
    for entry in found:
        bounds = entry.bounds if entry else None
        spread = f" ± {shown(max(bounds[1] - entry.value, entry.value - bounds[0]))}" if entry and bounds else ""
        cells.append(shown(entry.value) + spread if entry else tables.ABSENT)
    unit = f", in\u00a010{str(power).translate(_SUPERSCRIPTS)}" if power else ""
    return [measure.label + unit, *cells]


def _landscapes(made: Section, study: Study, figures: Path) -> None:
    made.figure(
        figures,
        "landscape-line",
        width.slices(study),
        "Loss and accuracy on the subset along one filter-normalised random direction, the same for every model; mean "
        "over seeds. α = 1 is a step as long as the weights themselves, filter by filter.",
        "the wider the valley around α = 0, the less a model minds a change of its weights.",
    )
    made.figure(
        figures,
        "landscape-plane",
        width.planes(study),
        "Loss on the plane of two filter-normalised random directions, the same directions and levels for every model, "
        "first seed: α to the right, β upwards, the cross is the trained model.",
        "a large dark basin is a wide optimum in these two of millions of directions.",
    )


def _relation(made: Section, study: Study, found: Sequence[Correlation], figures: Path) -> None:
    if not found:
        made.text("Fewer than four models have both a width and an accuracy: there is no correlation to compute.")
        return
    made.note(
        f"n is tiny: at most {max(entry.n for entry in found)} models, {len(found)} correlations looked at and no "
        "correction "
        "for that. A few models of related training are no sample of anything; read this as a description of these "
        "models, not as evidence that wide optima are better."
    )
    rows = [
        [measure.label, *(_entry(found, measure, target) for target in TARGETS)]
        for measure in dict.fromkeys(entry.measure for entry in found)
    ]
    made.table(
        ["Measure", *(f"ρ with {target}" for target in TARGETS.values())],
        rows,
        "Spearman's ρ with its 95 % bootstrap interval, the two-sided permutation p (exact up to eight models), and n.",
        size=8,
        widths=[1.4, 1.2, 1.2],
    )
    made.figure(
        figures,
        "width-correlations",
        width.forest(found),
        "Spearman's ρ of every measure with both accuracies; bars: 95 % percentile bootstrap over models (5,000 "
        "draws).",
        "a bar across zero is compatible with no relation at all.",
    )
    made.figure(
        figures,
        "width-accuracy",
        width.scatter(study, _headline(widths_of(study)), found),
        "Measures against accuracy, a point a model (mean over seeds), the random initialisation left out; one "
        "radius for each kind of measure. ρ: Spearman's rank correlation.",
        "for sharpness measures a falling cloud would say “flat is better”, for the PAC-Bayes width a rising one.",
    )


def _headline(measures: Sequence[Measurement]) -> list[Measurement]:
    """Each measure of the whole network without normalisation, at its middle radius where it has several."""
    plain: dict[str, list[Measurement]] = {}
    for measure in measures:
        if not measure.of_head and not measure.normalized:
            plain.setdefault(measure.name, []).append(measure)
    return [found[len(found) // 2] for found in plain.values()][:_PANELS]


def _entry(found: Sequence[Correlation], measure: Measurement, target: str) -> str:
    for entry in found:
        if (entry.measure, entry.target) == (measure, target):
            bounds = f"[{tables.signed(entry.low, 2)}, {tables.signed(entry.high, 2)}]"
            return f"{tables.signed(entry.rho, 2)} {bounds}, p = {entry.p:.3f}, n = {entry.n}"
    return tables.ABSENT
