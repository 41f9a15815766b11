"""Width of the optimum: definitions and values of the measures, loss landscapes, and the relation to accuracy."""

# ruff: noqa: RUF001 (texts for people have Greek letters, dashes and minus signs)

import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise, product
from pathlib import Path
from typing import Final

from analysis import chosen_measure, names, relation, tables
from analysis.blocks import Block, Section, formula
from analysis.columns import fitting
from analysis.correlation import comparable
from analysis.figures import width
from analysis.measures import FIRST_ORDER, Measurement
from analysis.names import Model
from analysis.number_text import VALUE, NumberText
from analysis.selection import LINES, left_out, selected
from analysis.study import Study
from analysis.widths import Measured, measured, measures_of, models_of, predictions_of, setting
from analysis.words import N_, _, localized, pgettext
from ssl_pkg.catalogue import RANDOM

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_SIZE: Final = 7.5  # of the font in a table with a column for each model, in points
_MODELS, _MEASURE = 8, 90.0  # most models in such a table, and the width of its first column, in points
_LOST: Final = "†"
_HUGE: Final = 1e6  # from here on a cell has an exponent of its own
LOCAL: Final = 2.0  # largest ratio of a rise to its first-order prediction within a local radius


def section(study: Study, figures: Path) -> Section:
    """The section; no blocks if the study has no measures."""
    made = Section(_("Width of the optimum"), ("width",))
    measures = measures_of(study)
    if not measures:
        return made
    chosen_measure.add(made, study)
    made.subheading(_("All measures"))
    made.text(
        _(
            "All measures use the same fixed, unaugmented, labelled subset of train, the same noise and the same radii "
            "for every model{within}. Batch normalisation is first folded into the convolutions. A probe trained only "
            "its last layer; “head only” perturbs only this layer. The width of a head is mostly its penalty, "
            "therefore the heads of all probes are also fitted again at one common penalty{l2}.",
            within=_within(study),
            l2=_common_l2(study),
        )
    )
    _formulas(made, measures)
    _locality(made, study)
    _values(made, study)
    _landscapes(made, study, figures)
    made.subheading(_("Relation to accuracy"))
    relation.add(made, study, figures)
    return made


def _within(study: Study) -> str:
    """Of which models this is true, if the studies measured the widths with different settings."""
    return "" if comparable(study) else _(" of a study; the settings of the studies differ")


def _common_l2(study: Study) -> str:
    found = setting(study, "common_l2")
    return "" if found is None else _(", l2 = {penalty:g}", penalty=found)


def _formulas(made: Section, measures: Sequence[Measurement]) -> None:
    definitions = dict.fromkeys(measure.definition for measure in measures if measure.definition)
    rows: list[list[str | Block]] = [
        [_(entry.label), formula(_(entry.formula)), _(entry.rescaling), _(entry.wider)] for entry in definitions
    ]
    caption = _(
        "Definitions of the measures, their behaviour when the weights are rescaled, and the values of a wide optimum. "
        "S: a random part of the subset with m images. d: the smaller of .1 and half of the excess of the accuracy "
        "over chance, because near chance noise can't reduce the accuracy by .1."
    )
    headings = [_("Measure"), _("Definition"), _("Rescaling"), _("Wide")]
    made.table("width-measures", headings, rows, caption, left=4, widths=[1.5, 2.8, 0.8, 0.4])


def _locality(made: Section, study: Study) -> None:
    """The rise that was found relative to its first-order prediction, and up to which radius the measure is local."""
    shown = [measure for measure in predictions_of(study) if not measure.of_head]
    models = [model for model in models_of(study, shown) if model.method != RANDOM]
    ratios = {measure: {model: _ratio(study, model, measure) for model in models} for measure in shown}
    _by_model(
        made,
        study,
        models,
        lambda part: [[measure.label, *(tables.fixed(found[m], 2) for m in part)] for measure, found in ratios.items()],
        name="width-locality",
        first=_("Rise / first order"),
        caption=_(
            "The rise of the loss that was found, divided by its first-order prediction (the radius times the sum of "
            "the absolute products of weight and gradient). A radius is called local if the ratio is at most "
            "{ratio:g}: higher orders then add no more than the first order.",
            ratio=LOCAL,
        ),
    )
    normalized = {measure: found for measure, found in ratios.items() if measure.normalized}
    if models and normalized:
        made.text(_local_sentence(normalized, study))


def _local_sentence(ratios: Mapping[Measurement, Mapping[Model, float | None]], study: Study) -> str:
    """Up to which radius the measure is local for every model. ratios: of increasing radii, of each model."""
    reached = None
    for measure, found in ratios.items():
        beyond = [model for model, ratio in found.items() if ratio is not None and ratio > LOCAL]
        unknown = [model for model, ratio in found.items() if ratio is None]
        parts = [
            _(text, models=names.listed(map(study.model_label, those)))
            for text, those in ((N_("it is not for {models}"), beyond), (N_("it is unknown for {models}"), unknown))
            if those
        ]
        if parts:
            known = (
                _("On normalised logits the measure is known to be local for every model at none of these radii")
                if reached is None
                else _(
                    "On normalised logits the measure is known to be local for every model up to radius {radius:g}",
                    radius=reached,
                )
            )
            both = pgettext("between two statements", " and ").join(parts)
            return _("{known}; at radius {radius:g} {parts}.", known=known, radius=measure.radius, parts=both)
        reached = measure.radius
    return _(
        "On normalised logits the measure is local for every model up to radius {radius:g}, the largest measured.",
        radius=reached,
    )


def _ratio(study: Study, model: Model, measure: Measurement) -> float | None:
    rise, predicted = measured(study, model, measure), measured(study, model, measure.first_order)
    if rise is None or predicted is None or rise.value is None or not predicted.value:
        return None
    return rise.value / predicted.value


def _by_model(
    made: Section,
    study: Study,
    models: Sequence[Model],
    rows: Callable[[Sequence[Model]], list[list[str]]],
    *,
    name: str,
    first: str,
    caption: str,
) -> None:
    """Adds a table with a column for each model, as several tables if they don't fit. first: its first heading."""
    if not models:
        return
    shown = selected(study, models, LINES)
    labels = {model: study.model_label(model) for model in shown}
    cells = [cell for _label, *own in rows(shown) for cell in own]
    parts = math.ceil(len(shown) / fitting([*labels.values()], cells, _SIZE, _MEASURE, _MODELS))
    ends = [len(shown) * part // parts for part in range(parts + 1)]
    for part in (shown[start:end] for start, end in pairwise(ends)):
        headings = [first, *(labels[model] for model in part)]
        made.table(name, headings, rows(part), caption + left_out(models, LINES), size=_SIZE)


def _values(made: Section, study: Study) -> None:
    """A table of the measures of the whole network for every model, and tables of those of the head for the probes."""
    spread = _(
        "±: half the 95 % interval over seeds (Student's t; for accuracy over seeds and images, to the farther end). "
        "With one seed: the distance to the farther end of the row's interval, at 95 % over the subset's parts for a "
        "worst case and over the draws for noise; for an eigenvalue, the Lanczos residual, within which the Hessian "
        "has an eigenvalue (the k-th value never exceeds the k-th eigenvalue, and after few iterations is far below "
        "it)."
    )
    measures = [measure for measure in measures_of(study) if measure.metric != FIRST_ORDER]
    groups = (
        (
            "width-network",
            [measure for measure in measures if not measure.of_head],
            " ".join([_("Values of the measures."), spread]),
        ),
        (
            "width-head",
            [m for m in measures if m.of_head and not m.at_common_penalty],
            _("The same measures of the head only."),
        ),
        (
            "width-common-penalty",
            [m for m in measures if m.at_common_penalty],
            _("The same measures of the head only, fitted again at the common penalty{l2}.", l2=_common_l2(study)),
        ),
    )
    for name, shown, caption in groups:

        def rows(part: Sequence[Model], shown: Sequence[Measurement] = shown) -> list[list[str]]:
            return [_row(measure, [measured(study, model, measure) for model in part]) for measure in shown]

        models = models_of(study, shown)
        cells = product(selected(study, models, LINES), shown)
        found = [entry for model, measure in cells if (entry := measured(study, model, measure))]
        whole = " ".join([caption, *_marks(found)])
        _by_model(made, study, models, rows, name=name, first=_("Measure"), caption=whole)


def _marks(found: Sequence[Measured]) -> Iterator[str]:
    """What the marks mean that the cells of these numbers have."""
    if any(entry.at_least is not None or entry.at_most is not None for entry in found):
        yield _("≥ and ≤: the search ended at a limit; such a bound enters no correlation.")
    if any(entry.lost for entry in found):
        yield _(
            "{lost}: no value for some seed; the section “What is missing, and why” has the reasons.",
            lost=_LOST,
        )


def _row(measure: Measurement, found: Sequence[Measured | None]) -> list[str]:
    """The cells of a measure: all in the same power of ten, with decimals that give the median three digits."""
    values = [abs(value) for entry in found if entry for value in _numbers(entry)]
    middle = statistics.median_low(values or [0.0])
    exponent = math.floor(math.log10(middle)) if middle else 0
    power = 0 if -1 <= exponent <= 3 else 3 * (exponent // 3)
    decimals = max(0, 2 - exponent + power)

    def shown(value: float) -> NumberText:
        scaled = value / 10.0**power
        exponent = abs(scaled) >= _HUGE  # far from an optimum a loss can be any number
        text = f"{scaled:.1e}" if exponent else f"{round(scaled, decimals) + 0.0:,.{decimals}f}"
        return NumberText(localized(text).replace("-", "−"), value=scaled)

    unit = _(", in\u00a010{power}", power=str(power).translate(_SUPERSCRIPTS)) if power else ""
    return [measure.label + unit, *(_cell(entry, shown) for entry in found)]


def _numbers(entry: Measured) -> list[float]:
    numbers = (entry.estimate.value if entry.estimate else None, entry.at_least, entry.at_most)
    return [number for number in numbers if number is not None]


def _cell(entry: Measured | None, shown: Callable[[float], NumberText]) -> NumberText:
    if entry is None:
        return NumberText(tables.ABSENT)
    mark = f" {_LOST}" if entry.lost else ""
    for sign, name, bound in (("≥", "at_least", entry.at_least), ("≤", "at_most", entry.at_most)):
        if bound is not None:
            text = shown(bound)
            return NumberText(f"{sign} {text}{mark}", **{name: text.numbers[VALUE]})
    if entry.estimate is None:
        return NumberText(tables.ABSENT + mark)
    value, bounds = entry.estimate.value, entry.estimate.bounds
    text = shown(value)
    if bounds is None:
        return NumberText(text + mark, **text.numbers)
    half = shown(max(bounds[1] - value, value - bounds[0]))
    return NumberText(f"{text}\u00a0±\u00a0{half}{mark}", value=text.numbers[VALUE], half=half.numbers[VALUE])


def _landscapes(made: Section, study: Study, figures: Path) -> None:
    made.figure(
        figures,
        "landscape-line",
        width.slices(study),
        _(
            "Loss and accuracy on the subset along one filter-normalised random direction, the same for every model; "
            "mean over seeds. At α = 1 the step of each filter has the norm of the filter."
        )
        + left_out(width.lines_of(study), LINES),
        _("the wider the valley around α = 0, the less sensitive the model is to a change of its weights."),
    )
    made.figure(
        figures,
        "landscape-plane",
        width.planes(study),
        _(
            "Loss on the plane of two filter-normalised random directions, with the same directions and levels for "
            "every model; first seed. Losses above the scale have its last colour. α increases to the right, β "
            "upwards; the cross is the trained model."
        )
        + left_out(width.planes_of(study), width.PLANES),
        _("a large dark basin is an optimum that is wide in these two directions, out of millions."),
    )
