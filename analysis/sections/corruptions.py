"""Accuracy on corrupted test images, with a figure of accuracy over severity."""

from pathlib import Path

from matplotlib.figure import Figure

from analysis import corruptions, tables
from analysis.blocks import Section
from analysis.comparisons import MEAN_CORRUPTED, Comparison, baseline, compared
from analysis.corruptions import label, number
from analysis.estimates import Estimate
from analysis.figures import style
from analysis.names import Model
from analysis.number_text import NumberText
from analysis.outcomes import CORRUPTED_IMAGES
from analysis.selection import LINES, left_out, selected
from analysis.study import Study
from analysis.words import _, localized, ngettext


def section(study: Study, figures: Path) -> Section:
    """The section; no blocks if the study has no accuracy on corrupted images."""
    made = Section(_("Corrupted images"), ("corruptions",))
    models, kinds, severities = corruptions.measured(study)
    if not models or not severities:
        return made
    applied = _(
        "The models, unchanged, on test images under corruptions of Hendrycks and Dietterich (2019), with the "
        "severities that they published for Tiny-ImageNet-C (here {severities}). The stored image is corrupted and "
        "then resized to the model's resolution, so a low resolution hides a part of noise and blur.",
        severities=", ".join(map(str, severities)),
    )
    if study.parts:
        same = _("Every model of a study sees the same corrupted images.")
    else:
        same = _("Every model sees the same corrupted images.")
    meaning = _(
        "The clean accuracy is that of the same images; relative accuracy is the mean over all corruptions and "
        "severities divided by it. A model at chance keeps all of its accuracy."
    )
    made.text(f"{applied} {same} {meaning}{_count(study)}")
    _means(made, study, models)
    _by_corruption(made, study, models, kinds)
    made.figure(
        figures,
        "corruptions",
        curves(study),
        _("Accuracy under each corruption; severity 0 is the clean image. Bars: 95 % intervals.")
        + left_out(models, LINES),
        _("a flat line is a corruption that the model tolerates."),
    )
    return made


def _count(study: Study) -> str:
    """On how many images the accuracies are; empty if the runs differ."""
    counts = study.results.loc[study.results["evaluation"] == CORRUPTED_IMAGES, "n"].dropna().unique()
    return (
        " " + ngettext("All are measured on {n:,} image.", "All are measured on {n:,} images.", int(counts[0]))
        if len(counts) == 1
        else ""
    )


def _means(made: Section, study: Study, models: list[Model]) -> None:
    """Clean, mean and relative accuracy, and the difference of the mean to the supervised baseline's."""
    gaps = {model: compared(study, MEAN_CORRUPTED, model, baseline(study, model)) for model in models}
    compares = any(gaps.values())
    rows = []
    for model, gap in gaps.items():
        values = [number(study, model, metric) for metric in ("clean_accuracy", "mean_accuracy", "relative_accuracy")]
        row = [study.model_label(model), *map(tables.percent, values)]
        rows.append([*row, *_cells(gap)] if compares else row)
    caption = _(
        "Accuracy on clean images, its mean under corruption, and the mean relative to clean, in percent with 95 % "
        "intervals, which take into account that all conditions share their images."
    )
    if compares:
        caption += " " + _(
            "Differences are in points and paired by image; p is corrected for all rows of this table (Holm)."
        )
    difference = [_("Mean minus supervised"), "p", _("Verdict")] if compares else []
    made.table(
        "corruptions",
        [_("Model"), _("Clean"), _("Mean"), _("Relative"), *difference],
        rows,
        caption,
    )


def _cells(found: Comparison | None) -> list[str]:
    if found is None:
        return [tables.ABSENT] * 3
    p = tables.ABSENT if found.p_holm is None else tables.p_text(found.p_holm)
    return [tables.gain_text(found.difference), p, tables.verdict_text(found.verdict)]


def _by_corruption(made: Section, study: Study, models: list[Model], kinds: list[str]) -> None:
    made.table(
        "corruptions-by-kind",
        [_("Model"), *map(label, kinds)],
        [
            [
                study.model_label(model),
                *(_cell(number(study, model, "mean_accuracy", corruption=kind)) for kind in kinds),
            ]
            for model in models
        ],
        _(
            "Mean accuracy over severities, in percent; ±: the longer half of the 95 % interval over seeds and test "
            "images."
        )
        if any(len(found.by_seed) > 1 for model in models if (found := number(study, model, "mean_accuracy")))
        else _(
            "Mean accuracy over severities, in percent; ±: the longer half of the 95 % interval over the test images, "
            "of one seed."
        ),
    )


def _cell(found: Estimate | None) -> str:
    if found is None or found.bounds is None:
        return tables.percent(found)
    value, half = 100 * found.value, 100 * max(found.bounds[1] - found.value, found.value - found.bounds[0])
    return NumberText(localized(f"{value:.1f} ± {half:.1f}"), value=value, half=half)


def curves(study: Study) -> Figure | None:
    """Accuracy over severity, a panel for each corruption and a line for each model; None without numbers."""
    models, kinds, severities = corruptions.measured(study)
    models = selected(study, models, LINES)
    if not models or not kinds:
        return None
    figure, panels = style.grid(len(kinds), 3, 1.25, sharex=True, sharey=True)
    lines = {}
    for axes, kind in zip(panels, kinds, strict=True):
        axes.set_title(label(kind))
        for model in models:
            values = {0: number(study, model, "clean_accuracy")}
            values |= {level: number(study, model, "accuracy", corruption=kind, severity=level) for level in severities}
            found = {level: value for level, value in values.items() if value is not None}
            look = style.look(model, study.encoders)
            lines[model] = axes.plot(
                list(found),
                [value.value for value in found.values()],
                look.line,
                color=look.color,
                marker=look.marker,
                markerfacecolor=look.face,
                markersize=2.8,
                label=study.model_label(model),
            )[0]
            for level, value in found.items():
                if value.bounds:
                    interval = _("{model}, interval", model=study.model_label(model))
                    axes.plot([level, level], value.bounds, color=look.color, linewidth=0.5, alpha=0.6, label=interval)
        axes.set_xticks([0, *severities])
        style.percent_axis(axes.yaxis)
    for axes in panels[::3]:
        axes.set_ylabel(_("accuracy (%)"))
    for axes in panels[-3:]:
        axes.set_xlabel(_("severity"))
    style.legend(figure, list(lines.values()), [study.model_label(model) for model in lines])
    return figure
