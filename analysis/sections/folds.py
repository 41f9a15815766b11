"""The models that were trained on the data set's predefined folds, which is STL-10's own protocol."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from analysis import names, statistics, tables
from analysis.blocks import Section
from analysis.names import Model
from analysis.study import Study
from analysis.words import _
from ssl_pkg.catalogue import FEW_LABELS, FOLDS, PREDICTIONS, UNKNOWN, adapted


def section(study: Study, figures: Path) -> Section:
    """Mean and s.d. over folds of every probe, and of the fine-tunings on folds; empty if no run has folds."""
    made = Section(_("Predefined folds"), ("probe", "few_labels"))
    found = _hits(study)
    rows = []
    for model in names.in_order(found, study.methods):
        hits = found[model]
        by_fold = hits.mean(axis=1)
        spread = 100 * by_fold.std(ddof=1) if len(by_fold) > 1 else None
        rows.append([study.model_label(model), tables.percent(statistics.mean(hits)), tables.fixed(spread, 1)])
    if rows:
        made.text(
            _(
                "STL-10's protocol (Coates, Lee and Ng, 2011): a model is trained on each predefined fold of train and "
                "measured on all of test. Its settings are chosen on a holdout split of the fold."
            )
        )
    made.table(
        "folds",
        [_("Model"), _("Mean (%)"), _("s.d. over folds")],
        rows,
        _(
            "Accuracy on test after training on single folds, first seed. The interval is over folds and test images. "
            "Folds overlap, so the interval is too narrow for other folds."
        ),
    )
    return made


def _hits(study: Study) -> dict[Model, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]]:
    """The hits (F, n) of each model's first seed, without models that lack folds or have no result on one."""
    found: dict[Model, np.ndarray[tuple[int, ...], np.dtype[np.bool_]]] = {}
    for stage, artifact in (("probe", PREDICTIONS), ("few_labels", FEW_LABELS)):
        for run in study.complete(stage):
            method, adaptation = adapted(run.model.method, "finetune" if stage == "few_labels" else stage)
            arrays = run.arrays(artifact.file, *artifact.arrays)
            if arrays is not None and FOLDS in arrays and (arrays[FOLDS] != UNKNOWN).all():
                found.setdefault(replace(run.model, method=method, adaptation=adaptation), arrays[FOLDS] > 0)
    return found
