"""Where the numbers come from: data, runs, code, versions and hardware, settings of the stages, unfinished runs."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from analysis import names
from analysis.blocks import Section
from analysis.data import data_names, titled
from analysis.records import mapping, shown
from analysis.sections.methods import merged
from analysis.study import Study
from analysis.words import _, pgettext
from ssl_pkg.catalogue import STAGES


def section(study: Study) -> Section:
    """One row for each fact."""
    made = Section(_("Provenance"))
    rows = [list(fact) for fact in facts(study) if fact[1]]
    caption = _("What the runs of this report recorded.")
    made.table("provenance", ["", ""], rows, caption, left=2, widths=[0.15, 0.85])
    _settings(made, study)
    _incomplete(made, study)
    return made


def _settings(made: Section, study: Study) -> None:
    """The settings of each stage; different values of its runs are separated by bars."""
    rows = []
    for stage in STAGES.values():
        contents = [mapping(run.config.get(stage.name)) for run in study.of(stage.name)]
        found = merged([{key: shown(value) for key, value in content.items()} for content in contents if content])
        if found:
            parts = [f"{key.replace('_', ' ')} {value}" for key, value in found.items()]
            rows.append([_(stage.heading), pgettext("between settings", "; ").join(parts)])
    caption = _("Settings of the stages (config.yaml). Values of different runs are separated by bars.")
    made.table("settings-stages", [_("Stage"), _("Settings")], rows, caption, left=2, widths=[1, 2.4])


def _incomplete(made: Section, study: Study) -> None:
    """The runs that were started and have no result."""
    seeds: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for run in study.runs:
        if not run.complete:
            seeds[run.stage, run.model.full_name, run.state].append(str(run.seed))
    rows = [[stage, model, ", ".join(own), state] for (stage, model, state), own in seeds.items()]
    caption = _("Runs that were started and are not complete. tables/runs.csv lists every planned run and its state.")
    made.table("incomplete", [_("Stage"), _("Model"), _("Seeds"), _("State")], rows, caption, left=4)


def facts(study: Study) -> list[tuple[str, str]]:
    """Names and values; a value is empty if it is unknown."""
    sources = [run.provenance for run in study.complete()]
    starts = [start for source in sources for start in _starts(source)]
    roots = {str(source.get("data", {}).get("root", "")) for source in sources if isinstance(source.get("data"), dict)}
    data, read = ", ".join(map(titled, data_names(study))), names.listed(sorted(roots))
    return [
        (_("Data"), _("{data} (read from {folders})", data=data, folders=read) if read else data),
        (_("Methods"), names.listed(map(study.method_label, study.methods))),
        (_("Seeds"), ", ".join(map(str, study.seeds))),
        (_("Code"), names.listed(_values(starts, "commit"))),
        (_("Versions"), names.listed(_versions(start) for start in starts)),
        (_("Hardware"), names.listed(_hardware(start) for start in starts)),
    ]


def _values(sources: Iterable[dict[str, Any]], key: str) -> list[str]:
    return sorted({str(source[key]) for source in sources if source.get(key)})


def _starts(source: dict[str, Any]) -> list[dict[str, Any]]:
    """The provenance of each start of a run that differs from the start before."""
    starts = source.get("starts")
    found = [start for start in starts if isinstance(start, dict)] if isinstance(starts, list) else []
    return found or [source]


def _versions(source: dict[str, Any]) -> str:
    versions = source.get("versions")
    return ", ".join(f"{name} {value}" for name, value in versions.items()) if isinstance(versions, dict) else ""


def _hardware(source: dict[str, Any]) -> str:
    hardware = source.get("hardware")
    if not isinstance(hardware, dict):
        return ""
    device = hardware.get("device", _("unknown device"))
    parts = [f"{hardware.get('name', '')} ({device})", str(hardware.get("precision", ""))]
    if hardware.get("device") == "cpu":
        parts.append(_("threads: {threads}", threads=hardware.get("threads", "?")))
    parts.append(_("processes: {processes}", processes=source.get("world_size", 1)))
    return ", ".join(part for part in parts if part)
