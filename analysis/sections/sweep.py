"""The accuracy over the values of the parameters that a sweep has varied."""

from pathlib import Path

from analysis.blocks import Section
from analysis.figures import sweep
from analysis.study import Study
from analysis.words import _


def section(study: Study, figures: Path) -> Section:
    """The section; no blocks if no swept parameter has two numbers."""
    made = Section(_("Swept parameters"), ("probe", "finetune", "ood"))
    made.figure(
        figures,
        "sweep",
        sweep.over_values(study),
        _(
            "Accuracy over the values of each swept parameter, with 95 % intervals. Dotted: models that the sweep does "
            "not change."
        ),
        _(
            "a curve that rises to the edge of the panel suggests values beyond it. The highest of several points is "
            "an overestimate, and points whose intervals overlap can differ: tables/comparisons.csv compares all pairs "
            "with corrected p-values."
        ),
    )
    return made
