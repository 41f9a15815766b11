"""The command lines that compute the numbers of a run again, in a new run directory, and make the report again."""

import datetime
import shlex
from pathlib import Path

import pandas as pd

from analysis.records import mapping
from analysis.run import Run
from analysis.study import Study
from analysis.words import LANGUAGES, current
from ssl_pkg.run.study_plan import StudyPlan, read_plan

AGAIN = "again"  # the folder of the new run directories and of the new report


def of_report(study: Study, date: datetime.date, *, thumbnails: bool = False) -> str:
    """The command that makes this report again, in a new folder."""
    words = [*study.paths, "--out", f"{AGAIN}/report", "--date", f"{date}", *["--thumbnails"] * thumbnails]
    if current() != LANGUAGES[0]:
        words += ["--language", current()]
    return f".venv/bin/python -m analysis {shlex.join(words)}"


def commands(study: Study) -> dict[str, str]:
    """A command for each run, by the run's name. A run that is not in plan.json has none: its settings are unknown."""
    if study.parts:
        return {f"{part.name}/{name}": line for part in study.parts for name, line in commands(part).items()}
    plan = read_plan(study.path)
    found = {run.directory.name: _command(run, study, plan) for run in study.runs} if plan else {}
    return {name: command for name, command in found.items() if command}


def table(study: Study) -> pd.DataFrame:
    """Every run that has a command: its name, stage, model, variant, study, seed and command."""
    found = commands(study)
    rows = [
        [name, run.stage, run.model.name, run.model.variant, run.model.study, run.seed, found[name]]
        for run in study.runs
        if (name := run.name) in found
    ]
    return pd.DataFrame(rows, columns=["run", "stage", "model", "variant", "study", "seed", "command"])


def _command(run: Run, study: Study, plan: StudyPlan) -> str:
    planned = plan.run(run.directory.name)
    if planned is None:
        return ""
    words = [f"study={plan.study}", f"stage={run.stage}", f"seed={run.seed}"]
    source = run.config.get("source")
    if source is None:
        words.append(f"method={planned.method}")
    else:
        kept = study.path / Path(str(source)).name
        words.append(f"source={kept if kept.is_dir() else source}")
    data = run.config.get("data")
    if isinstance(data, dict) and data.get("root"):
        words.append(f"data.root={data['root']}")
    words += planned.settings
    hardware = mapping(run.provenance.get("hardware"))
    if hardware.get("device") == "cpu" and "threads" in hardware:  # another number gives other bits
        words.append(f"threads={hardware['threads']}")
    words.append(f"run_dir={AGAIN}/{run.directory.name}")
    processes = run.provenance.get("world_size", 1)
    several = isinstance(processes, int) and processes > 1  # each computes a part of the batch
    program = f".venv/bin/torchrun --nproc-per-node {processes} -m ssl_pkg" if several else ".venv/bin/ssl-study-stage"
    return f"{program} {shlex.join(words)}"
