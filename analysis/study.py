"""A study's run directories as one object: which runs there are, what they say, and which ones are missing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeGuard

import pandas as pd

from analysis import names
from analysis.artifacts import Arrays
from analysis.failures import failures
from analysis.manifests import of_other_data
from analysis.run import Run, of_classes
from ssl_pkg.catalogue import PREDICTIONS, RANDOM, STAGES, SUPERVISED
from ssl_pkg.nearest import hint
from ssl_pkg.run.directory import RunDirectory, runs_of

RESULT_COLUMNS: Final = ["model", "evaluation", "metric", "value", "low", "high", "n", "seed", "data", "reason"]


class NoStudy(Exception):
    """There is nothing to report on; the message is one sentence for the person who asked."""


@dataclass(frozen=True, eq=False)
class Study:
    """Every run of a study; `planned` are the (stage, model, seed) of a whole study with its methods and seeds."""

    name: str
    path: Path
    runs: tuple[Run, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    planned: tuple[tuple[str, str, int], ...]
    notes: tuple[str, ...]  # what could not be used, one sentence each
    failed: dict[str, str]  # runs without a result whose last start failed, by name: the last line that they printed

    @cached_property
    def results(self) -> pd.DataFrame:
        """All numbers of the complete runs: RESULT_COLUMNS, then stage and method."""
        rows = [row for run in self.complete() for row in _rows_of(run)]
        frame = pd.DataFrame(rows, columns=[*RESULT_COLUMNS, "stage", "method"])
        for column in ("value", "low", "high", "n"):
            frame[column] = pd.to_numeric(frame[column], errors="coerce")
        return frame.astype({"value": float, "low": float, "high": float, "n": "Int64", "seed": int})

    @property
    def unmeasured(self) -> pd.DataFrame:
        """The rows of `results` whose number could not be computed; each has a reason."""
        return self.results[self.results["value"].isna() & self.results["reason"].notna()]

    @cached_property
    def numbers(self) -> dict[tuple[str, str, str], pd.DataFrame]:
        """The rows that have a value, by (model, evaluation, metric), one a seed."""
        frame = self.results.dropna(subset="value").drop_duplicates(["model", "evaluation", "metric", "seed"])
        groups = frame.groupby(["model", "evaluation", "metric"], sort=False)
        return {(str(model), str(kind), str(metric)): rows for (model, kind, metric), rows in groups}

    def complete(self, stage: str | None = None, model: str | None = None) -> list[Run]:
        """The complete runs, by stage and model where these are given."""
        return [run for run in self.of(stage, model) if run.complete]

    def of(self, stage: str | None = None, model: str | None = None) -> list[Run]:
        """All runs, complete or not, by stage and model where these are given."""
        return [run for run in self.runs if stage in (None, run.stage) and model in (None, run.model)]

    @cached_property
    def named(self) -> tuple[str, ...]:
        """The methods by which runs are called, in the report's order: of a sweep each variant, for which `methods`
        has one name."""
        return tuple(names.in_order((names.method_of(run.model) for run in self.runs), self.methods))

    @cached_property
    def titles(self) -> dict[str, str]:
        """The title of each method, like `MoCo v2`, as the configurations of the pretraining runs have it."""
        configs = [run.config.get("method") for run in self.of("pretrain")]
        return {str(config["name"]): str(config["title"]) for config in configs if _has_title(config)}

    def method_label(self, method: str) -> str:
        """A method's name for people."""
        return names.method_label(method, self.titles)

    def model_label(self, model: str) -> str:
        """A model's name for people."""
        return names.model_label(model, self.titles)

    @property
    def missing(self) -> list[tuple[str, str, int]]:
        """Planned runs that are not complete."""
        done = {(run.stage, run.model, run.seed) for run in self.complete()}
        return [key for key in self.planned if key not in done]

    @cached_property
    def models(self) -> list[str]:
        """Final models (with a test accuracy), in the report's order."""
        tested = self.results[(self.results["evaluation"] == "test") & (self.results["metric"] == "accuracy")]
        return names.in_order(tested["model"], self.methods)

    @cached_property
    def seeds_tested(self) -> int:
        """The most seeds that a final model has a test accuracy of: only with several is there a spread over seeds."""
        tested = (rows for (_, *kind), rows in self.numbers.items() if kind == ["test", "accuracy"])
        return max(map(len, tested), default=0)

    def predictions(self, model: str, evaluation: str) -> dict[int, Arrays]:
        """Logits and labels of a final model by seed; evaluation is `test` or `ood`."""
        stages = ("ood",) if evaluation == "ood" else [name for name in STAGES if not STAGES[name].is_evaluation]
        runs = [run for run in self.complete(model=model) if run.stage in stages]
        found = {run: run.arrays(PREDICTIONS.file, *PREDICTIONS.arrays) for run in runs}
        return {run.seed: arrays for run, arrays in found.items() if arrays is not None and of_classes(run, arrays)}


def _has_title(config: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(config, dict) and {"name", "title"} <= config.keys()


def gather(path: Path) -> Study:
    """Reads the study below `path`. Raises NoStudy where there is no folder or no complete run in it."""
    if not path.is_dir():
        raise NoStudy(
            f"there is no folder {path}{hint(path.name, _studies(path.parent))}: give the folder that holds a study's "
            "run directories (make: RUNS= and STUDY=)"
        )
    notes: list[str] = []
    runs = _identified({directory.name: directory for directory in runs_of(path)}, notes)
    if not any(run.complete for run in runs):
        raise NoStudy(f"{path} holds no complete run yet (a run directory with a config.yaml and a result.json)")
    methods, seeds = _planned_values(runs)
    other = of_other_data([(run.directory.name, run.stage, run.provenance) for run in runs if run.complete])
    other |= _starting_from(runs, other)
    notes += other.values()
    kept = tuple(_without_doubles([run for run in runs if run.directory.name not in other], notes))
    notes += [fault for run in kept if run.complete for fault in run.faults]
    done = {run.directory.name for run in runs if run.complete}
    return Study(
        name=path.resolve().name,
        path=path,
        runs=kept,
        methods=methods,
        seeds=seeds,
        # of a sweep only `jobs` knows the plan
        planned=() if any(run.config.get("variant") for run in runs) else tuple(_planned(methods, seeds)),
        notes=tuple(notes),
        failed={name: why for name, why in failures(path).items() if name not in done and name != "report"},
    )


def _starting_from(runs: Sequence[Run], left_out: Mapping[str, str]) -> dict[str, str]:
    """Name of each run that starts from one of those left out, directly or not -> a sentence that says so."""
    sources = {run.directory.name: Path(str(run.config.get("source") or "")).name for run in runs}
    found: dict[str, str] = {}
    while True:
        more = {
            name: f"{name}: left out, it starts from {source}, which saw other data than the study."
            for name, source in sources.items()
            if source in (*left_out, *found) and name not in (*left_out, *found)
        }
        if not more:
            return found
        found |= more


def _studies(folder: Path) -> list[str]:
    return [entry.name for entry in folder.iterdir() if entry.is_dir()] if folder.is_dir() else []


def _identified(directories: dict[str, RunDirectory], notes: list[str]) -> list[Run]:
    """Each directory with its stage, method, model and seed, read from the result or else from the configurations."""
    configs = {name: directory.config() or {} for name, directory in directories.items()}
    runs = []
    for name, directory in directories.items():
        config, result = configs[name], directory.result()
        if not config:
            notes.append(f"{name}: config.yaml can't be read.")
        if result is None and (directory.path / "result.json").exists():
            notes.append(f"{name}: result.json can't be read; the run counts as unfinished.")
        if result is not None and (fault := _fault(result)):
            notes.append(f"{name}: result.json {fault}; the run counts as unfinished.")
            result = None
        stage = str((result or config).get("stage", "unknown"))
        method, model = _origin(name, configs)
        if result is not None:
            method, model = str(result.get("method") or method), str(result["model"])
        if isinstance(variant := config.get("variant"), str) and variant:
            method, model = names.varied(method, variant), names.varied(method, variant) + model.removeprefix(method)
        seed = int((result or config).get("seed") or 0)
        runs.append(Run(directory, stage, method, model, seed, config, result))
    return runs


def _fault(result: dict[str, Any]) -> str:
    """What a result lacks to be used, or nothing."""
    for key, kind in (("stage", str), ("model", str), ("seed", int), ("rows", list)):
        if not isinstance(result.get(key), kind):
            return f"has no usable {key!r}"
    needed = {"evaluation", "metric", "value"}
    if not all(isinstance(row, dict) and needed <= row.keys() for row in result["rows"]):
        return "has a row without evaluation, metric or value"
    for row in result["rows"]:
        if not isinstance(row["evaluation"], str) or not isinstance(row["metric"], str):
            return "has a row whose evaluation or metric is no text"
        value = row["value"]
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            return f"has {row['evaluation']} {row['metric']} = {value!r}, which is no number"
        if value is not None and row["metric"].startswith("accuracy") and not 0 <= value <= 1:
            return f"has {row['evaluation']} {row['metric']} = {value}, which is no fraction"
    return ""


def _origin(name: str, configs: dict[str, dict[str, Any]], depth: int = 0) -> tuple[str, str]:
    """(method, model) of a run, following `source` from configuration to configuration."""
    config = configs.get(name, {})
    method = config.get("method")
    if isinstance(method, dict):
        return str(method.get("name", "unknown")), str(method.get("name", "unknown"))
    source = str(config.get("source") or "unknown")
    if source == RANDOM:
        before = (RANDOM, RANDOM)
    elif Path(source).name in configs and depth < len(configs):
        before = _origin(Path(source).name, configs, depth + 1)
    else:
        before = (Path(source).name, Path(source).name)
    stage = config.get("stage")
    return before[0], f"{before[0]}-{stage}" if stage in names.KINDS else before[1]


def _without_doubles(runs: Sequence[Run], notes: list[str]) -> Iterator[Run]:
    """One run for each (stage, model, seed): a complete one before another, else the first by name."""
    chosen: dict[tuple[str, str, int], Run] = {}
    for run in sorted(runs, key=lambda run: (not run.complete, run.directory.name)):
        key = (run.stage, run.model, run.seed)
        if key in chosen:
            notes.append(f"{run.directory.name}: left out, {chosen[key].directory.name} is the same run.")
        else:
            chosen[key] = run
    ranks = {model: rank for rank, model in enumerate(names.in_order((run.model for run in runs), _methods_of(runs)))}
    stages = {stage: rank for rank, stage in enumerate(STAGES)}
    yield from sorted(chosen.values(), key=lambda run: (stages.get(run.stage, 99), ranks[run.model], run.seed))


def _methods_of(runs: Sequence[Run]) -> tuple[str, ...]:
    return _planned_values(runs)[0]


def _planned_values(runs: Sequence[Run]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Methods and seeds that the configurations name or that runs were made with."""
    methods: dict[str, None] = {}
    seeds: set[int] = set()
    for run in runs:
        study = run.config.get("study")
        study = study if isinstance(study, dict) else {}
        methods.update(dict.fromkeys(str(name) for name in study.get("methods") or []))
        seeds.update(int(seed) for seed in study.get("seeds") or [] if isinstance(seed, int))
    methods.update({names.plain_method(run.method): None for run in runs if run.stage == "pretrain"})
    return tuple(methods), tuple(sorted(seeds | {run.seed for run in runs}))


def _planned(methods: Sequence[str], seeds: Sequence[int]) -> Iterator[tuple[str, str, int]]:
    """The runs of a whole study: pretraining, both uses of each encoder, three evaluations of each final model."""
    encoders = [method for method in methods if method != SUPERVISED]
    finals = [names.RANDOM_PROBE, *([SUPERVISED] if SUPERVISED in methods else [])]
    finals += [f"{method}-{kind}" for method in encoders for kind in names.KINDS]
    for seed in seeds:
        yield from (("pretrain", method, seed) for method in methods)
        yield "probe", names.RANDOM_PROBE, seed
        yield from ((kind, f"{method}-{kind}", seed) for method in encoders for kind in names.KINDS)
        yield from ((stage, model, seed) for model in finals for stage in ("ood", "embed", "width"))


def _rows_of(run: Run) -> Iterator[dict[str, Any]]:
    """The rows of a complete run as RESULT_COLUMNS name them, then stage and method."""
    for row in (run.result or {})["rows"]:
        numbers = {key: row.get(key) for key in ("evaluation", "metric", "value", "low", "high", "n", "reason")}
        origin = {"data": (run.result or {}).get("data"), "stage": run.stage, "method": run.method}
        yield {"model": run.model, **numbers, "seed": run.seed, **origin}
