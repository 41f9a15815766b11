"""`RUNS/STUDY/plan.json`: which runs a study has. `jobs` writes the file before a run starts; `analysis` reads it.

    study        name of the study preset; the folder may be renamed
    runs         parents before children; the report is not a run
      name         name of the run and of its run directory, e.g. `probe-byol-s0`
      stage        name in the stage catalogue
      model        name of the model that the run makes or evaluates, as in result.json, e.g. `byol-probe`
      method       name of the model's method; `random` for the random initialisation
      adaptation   `probe`, `finetune`, or null for a model that was not adapted
      seed         from 0
      variant      in a sweep, the values that the run was made with, e.g. `temperature=0.1`; otherwise empty
      parents      names of the runs that must be complete before this run starts
      settings     overrides that change the run's result, in alphabetical order, e.g. `budget=tiny`
      run_format   as in config.yaml; in another version the same settings can mean something else

The file holds no path, so that a study's folder can be copied and renamed. Imports no torch.
"""

from pathlib import Path
from typing import Final

from pydantic import BaseModel, ConfigDict, ValidationError, computed_field

from ssl_pkg.run.directory import RESULT, model_name, write_atomic

# In REPORTS/STUDY; written last, so that it stands for the whole report. Its modification time is that of the newest
# result that existed when the study was read, because a run can complete while the report is made.
REPORT_FILE: Final = "report.pdf"
PLAN: Final = "plan.json"


class PlannedRun(BaseModel):
    """One run of a study, as described above."""

    model_config = ConfigDict(frozen=True, strict=True)

    name: str
    stage: str
    method: str
    adaptation: str | None
    seed: int
    variant: str = ""
    parents: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    run_format: int

    @computed_field  # type: ignore[prop-decorator]  # mypy does not support decorators above property
    @property
    def model(self) -> str:
        """The name of the model that the run makes or evaluates."""
        return model_name(self.method, self.adaptation)


class StudyPlan(BaseModel):
    """The name of the study preset, and the runs of the study."""

    model_config = ConfigDict(frozen=True, strict=True)

    study: str
    runs: tuple[PlannedRun, ...]

    def run(self, name: str) -> PlannedRun | None:
        """The run called `name`; None where the plan has no such run."""
        return next((run for run in self.runs if run.name == name), None)


def read_plan(folder: Path) -> StudyPlan | None:
    """The plan of the study in `folder`; None where plan.json is missing or damaged."""
    try:
        return StudyPlan.model_validate_json((folder / PLAN).read_bytes())
    except (OSError, ValidationError):
        return None


def newest_result(folder: Path) -> int:
    """When the newest result.json of the study was written, in nanoseconds since 1970; 0 without a result.

    Raises OSError if a result is removed meanwhile.
    """
    return max((result.stat().st_mtime_ns for result in folder.glob(f"*/{RESULT}")), default=0)


def write_plan(folder: Path, plan: StudyPlan) -> None:
    """Replaces plan.json atomically. Raises OSError."""
    write_atomic(folder / PLAN, f"{plan.model_dump_json(indent=2)}\n".encode())
