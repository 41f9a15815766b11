"""Reads a study from its folder: which runs count, which are excluded and why."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from analysis.failures import failures
from analysis.manifests import of_other_data
from analysis.metrics import is_fraction
from analysis.names import Model
from analysis.run import Run
from analysis.study import RunKey, Study, in_order
from analysis.words import _
from ssl_pkg.catalogue import ADAPTATIONS, SUPERVISED, adapted
from ssl_pkg.messages.nearest import hint
from ssl_pkg.rows import ROWS
from ssl_pkg.run.directory import RESULT, RunDirectory, runs_of
from ssl_pkg.run.study_plan import PLAN, PlannedRun, newest_result, read_plan


class NoStudy(Exception):
    """The folder holds no complete run. The message is a sentence for the user."""


def read_study(path: Path) -> Study:
    """The study in the folder `path`, with notes in the current language (`analysis/words.py`).

    Raises NoStudy if the folder does not exist or holds no complete run.
    """
    if not path.is_dir():
        raise NoStudy(
            f"there is no folder {path}{hint(path.name, _studies(path.parent))}: give the folder that holds a study's "
            "run directories (make: RUNS= and STUDY=)"
        )
    newest = newest_result(path)  # before the first result is read
    notes: list[str] = []
    plan = read_plan(path)
    if plan is None and (path / PLAN).exists():
        notes.append(_("{file} can't be read: the command of the study writes it again.", file=PLAN))
    planned = plan.runs if plan else ()
    runs = _identified(path, {run.name: run for run in planned}, notes)
    if not any(run.complete for run in runs):
        none = _("{path} holds no complete run yet (a run directory with a config.yaml and a result.json)", path=path)
        raise NoStudy(f"{none}. {notes[0]}" if notes else none)
    methods, seeds = _methods_and_seeds(runs, planned)
    other = of_other_data([(run.directory.name, run.stage, run.provenance) for run in runs if run.complete])
    other |= _starting_from(runs, other)
    notes += other.values()
    names_planned = {run.name for run in planned}
    same_data = [run for run in runs if run.directory.name not in other]
    kept = tuple(_without_duplicates(same_data, names_planned, methods, notes))
    notes += [fault for run in kept if run.complete for fault in run.faults]
    done = {run.directory.name for run in runs if run.complete}
    known = names_planned | {run.directory.name for run in runs}  # logs of mistyped sweeps stay
    return Study(
        name=path.resolve().name,
        path=path,
        runs=kept,
        methods=methods,
        seeds=seeds,
        planned=tuple(in_order([_key(run) for run in planned], methods)),
        notes=tuple(notes),
        failed={name: why for name, why in failures(path).items() if name in known - done},
        newest=newest,
    )


def _starting_from(runs: Sequence[Run], excluded: Mapping[str, str]) -> dict[str, str]:
    """A sentence for each run that starts, directly or not, from an excluded run, by the name of the run."""
    sources = {run.directory.name: Path(str(run.config.get("source") or "")).name for run in runs}
    found: dict[str, str] = {}
    while True:
        more = {
            name: _(
                "{run}: excluded, because it starts from {source}, which read other data than the study.",
                run=name,
                source=source,
            )
            for name, source in sources.items()
            if source in (*excluded, *found) and name not in (*excluded, *found)
        }
        if not more:
            return found
        found |= more


def _studies(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []


def _identified(path: Path, planned: Mapping[str, PlannedRun], notes: list[str]) -> list[Run]:
    """Each run directory below `path` with its stage, method, model and seed."""
    runs = []
    for directory in runs_of(path):
        name, config, result = directory.name, directory.config() or {}, directory.result()
        if not config:
            notes.append(_("{run}: config.yaml can't be read.", run=name))
        if result is None and (directory.path / RESULT).exists():
            notes.append(_("{run}: result.json can't be read; the run counts as unfinished.", run=name))
        if result is not None and (fault := _fault(result)):
            notes.append(_("{run}: result.json {fault}; the run counts as unfinished.", run=name, fault=fault))
            result = None
        stage = str((result or config).get("stage", "unknown"))
        if result is not None:
            model = Model(result["method"], result["adaptation"])
        else:
            model = _model_of(directory, config, planned.get(name))
        model = replace(model, variant=str(config.get("variant") or ""))
        seed = result["seed"] if result is not None else _seed(config, notes, name)
        runs.append(Run(directory, stage, model, seed, config, result))
    return runs


def _seed(config: Mapping[str, Any], notes: list[str], name: str) -> int:
    """The seed of a run without a result; 0 with a note if config.yaml has none that is a number."""
    seed = config.get("seed") or 0
    if isinstance(seed, int):
        return seed
    notes.append(_("{run}: the seed in config.yaml, {seed!r}, is not a whole number.", run=name, seed=seed))
    return 0


def _fault(result: dict[str, Any]) -> str:
    """Why a result can't be used, as the end of a sentence about result.json; empty if it can."""
    for key, kind in (("stage", str), ("method", str), ("adaptation", str | None), ("seed", int)):
        if key not in result or not isinstance(result[key], kind):
            return _("has no usable {key!r}", key=key)
    try:
        rows = ROWS.validate_python(result.get("rows"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        entry = ".".join(map(str, ("rows", *first["loc"])))
        return _("has a wrong entry {entry} = {value!r}: {why}", entry=entry, value=first["input"], why=first["msg"])
    for row in rows:
        if row["value"] is not None and is_fraction(row["metric"]) and not 0 <= row["value"] <= 1:
            return _(
                "has {evaluation} {metric} = {value}, which is not a fraction",
                **{key: row[key] for key in ("evaluation", "metric", "value")},
            )
    return ""


def _model_of(directory: RunDirectory, config: dict[str, Any], planned: PlannedRun | None) -> Model:
    """The model of a run without a result: as planned, or else from its configuration and its source."""
    if planned is not None:
        return Model(planned.method, planned.adaptation)
    if isinstance(method := config.get("method"), dict):
        return Model(str(method.get("name", "unknown")))
    stage, source = config.get("stage"), Path(str(config.get("source") or "unknown")).name
    result = RunDirectory(directory.path.parent / source).result() or {"method": source}
    method = str(result.get("method"))
    return Model(*adapted(method, stage)) if stage in ADAPTATIONS else Model(method, result.get("adaptation"))


def _without_duplicates(
    runs: Sequence[Run], planned: Collection[str], methods: Sequence[str], notes: list[str]
) -> Iterator[Run]:
    """One run for each (stage, model, seed): complete ones are preferred, then planned ones, then the first by name."""
    chosen: dict[RunKey, Run] = {}
    for run in sorted(runs, key=lambda run: (not run.complete, run.directory.name not in planned, run.directory.name)):
        key = (run.stage, run.model, run.seed)
        if key in chosen:
            other = chosen[key].directory.name
            notes.append(
                _(
                    "{run}: excluded, because {other} has the same stage, model and seed.",
                    run=run.directory.name,
                    other=other,
                )
            )
        else:
            chosen[key] = run
    yield from (chosen[key] for key in in_order(chosen, methods))


def _methods_and_seeds(runs: Sequence[Run], planned: Sequence[PlannedRun]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The methods, in the plan's order, and the seeds, of the planned runs and of the run directories."""
    found = [run.method for run in planned if run.stage == "pretrain" or run.method == SUPERVISED]
    found += [run.model.method for run in runs if run.stage == "pretrain" or run.model.method == SUPERVISED]
    return tuple(dict.fromkeys(found)), tuple(sorted({run.seed for run in planned} | {run.seed for run in runs}))


def _key(run: PlannedRun) -> RunKey:
    return run.stage, Model(run.method, run.adaptation, run.variant), run.seed
