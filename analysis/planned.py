"""How many of the planned runs are complete, which are missing, and what is not used."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from analysis import names
from analysis.names import Model
from analysis.study import RunKey, Study
from analysis.words import N_, _, ngettext
from ssl_pkg.catalogue import ADAPTATIONS, RANDOM

_NAMED: Final = 12  # runs that the first page names; of more it has only numbers


def incomplete(study: Study) -> str:
    """That planned runs are missing, which methods have no result, and when the report will contain them.

    Empty if none is missing.
    """
    if not study.missing:
        return ""
    total = len(study.planned)
    count = ngettext(
        "This report is incomplete: {n} of the {total} planned runs is complete.",
        "This report is incomplete: {n} of the {total} planned runs are complete.",
        total - len(study.missing),
        total=total,
    )
    again = _("The command of the study runs the missing ones and then makes the report again.")
    untested = names.listed(map(study.model_label, _untested(study)))
    parts = [
        count,
        *([_("No test accuracy yet: {methods}.", methods=untested)] if untested else []),
        *([] if study.parts else [again]),  # no command runs several studies
    ]
    return " ".join(parts)


def _untested(study: Study) -> list[Model]:
    """The encoders that are planned to be tested, and of which no final model has a test accuracy."""
    tested = {model.encoder for model in study.models}
    planned = {model.encoder for stage, model, _seed in study.planned if stage in ADAPTATIONS}
    return [model for model in names.in_order(planned - tested, study.methods) if model.method != RANDOM]


def runs(study: Study) -> str:
    """That all planned runs are complete, or which are missing, and what is not used."""
    parts = []
    if study.planned and not study.missing:
        total = len(study.planned)
        parts.append(ngettext("The planned run is complete.", "All {n} planned runs are complete.", total))
    parts += [_unplanned(study, part) for part in study.parts or (study,) if not part.planned]
    parts += [_("Missing: {runs}.", runs=grouped(study.missing))] if study.missing else []
    parts += [_("Notes: {notes}", notes=" ".join(study.notes))] if study.notes else []
    return " ".join(parts)


def _unplanned(study: Study, part: Study) -> str:
    """How many runs are complete of a study, or of a part of a joined one, whose planned runs are unknown."""
    text = (
        N_(
            "{done} of the {total} runs of {study} that were started are complete. Missing runs are not known, because "
            "{study} has no usable plan.json."
        )
        if study.parts
        else N_(
            "{done} of the {total} runs that were started are complete. Missing runs are not known, because the study "
            "has no usable plan.json."
        )
    )
    return _(text, done=len(part.complete()), total=len(part.runs), study=part.name)


def grouped(keys: Iterable[RunKey]) -> str:
    """Runs grouped by stage: `ood of byol-probe (seeds 0, 1); width of …`; of many, the number of each stage."""
    keys = list(keys)
    if len(keys) > _NAMED:
        counts = Counter(stage for stage, *_rest in keys)
        return names.listed(_("{stage} ({count})", stage=stage, count=count) for stage, count in counts.items())
    stages: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for stage, model, seed in keys:
        stages[stage][model.full_name].append(seed)
    parts = []
    for stage, models in stages.items():
        seeds = {tuple(found) for found in models.values()}
        if len(seeds) == 1:
            shown = _("{models} ({seeds})", models=names.listed(models), seeds=_seeds(next(iter(seeds))))
        else:
            shown = names.listed(
                _("{models} ({seeds})", models=model, seeds=_seeds(found)) for model, found in models.items()
            )
        parts.append(_("{stage} of {models}", stage=stage, models=shown))
    return "; ".join(parts)


def _seeds(seeds: Sequence[int]) -> str:
    text = N_("seeds {seeds}") if len(seeds) > 1 else N_("seed {seeds}")
    return _(text, seeds=", ".join(map(str, seeds)))
