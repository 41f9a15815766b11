"""Width of the optimum: definitions and values of the measures, loss landscapes, and the relation to accuracy."""

# ruff: noqa: RUF001 (texts for people have Greek letters, dashes and minus signs)

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
_PANELS = 6  # measures with a scatter plot


def section(study: Study, figures: Path) -> Section:
    """The section; no blocks if the study has no measures."""
    made = Section("Width of the optimum")
    measures, found = measures_of(study), correlations(study)
    if not measures:
        return made
    made.text(
        "All measures use the same fixed, unaugmented, labelled subset of train, the same noise and the same radii "
        "for every model. Batch normalisation is first folded into the convolutions. Scaling the logits changes "
        "sharpness without changing accuracy, most of all when the cross-entropy is near zero; therefore the loss on "
        "the subset is listed too, and some measures are also taken on normalised logits. A probe trained only its "
        "last layer; “head only” perturbs only this layer."
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
    caption = (
        "Definitions of the measures, their behaviour when the weights are rescaled, and the values of a wide optimum."
    )
    made.table(["Measure", "Definition", "Rescaling", "Wide"], rows, caption, left=4, widths=[1.5, 2.8, 0.8, 0.4])


def _values(made: Section, study: Study) -> None:
    """A table of the measures of the whole network for every model, and one of those of the head for the probes."""
    spread = (
        "±: standard deviation over seeds; with one seed, for measures with random noise, the distance to the farther "
        "end of the 95 % interval over the draws of noise."
    )
    measures, taken = measures_of(study), study.results[study.results["evaluation"] == WIDTH]
    network = [measure for measure in measures if not measure.of_head]
    head = [measure for measure in measures if measure.of_head]
    for shown, caption in (
        (network, "Values of the measures. " + spread),
        (head, "The same measures of the head only."),
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
    """The cells of a measure: all in the same power of ten, with decimals that give the median three digits."""
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
        "over seeds. At α = 1 the step of each filter has the norm of the filter.",
        "the wider the valley around α = 0, the less sensitive the model is to a change of its weights.",
    )
    made.figure(
        figures,
        "landscape-plane",
        width.planes(study),
        "Loss on the plane of two filter-normalised random directions, with the same directions and levels for every "
        "model; first seed. α increases to the right, β upwards; the cross is the trained model.",
        "a large dark basin is an optimum that is wide in these two directions, out of millions.",
    )


def _relation(made: Section, study: Study, found: Sequence[Correlation], figures: Path) -> None:
    if not found:
        made.text("No correlation is computed, because fewer than four models have both a width and an accuracy.")
        return
    made.note(
        f"n is very small: at most {max(entry.n for entry in found)} models. There are {len(found)} correlations "
        "without a correction for multiple comparisons, and the models are not an independent sample, because their "
        "training is related. This describes these models; it is not evidence that wide optima are better."
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
        "a bar across zero is compatible with no relation.",
    )
    made.figure(
        figures,
        "width-accuracy",
        width.scatter(study, _headline(widths_of(study)), found),
        "Measures against accuracy. Each point is a model (mean over seeds), without the random initialisation; each "
        "measure is shown at one radius. ρ: Spearman's rank correlation.",
        "if flat optima are better, points fall from left to right for sharpness measures and rise for the PAC-Bayes "
        "width.",
    )


def _headline(measures: Sequence[Measurement]) -> list[Measurement]:
    """Each measure of the network on the logits as they are; of several radii the middle one."""
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
