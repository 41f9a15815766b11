"""One run directory: its identity, its contents, and its unusable files."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from analysis import names
from analysis.artifacts import Arrays, fault_of, metric_frame, read_arrays
from analysis.names import Model
from analysis.words import N_, _
from ssl_pkg.catalogue import STAGES
from ssl_pkg.run.directory import RunDirectory, metrics_sha256


@dataclass(frozen=True, eq=False)
class Run:
    """One run directory with its identity. `result` is None until the run is complete."""

    directory: RunDirectory
    stage: str
    model: Model
    seed: int
    config: dict[str, Any]
    result: dict[str, Any] | None

    @property
    def name(self) -> str:
        """The name of the run directory; in a report of several studies after the study's: `long/probe-byol-s0`."""
        return f"{self.model.study}/{self.directory.name}" if self.model.study else self.directory.name

    @property
    def complete(self) -> bool:
        """Whether the run left a usable result."""
        return self.result is not None

    @property
    def classes(self) -> list[str]:
        """Names of the classes; empty if the run has no result."""
        return [str(name) for name in (self.result or {}).get("classes") or []]

    @property
    def resolution(self) -> int | None:
        """The side of the images that the network got, in pixels; None if it is not recorded."""
        side = (self.result or {}).get("resolution")
        return side if isinstance(side, int) else None

    @property
    def tried(self) -> list[Any]:
        """The candidates of the run's selection on the holdout split, each with its accuracy."""
        tried = (self.result or {}).get("tried")
        return tried if isinstance(tried, list) else []

    @property
    def chosen(self) -> str | None:
        """The phase of the trial that was chosen; None for a run without trials."""
        chosen = (self.result or {}).get("chosen")
        return chosen if isinstance(chosen, str) else None

    @property
    def notes(self) -> list[str]:
        """What the run says about its numbers, for example that a fit did not converge; without a full stop."""
        notes = (self.result or {}).get("notes")
        return [str(note) for note in notes] if isinstance(notes, list) else []

    @property
    def training(self) -> dict[str, Any]:
        """The length of the run's training (`ssl_pkg/config/training_length.py`); empty for a run without one."""
        training = (self.result or {}).get("training")
        return training if isinstance(training, dict) else {}

    @property
    def seconds(self) -> float | None:
        """How long the run took, in seconds."""
        seconds = (self.result or {}).get("seconds")
        return float(seconds) if isinstance(seconds, int | float) else None

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """The metrics log as a data frame, without incomplete lines."""
        return metric_frame(self.directory.metrics())

    @cached_property
    def provenance(self) -> dict[str, Any]:
        """Content of provenance.json; empty if the file is missing."""
        return self.directory.provenance() or {}

    @property
    def reasons(self) -> list[dict[str, Any]]:
        """The rows of the result whose number could not be computed; each has a reason."""
        return [row for row in (self.result or {}).get("rows", []) if row["value"] is None and row.get("reason")]

    @property
    def faults(self) -> list[str]:
        """What is wrong with the run's artifact and metrics log, as sentences."""
        return [*self._damaged_log(), *self._damaged_artifact()]

    def _damaged_log(self) -> list[str]:
        digest = (self.result or {}).get("metrics_sha256")
        if digest is None or metrics_sha256(self.directory.metrics()) == digest:
            return []
        return [_("{run}: metrics.jsonl is not as the run left it; its curves show what can be read.", run=self.name)]

    def _damaged_artifact(self) -> list[str]:
        artifact = STAGES[self.stage].artifact if self.stage in STAGES else None
        if artifact is None:
            return []
        fault = fault_of(self.directory.path / artifact.file)
        arrays = None if fault else read_arrays(self.directory.path / artifact.file)
        if arrays is not None:
            lacking = [name for name in artifact.arrays if name not in arrays]
            if lacking and not any(row["evaluation"] == "tsne" for row in self.reasons):
                fault = _("lacks {arrays}", arrays=names.listed(lacking))
            elif "logits" in arrays and not of_classes(self, arrays):
                fault = _("has labels or logits of other classes than the run")
        if fault and any(row["evaluation"] in ("test", "ood") for row in self.reasons):
            return []  # the logits are not finite, which the rows say
        if not fault:
            return []
        return [_("{run}: {file} {fault}; the file is ignored.", run=self.name, file=artifact.file, fault=fault)]

    @property
    def state(self) -> str:
        """`complete`, or `unfinished` with the step that the run has reached, for people."""
        if self.complete:
            return _("complete")
        status = self.directory.status() or {}
        if isinstance(status.get("step"), int) and isinstance(status.get("steps"), int):
            text = (
                N_("unfinished, step {step} of {steps} of {phase}")
                if isinstance(status.get("phase"), str)
                else N_("unfinished, step {step} of {steps}")
            )
            return _(text, step=status["step"], steps=status["steps"], phase=status.get("phase"))
        return _("unfinished")

    def arrays(self, file: str, *needed: str) -> Arrays | None:
        """The arrays of an npz artifact; None if the file is unusable or lacks one of the arrays `needed`."""
        content = read_arrays(self.directory.path / file)
        return content if content is not None and all(name in content for name in needed) else None


def of_classes(run: Run, arrays: Arrays) -> bool:
    """Whether predictions have one logit for each class of the run and no other labels."""
    count = arrays["logits"].shape[1]
    return len(run.classes) in (0, count) and int(arrays["labels"].max()) < count
