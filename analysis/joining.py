"""Joins studies that read the same data to one study, in which each model has the name of its study."""

from collections.abc import Sequence
from dataclasses import replace

from analysis.manifests import Manifest, manifest
from analysis.names import Model
from analysis.study import Study, in_order
from analysis.words import _
from ssl_pkg.catalogue import OOD
from ssl_pkg.errors import BadInput

Data = tuple[Manifest, Manifest]  # of the images, and of the out-of-distribution images


def by_data(studies: Sequence[Study]) -> list[Study]:
    """One study for each data set that the studies read; studies of the same data are joined.

    Numbers on different images can't be compared, so each of the studies has a note that names those of other data.
    Data that no run recorded counts as different. Raises BadInput if two studies have the same name.
    """
    called = [study.name for study in studies]
    if twice := next((name for name in called if called.count(name) > 1), None):
        raise BadInput(f"two of the studies are called {twice!r}: give each study once, or rename the folder of one")
    groups: list[list[Study]] = []
    for study in studies:
        own = _data(study)
        fitting = (group for group in groups if all(_same(own, _data(other)) for other in group))
        group = next(fitting, None)
        if group is None:
            groups.append([study])
        else:
            group.append(study)
    return [_joined(group, [other for others in groups if others is not group for other in others]) for group in groups]


def _data(study: Study) -> Data:
    """What the runs of the study read; runs that read something else were excluded when the study was read."""
    found = [(run.stage == OOD, manifest(run.provenance)) for run in study.complete()]
    images, ood = (next((seen for kind, seen in found if kind == wanted and seen), frozenset()) for wanted in (0, 1))
    return images, ood


def _same(one: Data, two: Data) -> bool:
    return bool(one[0]) and one[0] == two[0] and (one[1] == two[1] or not one[1] or not two[1])


def _joined(studies: Sequence[Study], others: Sequence[Study]) -> Study:
    notes = [
        _(
            "{study}: not in this report, because the study read other images than {own}. No number here can be "
            "compared with those of its own report.",
            study=other.name,
            own=studies[0].name,
        )
        for other in others
    ]
    if len(studies) == 1:
        return replace(studies[0], notes=(*studies[0].notes, *notes))
    methods = tuple(dict.fromkeys(method for study in studies for method in study.methods))
    named = [replace(run, model=_of(run.model, study)) for study in studies for run in study.runs]
    runs = {(run.stage, run.model, run.seed): run for run in named}
    planned = [(stage, _of(model, study), seed) for study in studies for stage, model, seed in study.planned]
    return Study(
        name="+".join(study.name for study in studies),
        path=studies[0].path.parent,
        runs=tuple(runs[key] for key in in_order(runs, methods)),
        methods=methods,
        seeds=tuple(sorted({seed for study in studies for seed in study.seeds})),
        planned=tuple(in_order(planned, methods)),
        notes=(*(f"{study.name}/{note}" for study in studies for note in study.notes), *notes),
        failed={f"{study.name}/{name}": why for study in studies for name, why in study.failed.items()},
        newest=max(study.newest for study in studies),
        parts=tuple(studies),
    )


def _of(model: Model, study: Study) -> Model:
    return replace(model, study=study.name)
