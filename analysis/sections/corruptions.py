"""Accuracy on corrupted test images, with a figure of accuracy over severity."""

from pathlib import Path

from matplotlib.figure import Figure

from analysis import corruptions, tables
from analysis.blocks import Section
from analysis.corruptions import label, number
from analysis.estimates import Estimate
from analysis.figures import style
from analysis.names import Model
from analysis.study import Study
from ssl_pkg.catalogue import SUPERVISED


def section(study: Study, figures: Path) -> Section:
    """The section; no blocks if the study has no accuracy on corrupted images."""
    made = Section("Corrupted images")
    models, kinds, severities = corruptions.measured(study)
    if not models or not severities:
        return made
    made.text(
        "The models, unchanged, on test images under corruptions of Hendrycks and Dietterich (2019), with the "
        f"severities that they published for Tiny-ImageNet-C (here {', '.join(map(str, severities))}). The stored "
        "image is corrupted and then resized to the model's resolution, so a low resolution hides a part of noise and "
        "blur. "
        "Every model sees the same corrupted images. The clean accuracy is that of the same images; relative accuracy "
        "is the mean over all corruptions and severities divided by it. A model at chance keeps all of its accuracy."
    )
    _means(made, study, models)
    _by_corruption(made, study, models, kinds)
    made.figure(
        figures,
        "corruptions",
        curves(study),
        "Accuracy under each corruption; severity 0 is the clean image. Bars: 95 % intervals.",
        "a flat line is a corruption that the model tolerates.",
    )
    return made


def _means(made: Section, study: Study, models: list[Model]) -> None:
    """Clean, mean and relative accuracy, and the difference of the mean to the supervised baseline's."""
    base = Model(SUPERVISED)
    gaps = corruptions.against(study, base) if base in models else {}
    rows = []
    for model in models:
        values = [number(study, model, metric) for metric in ("clean_accuracy", "mean_accuracy", "relative_accuracy")]
        row = [study.model_label(model), *map(tables.percent, values)]
        if gaps:
            row += _against(gaps.get(model))
        rows.append(row)
    more = ["Mean minus supervised", "p (Holm)"] if gaps else []
    paired = (
        " Differences in points, paired by image; p is corrected for all comparisons of this table." if gaps else ""
    )
    made.table(
        ["Model", "Clean", "Mean under corruption", "Relative to clean", *more],
        rows,
        "Accuracy under corruption, in percent, with 95 % intervals. Intervals of means are over images, because all "
        f"conditions share their images.{paired}",
        widths=[1.4, 1.2, 1.2, 1.2, *([1.5, 0.6] if gaps else [])],
    )


def _against(found: corruptions.Against | None) -> list[str]:
    if found is None:
        return [tables.ABSENT, tables.ABSENT]
    gap = found.difference
    low, high = tables.signed(100 * gap.low), tables.signed(100 * gap.high)
    p = f"{found.p_holm:.3f}" if found.p_holm >= 0.001 else "< 0.001"
    return [f"{tables.signed(100 * gap.value)} [{low}, {high}]", p]


def _by_corruption(made: Section, study: Study, models: list[Model], kinds: list[str]) -> None:
    made.table(
        ["Model", *map(label, kinds)],
        [
            [
                study.model_label(model),
                *(_cell(number(study, model, "mean_accuracy", corruption=kind)) for kind in kinds),
            ]
            for model in models
        ],
        "Mean accuracy over severities, in percent; ±: the longer half of the 95 % interval over images.",
        widths=[1.5, *([1.0] * len(kinds))],
    )


def _cell(found: Estimate | None) -> str:
    if found is None:
        return tables.ABSENT
    bounds = found.bounds
    half = f" ± {100 * max(bounds[1] - found.value, found.value - bounds[0]):.1f}" if bounds else ""
    return f"{100 * found.value:.1f}{half}"


def curves(study: Study) -> Figure | None:
    """Accuracy over severity, a panel for each corruption and a line for each model; None without numbers."""
    models, kinds, severities = corruptions.measured(study)
    if not models or not kinds:
        return None
    figure, panels = style.grid(len(kinds), 3, 1.75, sharex=True, sharey=True)
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
            )[0]
            for level, value in found.items():
                if value.bounds:
                    axes.plot([level, level], value.bounds, color=look.color, linewidth=0.5, alpha=0.6)
        axes.set_xticks([0, *severities])
        style.percent_axis(axes.yaxis)
    for axes in panels[::3]:
        axes.set_ylabel("accuracy (%)")
    for axes in panels[-3:]:
        axes.set_xlabel("severity")
    style.legend(figure, list(lines.values()), [study.model_label(model) for model in lines])
    return figure
