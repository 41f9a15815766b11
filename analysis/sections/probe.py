"""The linear probes on the data set's predefined folds, which is STL-10's own protocol."""

from pathlib import Path

import numpy as np

from analysis import names, statistics, tables
from analysis.blocks import Section
from analysis.names import Model
from analysis.study import Study
from ssl_pkg.catalogue import FOLDS, PREDICTIONS, UNKNOWN


def section(study: Study, figures: Path) -> Section:
    """Mean and s.d. over folds of every probe; empty if no run has folds."""
    made = Section("Predefined folds", ("probe",))
    rows = []
    for model in names.in_order((run.model for run in study.complete("probe")), study.methods):
        hits = _hits(study, model)
        if hits is not None:
            mean, by_fold = statistics.mean(hits), hits.mean(axis=1)
            spread = 100 * by_fold.std(ddof=1) if len(by_fold) > 1 else None
            rows.append([study.model_label(model), tables.percent(mean), tables.fixed(spread, 1)])
    if rows:
        made.text(
            "STL-10's protocol (Coates, Lee and Ng, 2011): a probe is fitted on each predefined fold of train, its "
            "penalty chosen on a holdout split of the fold, and measured on all of test."
        )
    made.table(
        "folds",
        ["Model", "Mean (%)", "s.d. over folds"],
        rows,
        "Accuracy on test of probes fitted on single folds, first seed. The interval is over folds and test images. "
        "Folds overlap, so it is rather too short for other folds.",
    )
    return made


def _hits(study: Study, model: Model) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]] | None:
    """The hits (F, n) of the first seed; None without folds, or if a fold has no probe."""
    for run in study.complete("probe", model):
        arrays = run.arrays(PREDICTIONS.file, *PREDICTIONS.arrays)
        if arrays is not None and FOLDS in arrays and (arrays[FOLDS] != UNKNOWN).all():
            return arrays[FOLDS] > 0
    return None
