"""Several studies side by side: which settings differ, and the differences between their models."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from analysis import names, tables
from analysis.blocks import Section
from analysis.comparisons import BETWEEN, comparisons
from analysis.figures import studies
from analysis.records import shown
from analysis.selection import left_out
from analysis.study import Study
from analysis.words import _
from ssl_pkg.catalogue import STAGES

# Fields of config.yaml that say which run it is, or where and how it ran.
_OF_THE_RUN: Final = (
    *("stage", "run_dir", "source", "checkpoint", "seed", "variant", "study", "data", "inputs", "run_format"),
    *("world_size", "threads", "log_every"),
)
_OF_METHOD: Final = ("papers", "title", "name")
_Kind = tuple[str, str]  # the stage and the model of a run


def section(study: Study, figures: Path) -> Section:
    """The section; no blocks if the report is of one study."""
    made = Section(_("Comparison of studies"), ("probe", "finetune", "ood"))
    if not study.parts:
        return made
    called = names.listed(part.name for part in study.parts)
    made.text(
        _(
            "This report has the models of {studies}, whose runs read the same files, with the same md5, or the same "
            "size where no md5 was taken. The name of the study is a part of each model's name. A difference between "
            "two studies is the effect of all settings that differ, in the table below, together. Two models are "
            "compared image by image. Their seeds are paired only where both contain the same encoders: the random "
            "initialisation, or encoders with equal weights; other encoders have no more in common than two seeds of "
            "one study.",
            studies=called,
        )
    )
    rows = differing(study)
    made.table(
        "studies-settings",
        [_("Setting"), _("Of"), *(part.name for part in study.parts)],
        rows,
        _("Settings that differ between the studies (config.yaml of the first seed)."),
        left=2 + len(study.parts),
        stages=(),
    )
    if not _shared(study):
        made.text(_("The studies have no run in common."))
    elif not rows:
        made.text(_("The configurations of the runs that these studies have in common do not differ."))
    found = [entry for family in BETWEEN for entry in comparisons(study).get(family, [])]
    made.figure(
        figures,
        "studies",
        studies.differences(study, found),
        _(
            "Accuracy of a model in one study minus that of the same model in another, in points, with 95 % intervals. "
            "The section “Comparisons” has the numbers and their corrected p-values."
        )
        + left_out(studies.firsts(found), studies.room(found)),
        _("right of zero the first study of a row is better; an interval that contains zero leaves open which is."),
    )
    return made


def differing(study: Study) -> list[list[str]]:
    """Name, runs and values in each study of the settings that differ in runs that all studies have."""
    shared = _shared(study)
    differ: dict[tuple[str, ...], list[_Kind]] = defaultdict(list)
    for kind, by_study in shared.items():
        own = [by_study[part.name] for part in study.parts]
        for name in dict.fromkeys(name for config in own for name in config):
            values = [config.get(name, tables.ABSENT) for config in own]
            if len(set(values)) > 1:
                differ[name, *values].append(kind)
    return [[name, _runs(kinds, list(shared)), *values] for (name, *values), kinds in differ.items()]


def _shared(study: Study) -> dict[_Kind, dict[str, dict[str, str]]]:
    """The settings in each study, by its name, of the first seed of the complete runs that all studies have."""
    configs: dict[_Kind, dict[str, dict[str, str]]] = defaultdict(dict)
    for run in reversed(study.complete()):
        kind = run.stage, f"{run.model.name} {run.model.variant}".strip()
        configs[kind][run.model.study] = {name: _text(value) for name, value in _settings(run.config)}
    return {kind: found for kind, found in configs.items() if len(found) == len(study.parts)}


def _settings(config: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each setting with its name, like `method.views.1.flip`."""
    left_out = {"": _OF_THE_RUN, "method.": _OF_METHOD}.get(prefix, ())
    for key, value in config.items():
        if key in left_out:
            continue
        if isinstance(value, dict):
            yield from _settings(value, f"{prefix}{key}.")
        elif isinstance(value, list) and any(isinstance(entry, dict) for entry in value):
            yield from _settings({str(place): entry for place, entry in enumerate(value, 1)}, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _runs(kinds: Sequence[_Kind], every: Sequence[_Kind]) -> str:
    """The stages of some of the runs, with their models unless it is all of them: `pretrain of byol and moco`."""
    parts = []
    for stage in STAGES:
        models, of_stage = ([model for own, model in found if own == stage] for found in (kinds, every))
        if models:
            some = _("{stage} of {models}", stage=stage, models=names.listed(sorted(models)))
            parts.append(stage if len(models) == len(of_stage) else some)
    return _("all runs") if set(kinds) == set(every) else "; ".join(parts)


def _text(value: Any) -> str:
    return tables.ABSENT if value is None else shown(value)
