"""A study as one object: its runs, their numbers, and the planned runs that are missing."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeGuard

import pandas as pd

from analysis import names
from analysis.artifacts import Arrays
from analysis.names import Model
from analysis.run import Run, of_classes
from analysis.words import _
from ssl_pkg.catalogue import PREDICTIONS, RANDOM, STAGES, adapted
from ssl_pkg.config.presets import method_titles
from ssl_pkg.rows import DIMENSIONS, INTEGER_DIMENSIONS, dimensions_of

RunKey = tuple[str, Model, int]  # stage, model and seed
_NUMBERS: Final = ("value", "low", "high", "n")
_BOUNDS: Final = ("at_least", "at_most")
RESULT_COLUMNS: Final = [
    *("model", "evaluation", "metric", *_NUMBERS, "seed"),
    *("method", "adaptation", "variant", "study", *DIMENSIONS, "data", "reason", *_BOUNDS),
]


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
    newest: int  # when the newest result.json was written that existed before the reading, in nanoseconds since 1970
    parts: tuple["Study", ...] = ()  # the studies that were joined to this one (`analysis/joining.py`)

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
    def paths(self) -> list[str]:
        """The folders of the study, or of each of the studies that were joined."""
        return [str(part.path) for part in self.parts or (self,)]

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
    def _weights(self) -> dict[tuple[Model, int], str]:
        """The digest of the weights of each trained encoder and seed."""
        runs = [run for run in self.complete() if run.model.adaptation is None and not STAGES[run.stage].is_evaluation]
        return {(run.model, run.seed): str((run.result or {}).get("weights_sha256") or "") for run in runs}

    def same_encoders(self, first: Model, second: Model, seeds: Collection[int]) -> bool:
        """Whether two models contain the same encoders for all these seeds.

        Those of two studies are the same if they are the random initialisation, or if their weights are equal.
        """
        if first.method == RANDOM == second.method:
            return True
        trained = {model for model, _ in self._weights}
        one, two = (names.counterpart(model.encoder, trained) for model in (first, second))
        if one is None or two is None:
            return first.encoder == second.encoder
        if one == two:
            return True
        digests = [(self._weights.get((one, seed)), self._weights.get((two, seed))) for seed in seeds]
        return bool(digests) and all(a and a == b for a, b in digests)

    @cached_property
    def encoders(self) -> tuple[Model, ...]:
        """The encoders that the models contain, in the report's order: one for each method and variant."""
        return tuple(names.in_order((run.model.encoder for run in self.runs), self.methods))

    @cached_property
    def titles(self) -> dict[str, str]:
        """The title of each method, like `MoCo v2`, as the pretraining runs or this version have it."""
        configs = [run.config.get("method") for run in self.of("pretrain")]
        return method_titles() | {str(config["name"]): str(config["title"]) for config in configs if _has_title(config)}

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

    def run_label(self, run: Run) -> str:
        """The model and the seed of a run for people."""
        return _("{model}, seed {seed}", model=self.model_label(run.model), seed=run.seed)

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
    def seed_counts(self) -> dict[Model, int]:
        """The number of seeds with a test accuracy, of each final model that has one."""
        found = {model: self.numbers.get((model, "test", "accuracy", frozenset())) for model in self.models}
        return {model: len(rows) for model, rows in found.items() if rows is not None}

    @property
    def seeds_tested(self) -> int:
        """The largest number of seeds with a test accuracy over the final models. A spread over seeds needs two."""
        return max(self.seed_counts.values(), default=0)

    @property
    def seeds_text(self) -> str:
        """Which final models have a test accuracy for fewer seeds than the study has; empty if none."""
        planned = {part.name if self.parts else "": len(part.seeds) for part in self.parts or (self,)}
        fewer = {model: count for model, count in self.seed_counts.items() if count < planned[model.study]}
        if not fewer:
            return ""
        if self.parts:
            of_planned = [
                _(
                    "{model} {seeds} of {planned}",
                    model=self.model_label(model),
                    seeds=count,
                    planned=planned[model.study],
                )
                for model, count in fewer.items()
            ]
            return _(
                "Models with a test accuracy for fewer seeds than their study has: {models}. Their means are over "
                "these seeds; with one seed, no interval contains the variation between seeds.",
                models=names.listed(of_planned),
            )
        models = names.listed(
            _("{model} {seeds}", model=self.model_label(model), seeds=count) for model, count in fewer.items()
        )
        return _(
            "Models with a test accuracy for fewer seeds than the study's {seeds}: {models}. Their means are over "
            "these seeds; with one seed, no interval contains the variation between seeds.",
            seeds=len(self.seeds),
            models=models,
        )

    def predictions(self, model: Model, evaluation: str) -> dict[int, Arrays]:
        """Logits (n, C) and labels (n,) of a final model, by seed. evaluation: `test` or `ood`."""
        stages = ("ood",) if evaluation == "ood" else [name for name in STAGES if not STAGES[name].is_evaluation]
        runs = [run for run in self.complete(model=model) if run.stage in stages]
        found = {run: run.arrays(PREDICTIONS.file, *PREDICTIONS.arrays) for run in runs}
        return {run.seed: arrays for run, arrays in found.items() if arrays is not None and of_classes(run, arrays)}


def _has_title(config: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(config, dict) and {"name", "title", "papers"} <= config.keys()


def in_order(keys: Collection[RunKey], methods: Sequence[str]) -> list[RunKey]:
    """The runs in the report's order."""
    stages = list(STAGES)
    models = names.in_order((model for _, model, _ in keys), methods)

    def rank(key: RunKey) -> tuple[int, int, int]:
        stage, model, seed = key
        return stages.index(stage) if stage in STAGES else len(stages), models.index(model), seed

    return sorted(keys, key=rank)


def _rows_of(run: Run) -> Iterator[dict[str, Any]]:
    """The rows of a complete run with the columns of `Study.results`.

    A row with an adaptation belongs to the model that this adaptation makes of the run's encoder.
    """
    result = run.result or {}
    origin = {"seed": run.seed, "data": result.get("data"), "stage": run.stage}
    for row in result["rows"]:
        model = run.model
        if stage := row.get("adaptation"):
            model = Model(*adapted(model.method, stage), model.variant, model.study)
        yield {**row, **origin, **vars(model), "model": model, "dimensions": dimensions_of(row)}
