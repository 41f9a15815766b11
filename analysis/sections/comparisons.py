"""The comparisons of the report with corrected p-values, and how intervals are computed."""

from analysis import tables
from analysis.blocks import Section
from analysis.comparisons import BETWEEN, PLANNED, Comparison, comparisons
from analysis.statistics import ALPHA, MARGIN
from analysis.study import Study
from analysis.words import N_, _

_INTERVALS = N_(
    "How intervals are computed. Brackets are 95 % intervals of a mean over seeds and test images. Both are samples: "
    "the variance is that of a two-way crossed random-effects model, estimated from mean squares (Hillis, 2007); the "
    "quantile averages Satterthwaite's (1946) and Cochran and Cox's (1957). An accuracy has Wilson's "
    "interval with the effective number of images. These intervals replace the percentiles of a hierarchical "
    "bootstrap over seeds and images, which cover too little with few seeds: in simulated studies of 1 to 5 seeds "
    "and 300 to 8,000 images, the intervals used here for accuracies and their differences contain the true value in "
    "93 to 99 % of the studies (more often than 95 % if the seeds hardly differ, which few seeds can't show), "
    "and p-values of .005 with few labels and three draws are not too frequent; intervals of effective robustness, "
    "also where the seeds of the supervised networks share their training images, contain it in 93 to 98 %, and "
    "those of the expected calibration error in up to 100 %, because its bias is bounded on both sides. Near 0 or "
    "100 %, and with few images, intervals are too wide. Numbers that are not means over images have Student's t "
    "interval over seeds, or with one seed the run's own; an accuracy without stored predictions has Wilson's, which "
    "is then too wide. Two models are compared on the same test images, image by image (“paired_by” in "
    "tables/comparisons.csv says where that was not possible). Their seeds are paired only if both contain the same "
    "encoders, and then only the seeds that both have are compared; seeds of different methods share nothing but the "
    "initialisation."
)
_SIMULATED = 300  # the fewest images, as _INTERVALS says
_ONE_SEED = N_(
    "A model with one seed has the interval over the test images, for this one trained model: the variation between "
    "seeds is missing. The p-value of two such models is that of McNemar's exact test."
)
_FAMILIES = N_(
    "Each table is a family of comparisons, whose p-values are corrected together by Holm's method (1979). A "
    "difference is clear if its corrected p is below {alpha:g}; otherwise equivalent if two one-sided tests, "
    "corrected likewise, show that it lies within ±{margin:g} percentage point; otherwise undecided, which is "
    "no evidence that the models are equal. Brackets are not corrected for the other comparisons, and the equivalence "
    "test compares the margin with the 90 % interval; a verdict can therefore differ from what the bracket suggests. "
    "Further families, in tables/comparisons.csv: the mean over corruptions, each class against the baseline, and all "
    "pairs of models."
)


def section(study: Study) -> Section:
    """One table for each family of planned comparisons; no blocks without comparisons."""
    made = Section(_("Comparisons"), ("probe", "finetune", "ood"))
    found = {family: entries for family, entries in comparisons(study).items() if family in (*BETWEEN, *PLANNED)}
    if not found:
        return made
    one_seed = [_(_ONE_SEED)] if 1 in study.seed_counts.values() else []
    families = _(_FAMILIES, alpha=ALPHA, margin=100 * MARGIN)
    made.text(" ".join([_(_INTERVALS), *_fewer(study), *one_seed, families]))
    for family, entries in found.items():
        made.table(
            f"comparisons-{family.key}",
            [
                *(_("Model"), _("Against"), _("Difference (points)")),
                *("p", _("Corrected p"), _("Equivalence"), _("Verdict")),
            ],
            [_row(study, entry) for entry in entries],
            _("{family}. Equivalence: the corrected p of the equivalence test.", family=_(family.label)),
            size=8,
            left=2,
        )
    return made


def _fewer(study: Study) -> list[str]:
    """That the study has fewer test images than were simulated; empty otherwise."""
    rows = study.results
    images = rows.loc[(rows["evaluation"] == "test") & (rows["metric"] == "accuracy") & rows["class"].isna(), "n"].min()
    if not images < _SIMULATED:
        return []
    return [_("This study has only {n} test images, for which the intervals were not simulated.", n=int(images))]


def _row(study: Study, entry: Comparison) -> list[str]:
    models = [study.model_label(entry.first), study.model_label(entry.second)]
    found = (entry.difference.p, entry.p_holm, entry.p_equivalent_holm)
    p_values = [tables.ABSENT if p is None else tables.p_text(p) for p in found]
    return [*models, tables.gain_text(entry.difference), *p_values, tables.verdict_text(entry.verdict)]
