"""The comparisons of the report with corrected p-values, and how intervals are computed."""

from analysis import tables
from analysis.blocks import Section
from analysis.comparisons import PLANNED, Comparison, comparisons
from analysis.statistics import ALPHA, MARGIN
from analysis.study import Study

_INTERVALS = (
    "How intervals are computed. Brackets are 95 % intervals of a mean over seeds and test images. Both are samples: "
    "the variance is that of two-way crossed random effects, estimated from the mean squares (Hillis, 2007), and the "
    "quantile the mean of those of Satterthwaite (1946) and of Cochran and Cox (1957). An accuracy has Wilson's "
    "interval with the effective number of images. These intervals replace the percentiles of a hierarchical bootstrap "
    "over seeds and images, which cover too little with few seeds: in simulated studies of 1, 3 and 5 seeds and 500 to "
    "8,000 images, the intervals used here contain the true value in 93 to 97 % of the studies (with two seeds, in 91 "
    "to 98 %). Close to 0 or 100 %, and with few images, they are rather too long. Numbers that are no "
    "mean over images, and those without stored predictions, have Student's interval over seeds. Two models are "
    "compared on the same test images, image by image; their seeds are paired only if both contain the same encoders, "
    "because seeds of different methods share nothing but the initialisation."
)
_ONE_SEED = (
    "A model with one seed has the interval over the test images, for this one trained model: the variation between "
    "seeds is missing. The p-value of two such models is that of McNemar's exact test."
)
_FAMILIES = (
    "Each table is a family of comparisons, whose p-values are corrected together by Holm's method (1979). A "
    f"difference is clear if its corrected p is below {ALPHA:g}; otherwise equivalent if two one-sided tests, "
    f"corrected likewise, show that it lies within ±{100 * MARGIN:g} percentage point; otherwise undecided, which is "
    "no evidence that the models are equal. Further families, in tables/comparisons.csv: each class against the "
    "baseline, and all pairs of models."
)


def section(study: Study) -> Section:
    """One table for each family of planned comparisons; no blocks without comparisons."""
    made = Section("Comparisons")
    found = {family: entries for family, entries in comparisons(study).items() if family in PLANNED}
    if not found:
        return made
    single = any(
        len(rows) == 1 for (_, *kind), rows in study.numbers.items() if kind == ["test", "accuracy", frozenset()]
    )
    made.text(" ".join([_INTERVALS, *([_ONE_SEED] if single else []), _FAMILIES]))
    for family, entries in found.items():
        made.table(
            ["Model", "Against", "Difference (points)", "p", "Corrected p", "Verdict"],
            [_row(study, entry) for entry in entries],
            f"{family.label}.",
            size=8,
            left=2,
            widths=[1.3, 1.3, 1.4, 0.6, 0.8, 0.8],
        )
    return made


def _row(study: Study, entry: Comparison) -> list[str]:
    models = [study.model_label(entry.first), study.model_label(entry.second)]
    p_values = [tables.ABSENT if p is None else tables.p_text(p) for p in (entry.difference.p, entry.p_holm)]
    return [*models, tables.gain_text(entry.difference), *p_values, entry.verdict or tables.ABSENT]
