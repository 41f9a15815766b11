"""From what was typed to a checked configuration and its plan. Imports no torch."""

import importlib.util
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import ssl_pkg
from jobs.graph import Job, plan, reads, sweep
from jobs.ledger import REPORT, key_of, read_ledger
from ssl_pkg.compose import load_config
from ssl_pkg.config import RANDOM, SYNTHETIC, Config, methods
from ssl_pkg.errors import BAD_INPUT, COMPLETE, BadInput
from ssl_pkg.resume import other_data
from ssl_pkg.runs import RunDirectory

OURS: Final = (
    "stage",
    "run_dir",
    "source",
    "seed",
    "method",
    "study",
    "study.name",
    "variant",
)  # set for each run by the plan


def studies() -> list[str]:
    """The studies that the configuration tree knows, by name."""
    return sorted(file.stem for file in (Path(ssl_pkg.__path__[0]) / "conf" / "study").glob("*.yaml"))


def configure(study: str, *, data: str | None, seeds: str | None, overrides: Sequence[str]) -> Config:
    """The study's configuration with what the user wants otherwise. Raises BadInput."""
    if study not in studies():
        raise BadInput(f"there is no study {study!r}: choose one of {', '.join(studies())}")
    _check_keys(overrides)
    fixed, choices = sweep(overrides)
    found = [_configure(study, data, seeds, [*fixed, *choice]) for choice in choices]
    return found[0]


def _configure(study: str, data: str | None, seeds: str | None, overrides: Sequence[str]) -> Config:
    line = [f"study={study}", "stage=probe", f"source={RANDOM}", "run_dir=-"]
    line += [override for override in overrides if not override.startswith("method.")]
    if seeds is not None:
        line.append(f"study.seeds=[{','.join(str(seed) for seed in _seeds(seeds))}]")
    if data is not None:
        line.append("data.root='-'")  # a placeholder: a path needs no parsing
    config = _composed(study, line)
    root = config.data.root if data is None else data
    if root != SYNTHETIC and not Path(root).is_dir():
        raise BadInput(f"there is no data folder {root}: give the one that holds stl10_binary/ by --data (make: DATA=)")
    config = config.model_copy(update={"data": config.data.model_copy(update={"root": root})})
    _check_methods(study, config, overrides)
    return config


def plan_study(config: Config, *, runs: Path, reports: Path, overrides: Sequence[str] = ()) -> list[Job]:
    """The plan of a configured study. Raises BadInput where `runs` holds complete runs of other settings."""
    passed = [override for override in overrides if not override.startswith("data.root=")]
    jobs = plan(config.study, runs=runs, reports=reports, data_root=config.data.root, overrides=passed)
    recorded = read_ledger(runs / config.study.name)
    _refuse_orphans(jobs)
    for job in jobs:
        if job.stage != REPORT and job.complete:
            _refuse_other_data(job, config.data.root)
        entry = recorded.get(job.name)
        difference = entry.differs(job.settings) if entry and job.complete else None
        if difference:
            raise BadInput(
                f"{job.run_dir} is complete with other settings ({difference}): "
                "give another folder by --runs (make: RUNS=), or remove it"
            )
    return jobs


def check_data(root: str) -> None:
    """Raises BadInput, with ssl_pkg's sentence, where a study can't run on the images below `root`. On a login node
    without torch nothing is known of them: there each stage checks for itself."""
    if root == SYNTHETIC or importlib.util.find_spec("torch") is None:
        return
    command = [sys.executable, "-P", "-m", "ssl_pkg.data.dataset", root]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == BAD_INPUT:
        raise BadInput(done.stderr.strip())
    if done.returncode != COMPLETE:
        raise RuntimeError(done.stderr)


def _refuse_orphans(jobs: Sequence[Job]) -> None:
    """Raises BadInput if complete runs are of other weights than those that their parents have now."""
    runs = {job.name: RunDirectory(job.run_dir) for job in jobs if job.stage != REPORT and job.complete}
    orphans = []
    for job in jobs:
        parent = runs.get(job.parents[0]) if job.name in runs and job.parents else None
        if parent is None or not _made_before(runs[job.name], parent):
            continue  # most runs: no need to read what they were made from
        known = ((runs[job.name].config() or {}).get("inputs") or {}).get("source")
        now = (parent.result() or {}).get("weights_sha256")
        if known is not None and known != now:
            orphans.append(job)
    if orphans:
        folders = " ".join(str(job.run_dir) for job in orphans)
        raise BadInput(
            f"{len(orphans)} complete runs are of another {orphans[0].parents[0]} than the one that is there now: "
            f"`rm -r {folders}` and they are made anew, or give another folder by --runs (make: RUNS=)"
        )


def _made_before(run: RunDirectory, parent: RunDirectory) -> bool:
    try:
        return (run.path / "result.json").stat().st_mtime < (parent.path / "result.json").stat().st_mtime
    except OSError:
        return False


def _refuse_other_data(job: Job, root: str) -> None:
    """Raises BadInput if a complete run saw other images than those below `root`."""
    there = other_data(RunDirectory(job.run_dir), root)
    if there:
        raise BadInput(
            f"{job.run_dir} is complete on other images ({there}, now {root}): one study has one data set, "
            "so give another folder by --runs (make: RUNS=), or remove it"
        )


def _composed(study: str, line: list[str]) -> Config:
    try:
        return load_config(line)
    except BadInput as error:
        if str(error).startswith("data.root must be given"):
            raise BadInput(f"study {study} needs images: give their folder by --data (make: DATA=)") from error
        raise


def _check_keys(overrides: Sequence[str]) -> None:
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals:
            raise BadInput(f"{override!r} is not of the form key=value")
        if key_of(key) in OURS:
            raise BadInput(f"{key}= is set for each run by the plan: leave it out")


def _check_methods(study: str, config: Config, overrides: Sequence[str]) -> None:
    """Unknown methods, and overrides of fields that a method doesn't have, come out before anything has started."""
    passed = [override for override in overrides if reads("pretrain", override)]
    known = methods()
    for method in config.study.methods:
        if method not in known:
            raise BadInput(f"study {study} names the method {method!r}: there are {', '.join(known)}")
        if any(override.startswith("method.") for override in passed):
            load_config([f"study={study}", "stage=pretrain", f"method={method}", "run_dir=-", "data.root=-", *passed])


def _seeds(text: str) -> list[int]:
    try:
        seeds = list(dict.fromkeys(int(word) for word in text.replace(",", " ").split()))
    except ValueError:
        seeds = []
    if not seeds or min(seeds) < 0:
        raise BadInput(f'seeds must be whole numbers from 0, like "0 1 2", not {text!r}')
    return seeds
