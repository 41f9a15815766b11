"""A study as one object: its runs, their numbers, and the planned runs that are missing."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeGuard

import pandas as pd
from pydantic import ValidationError

from analysis import names
from analysis.artifacts import Arrays
from analysis.failures import failures
from analysis.manifests import of_other_data
from analysis.names import Model
from analysis.run import Run, of_classes
from ssl_pkg.catalogue import ADAPTATIONS, PREDICTIONS, STAGES, SUPERVISED, adapted
from ssl_pkg.nearest import hint
from ssl_pkg.rows import DIMENSIONS, INTEGER_DIMENSIONS, ROWS, dimensions_of
from ssl_pkg.run.directory import RunDirectory, runs_of
from ssl_pkg.run.study_plan import PLAN, PlannedRun, read_plan

RunKey = tuple[str, Model, int]  # stage, model and seed
_NUMBERS: Final = ("value", "low", "high", "n")
_BOUNDS: Final = ("at_least", "at_most")
RESULT_COLUMNS: Final = [
    *("model", "evaluation", "metric", *_NUMBERS, "seed"),
    *("method", "adaptation", "variant", *DIMENSIONS, "data", "reason", *_BOUNDS),
]
_FRACTIONS: Final = (  # metrics between 0 and 1
    *("accuracy", "accuracy_shared", "accuracy_masked", "mean_class_accuracy"),
    *("clean_accuracy", "mean_accuracy"),
)


class NoStudy(Exception):
    """The folder holds no complete run. The message is a sentence for the user."""


@dataclass(frozen=True, eq=False)
class Study:
    """The runs of a study, complete or not, and what they recorded."""

    name: str
    path: Path
    runs: tuple[Run, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    planned: tuple[RunKey, ...]  # the runs of plan.json; empty without the file
    notes: tuple[str, ...]  # a sentence for each excluded run, and for each file that can't be used
    failed: dict[str, str]  # the last printed line of each run that failed and has no result, by the run's name

    @cached_property
    def results(self) -> pd.DataFrame:
        """All numbers of the complete runs, one a row.

        The columns are RESULT_COLUMNS, where `model` holds a Model, then `stage` and `dimensions` (`dimensions_of`).
        """
        rows = [row for run in self.complete() for row in _rows_of(run)]
        frame = pd.DataFrame(rows, columns=[*RESULT_COLUMNS, "stage", "dimensions"])
        for column in (*_NUMBERS, *_BOUNDS):
            frame[column] = pd.to_numeric(frame[column], errors="coerce")
        kinds: dict[str, Any] = {"n": "Int64", "seed": int} | dict.fromkeys(("value", "low", "high", *_BOUNDS), float)
        return frame.astype(kinds | dict.fromkeys(INTEGER_DIMENSIONS, "Int64"))

    @property
    def unmeasured(self) -> pd.DataFrame:
        """The rows of `results` of whose number nothing is known, not even a bound; each has a reason."""
        unknown = self.results[["value", *_BOUNDS]].isna().all(axis=1)
        return self.results[unknown & self.results["reason"].notna()]

    @cached_property
    def numbers(self) -> dict[tuple[Model, str, str, frozenset[tuple[str, Any]]], pd.DataFrame]:
        """The rows that have a value, by (model, evaluation, metric, dimensions), one a seed."""
        key = ["model", "evaluation", "metric", "dimensions"]
        frame = self.results.dropna(subset="value").drop_duplicates([*key, "seed"])
        groups: Any = frame.groupby(key, sort=False)
        return dict(iter(groups))

    def complete(self, stage: str | None = None, model: Model | None = None) -> list[Run]:
        """The complete runs, of one stage and one model if these are given."""
        return [run for run in self.of(stage, model) if run.complete]

    def of(self, stage: str | None = None, model: Model | None = None) -> list[Run]:
        """All runs, complete or not, of one stage and one model if these are given."""
        return [run for run in self.runs if stage in (None, run.stage) and model in (None, run.model)]

    @cached_property
    def encoders(self) -> tuple[Model, ...]:
        """The encoders that the models contain, in the report's order: one for each method and variant."""
        return tuple(names.in_order((run.model.encoder for run in self.runs), self.methods))

    @cached_property
    def titles(self) -> dict[str, str]:
        """The title of each method, like `MoCo v2`, as the configurations of the pretraining runs have it."""
        configs = [run.config.get("method") for run in self.of("pretrain")]
        return {str(config["name"]): str(config["title"]) for config in configs if _has_title(config)}

    @cached_property
    def papers(self) -> list[str]:
        """The papers of the study's methods, from the configurations of the pretraining runs, then of its stages."""
        configs = [run.config.get("method") for run in self.of("pretrain")]
        of_methods = [str(paper) for config in configs if _has_title(config) for paper in config["papers"]]
        of_stages = [paper for stage in STAGES.values() if self.of(stage.name) for paper in stage.papers]
        return list(dict.fromkeys([*of_methods, *of_stages]))

    def method_label(self, method: str) -> str:
        """A method's name for people."""
        return names.method_label(method, self.titles)

    def model_label(self, model: Model) -> str:
        """A model's name for people."""
        return model.label(self.titles)

    @property
    def missing(self) -> list[RunKey]:
        """Planned runs that are not complete."""
        done = {(run.stage, run.model, run.seed) for run in self.complete()}
        return [key for key in self.planned if key not in done]

    @cached_property
    def models(self) -> list[Model]:
        """Final models (with a test accuracy), in the report's order."""
        rows = self.results
        tested = (rows["evaluation"] == "test") & (rows["metric"] == "accuracy") & rows["class"].isna()
        return names.in_order(rows.loc[tested, "model"], self.methods)

    @cached_property
    def seeds_tested(self) -> int:
        """The largest number of seeds with a test accuracy over the final models. A spread over seeds needs two."""
        tested = (rows for (_, *kind), rows in self.numbers.items() if kind == ["test", "accuracy", frozenset()])
        return max(map(len, tested), default=0)

    def predictions(self, model: Model, evaluation: str) -> dict[int, Arrays]:
        """Logits (n, C) and labels (n,) of a final model, by seed. evaluation: `test` or `ood`."""
        stages = ("ood",) if evaluation == "ood" else [name for name in STAGES if not STAGES[name].is_evaluation]
        runs = [run for run in self.complete(model=model) if run.stage in stages]
        found = {run: run.arrays(PREDICTIONS.file, *PREDICTIONS.arrays) for run in runs}
        return {run.seed: arrays for run, arrays in found.items() if arrays is not None and of_classes(run, arrays)}


def _has_title(config: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(config, dict) and {"name", "title", "papers"} <= config.keys()


def read_study(path: Path) -> Study:
    """The study in the folder `path`. Raises NoStudy if the folder does not exist or holds no complete run."""
    if not path.is_dir():
        raise NoStudy(
            f"there is no folder {path}{hint(path.name, _studies(path.parent))}: give the folder that holds a study's "
            "run directories (make: RUNS= and STUDY=)"
        )
    notes: list[str] = []
    plan = read_plan(path)
    if plan is None and (path / PLAN).exists():
        notes.append(f"{PLAN} can't be read: the command of the study writes it again.")
    planned = plan.runs if plan else ()
    runs = _identified(path, {run.name: run for run in planned}, notes)
    if not any(run.complete for run in runs):
        more = f". {notes[0]}" if notes else ""
        raise NoStudy(f"{path} holds no complete run yet (a run directory with a config.yaml and a result.json){more}")
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
        planned=tuple(_in_order([_key(run) for run in planned], methods)),
        notes=tuple(notes),
        failed={name: why for name, why in failures(path).items() if name in known - done},
    )


def _starting_from(runs: Sequence[Run], excluded: Mapping[str, str]) -> dict[str, str]:
    """A sentence for each run that starts, directly or not, from an excluded run, by the name of the run."""
    sources = {run.directory.name: Path(str(run.config.get("source") or "")).name for run in runs}
    found: dict[str, str] = {}
    while True:
        more = {
            name: f"{name}: excluded, because it starts from {source}, which read other data than the study."
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
            notes.append(f"{name}: config.yaml can't be read.")
        if result is None and (directory.path / "result.json").exists():
            notes.append(f"{name}: result.json can't be read; the run counts as unfinished.")
        if result is not None and (fault := _fault(result)):
            notes.append(f"{name}: result.json {fault}; the run counts as unfinished.")
            result = None
        stage = str((result or config).get("stage", "unknown"))
        if result is not None:
            model = Model(result["method"], result["adaptation"])
        else:
            model = _model_of(directory, config, planned.get(name))
        model = replace(model, variant=str(config.get("variant") or ""))
        seed = int((result or config).get("seed") or 0)
        runs.append(Run(directory, stage, model, seed, config, result))
    return runs


def _fault(result: dict[str, Any]) -> str:
    """Why a result can't be used; empty if it can."""
    if "adaptation" not in result:
        return (
            "was made by an earlier version of this project, which did not record `adaptation`: remove the run "
            "directory and run its stage again"
        )
    for key, kind in (("stage", str), ("method", str), ("adaptation", str | None), ("seed", int)):
        if not isinstance(result.get(key), kind):
            return f"has no usable {key!r}"
    try:
        rows = ROWS.validate_python(result.get("rows"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"has a wrong entry {'.'.join(map(str, ('rows', *first['loc'])))} = {first['input']!r}: {first['msg']}"
    for row in rows:
        if row["value"] is not None and row["metric"] in _FRACTIONS and not 0 <= row["value"] <= 1:
            return f"has {row['evaluation']} {row['metric']} = {row['value']}, which is no fraction"
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
            notes.append(f"{run.directory.name}: excluded, because {other} has the same stage, model and seed.")
        else:
            chosen[key] = run
    yield from (chosen[key] for key in _in_order(chosen, methods))


def _in_order(keys: Collection[RunKey], methods: Sequence[str]) -> list[RunKey]:
    """The runs in the report's order."""
    stages = list(STAGES)
    models = names.in_order((model for _, model, _ in keys), methods)

    def rank(key: RunKey) -> tuple[int, int, int]:
        stage, model, seed = key
        return stages.index(stage) if stage in STAGES else len(stages), models.index(model), seed

    return sorted(keys, key=rank)


def _methods_and_seeds(runs: Sequence[Run], planned: Sequence[PlannedRun]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """The methods, in the plan's order, and the seeds, of the planned runs and of the run directories."""
    found = [run.method for run in planned if run.stage == "pretrain" or run.method == SUPERVISED]
    found += [run.model.method for run in runs if run.stage == "pretrain" or run.model.method == SUPERVISED]
    return tuple(dict.fromkeys(found)), tuple(sorted({run.seed for run in planned} | {run.seed for run in runs}))


def _key(run: PlannedRun) -> RunKey:
    return run.stage, Model(run.method, run.adaptation, run.variant), run.seed


def _rows_of(run: Run) -> Iterator[dict[str, Any]]:
    """The rows of a complete run with the columns of `Study.results`.

    A row with an adaptation belongs to the model that this adaptation makes of the run's encoder.
    """
    result = run.result or {}
    origin = {"seed": run.seed, "data": result.get("data"), "stage": run.stage}
    for row in result["rows"]:
        model = run.model
        if stage := row.get("adaptation"):
            model = Model(*adapted(model.method, stage), model.variant)
        yield {**row, **origin, **vars(model), "model": model, "dimensions": dimensions_of(row)}
