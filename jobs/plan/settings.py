"""Makes a checked configuration and a plan from the command line of a study. Imports no torch."""

import importlib.util
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from jobs.ledger import REPORT
from jobs.plan.graph import Job, plan
from jobs.plan.sweeps import expand_sweep, reads
from ssl_pkg.catalogue import RANDOM, SUPERVISED
from ssl_pkg.config.compose import load_config
from ssl_pkg.config.overrides import key_of, split_literals
from ssl_pkg.config.presets import methods, studies
from ssl_pkg.config.schema import SYNTHETIC, Config
from ssl_pkg.errors import BAD_INPUT, COMPLETE, BadInput, reading
from ssl_pkg.layout import has_ood, refuse_no_data_set
from ssl_pkg.messages.nearest import hint
from ssl_pkg.messages.wrapping import say
from ssl_pkg.run.compatibility import RUN_FORMAT, free_when_complete, other_data, refuse_difference
from ssl_pkg.run.directory import RESULT, RunDirectory
from ssl_pkg.run.source import inherit
from ssl_pkg.run.study_plan import PlannedRun, read_plan

# The plan sets these for each run.
PLANNER_KEYS: Final = ("stage", "run_dir", "source", "seed", "method", "study", "study.name", "variant")


def configure(
    study: str, *, data: str | None, seeds: str | None, overrides: Sequence[str], runs: Path | None = None
) -> Config:
    """The study's configuration with the user's overrides. Raises BadInput.

    runs: the folder above RUNS/STUDY; if `study` is the new name of a renamed folder, the message says so.
    """
    if study not in studies():
        raise BadInput(_unknown(study, runs))
    _check_keys(overrides)
    literal, others = split_literals(overrides)
    root = literal.get("data.root")
    if None not in (data, root) and data != root:
        raise BadInput(f"--data {data} contradicts data.root={root}: leave one of them out")
    fixed, choices = expand_sweep(others)
    found = [_configure(study, data or root, seeds, [*fixed, *choice]) for choice in choices]
    return found[0]


def _unknown(study: str, runs: Path | None) -> str:
    """The message for a study without a preset. It suggests a valid name, or how to undo the renaming of a folder."""
    folder = (runs or Path("runs")) / study
    plan = read_plan(folder)
    if plan is None or plan.study not in studies():
        return f"there is no study {study!r}{hint(study, studies())}: choose one of {', '.join(studies())}"
    name = plan.study
    place, line, more = folder.with_name(name), "", ""
    if place.exists():
        place = folder.with_name(f"{study}-runs") / name
        line, more = (
            f"{shlex.join(['mkdir', str(place.parent)])} && ",
            f" and {shlex.join(['--runs', str(place.parent)])}",
        )
    line += shlex.join(["mv", str(folder), str(place)])
    return (
        f"there is no study {study!r}, but {folder} has the runs of study {name}: "
        f"move the folder by `{line}`, then give {name}{more}"
    )


def _configure(study: str, data: str | None, seeds: str | None, overrides: Sequence[str]) -> Config:
    line = [f"study={study}", "stage=probe", f"source={RANDOM}", "run_dir=-"]
    line += [override for override in overrides if not key_of(override).startswith("method.")]
    if seeds is not None:
        if any(key_of(override) == "study.seeds" for override in overrides):
            raise BadInput(f"--seeds {seeds} contradicts study.seeds=: leave one of them out")
        line.append(f"study.seeds=[{','.join(str(seed) for seed in _seeds(seeds))}]")
    if data is not None:
        line.append("data.root=-")  # a placeholder, because the path is set below
    config = _composed(study, line)
    root = config.data.root if data is None else data
    with reading(Path(root)):
        if root != SYNTHETIC and not Path(root).is_dir():
            raise BadInput(
                f"there is no data folder {root}: give the folder above stl10_binary/ with --data (make: DATA=)"
            )
    config = with_data_root(config, root)
    _check_methods(study, config, overrides)
    return config


def with_data_root(config: Config, root: str) -> Config:
    """The configuration with another folder of the images."""
    return config.model_copy(update={"data": config.data.model_copy(update={"root": root})})


def plan_study(config: Config, *, runs: Path, reports: Path, overrides: Sequence[str] = ()) -> list[Job]:
    """The plan of a configured study, without `ood` runs if the data has no out-of-distribution set.

    Raises BadInput if `runs` has complete runs of the study with other settings.
    """
    _, passed = split_literals(overrides)
    root = config.data.root
    ood = root == SYNTHETIC or has_ood(Path(root))
    if not ood:
        sentence = f"{root} has no out-of-distribution set (a folder ood, or CIFAR-10), so the study has no ood runs."
        say(sentence)
    jobs = plan(config.study, runs=runs, reports=reports, data_root=root, ood=ood, overrides=passed)
    earlier = read_plan(runs / config.study.name)
    _refuse_outdated(jobs)
    for job in jobs:
        if job.stage != REPORT and job.complete:
            _refuse_other_data(job, root)
            _refuse_other_settings(job, earlier.run(job.name) if earlier else None)
    return jobs


def plan_published(study: str, *, seeds: str | None, overrides: Sequence[str], runs: Path, reports: Path) -> list[Job]:
    """The plan of a study on STL-10 as published, which need not be on this machine. Raises BadInput."""
    config = configure(study, data=".", seeds=seeds, overrides=overrides, runs=runs)
    return plan(config.study, runs=runs, reports=reports, data_root=".", ood=True, overrides=overrides)


def check_data(root: str) -> None:
    """Raises BadInput, with ssl_pkg's message, if a study can't use the images below `root`.

    Without torch, as on a login node, the images are not checked here, because each stage checks them.
    """
    if root != SYNTHETIC:
        refuse_no_data_set(Path(root))
    if root == SYNTHETIC or importlib.util.find_spec("torch") is None:
        return
    _check(f"the images in {root}", "ssl_pkg.data.dataset", root)


def check_gpus() -> None:
    """Raises BadInput, with ssl_pkg's message, if the machine has GPUs that PyTorch can't use."""
    _check("the GPUs", "ssl_pkg.hardware.device")


def _check(what: str, module: str, *arguments: str) -> None:
    """Runs a module of ssl_pkg that checks `what`. Raises BadInput with the module's message, or if the check fails."""
    command = [sys.executable, "-P", "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if done.returncode == BAD_INPUT:
        raise BadInput(done.stderr.strip())
    if done.returncode != COMPLETE:
        why = done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        raise BadInput(f"{what} can't be checked ({why}): run the same command again")


def _refuse_outdated(jobs: Sequence[Job]) -> None:
    """Raises BadInput if complete runs were made from other weights than their parents have now."""
    runs = {job.name: RunDirectory(job.run_dir) for job in jobs if job.stage != REPORT and job.complete}
    outdated = []
    for job in jobs:
        parent = runs.get(job.parents[0]) if job.name in runs and job.parents else None
        if parent is None or not _made_before(runs[job.name], parent):
            continue  # a run that is newer than its parent was made from the parent's weights
        known = ((runs[job.name].config() or {}).get("inputs") or {}).get("source")
        now = (parent.result() or {}).get("weights_sha256")
        if known is not None and known != now:
            outdated.append(job)
    if outdated:
        line = shlex.join(["rm", "-r", *(str(job.run_dir) for job in outdated)])
        were, them = ("run was", "it") if len(outdated) == 1 else ("runs were", "them")
        raise BadInput(
            f"{len(outdated)} complete {were} made from an earlier {outdated[0].parents[0]}: remove {them} by "
            f"`{line}` to run {them} again, or give another folder with --runs (make: RUNS=)"
        )


def _made_before(run: RunDirectory, parent: RunDirectory) -> bool:
    try:
        return (run.path / RESULT).stat().st_mtime < (parent.path / RESULT).stat().st_mtime
    except OSError:
        return False


def _refuse_other_settings(job: Job, planned: PlannedRun | None) -> None:
    """Raises BadInput if a complete run was made with other settings than `job` has.

    The words of the plan are compared first, because composing a configuration takes 50 ms. Where they differ, or where
    there is no plan of this version, the run's own config.yaml decides: other words can mean the same settings, and
    the same words other ones in an earlier version.
    """
    if planned is not None and planned.run_format != RUN_FORMAT:
        planned = None
    difference = job.difference(planned)
    if planned is not None and difference is None:
        return
    run = RunDirectory(job.run_dir)
    config = inherit(load_config(job.overrides), set(map(key_of, job.overrides)), run)
    try:
        refuse_difference(run, config.relevant(), free=free_when_complete(config))
    except BadInput:
        if difference is None:
            raise
    else:
        if difference is None or run.config() is not None:
            return
    raise BadInput(
        f"{job.run_dir} is complete with other settings ({difference}): "
        "give another folder with --runs (make: RUNS=), or remove it"
    )


def _refuse_other_data(job: Job, root: str) -> None:
    """Raises BadInput if a complete run was made from other images than those below `root`."""
    there = other_data(RunDirectory(job.run_dir), root)
    if there:
        raise BadInput(
            f"{job.run_dir} is complete on other images ({there}, now {root}), but a study has one data set: "
            "give another folder with --runs (make: RUNS=), or remove it"
        )


def _composed(study: str, line: list[str]) -> Config:
    try:
        return load_config(line)
    except BadInput as error:
        if str(error).startswith("data.root must be given"):
            raise BadInput(f"study {study} needs images: give their folder with --data (make: DATA=)") from error
        raise


def _check_keys(overrides: Sequence[str]) -> None:
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals:
            raise BadInput(f"{override!r} is not of the form KEY=VALUE")
        if key_of(key) in PLANNER_KEYS:
            instead = {"method": "give study.methods=[simclr,byol]", "seed": 'give --seeds "0 1 2"'}.get(key_of(key))
            raise BadInput(f"the plan sets {key}= for each run: {instead or 'leave it out'}")


def _check_methods(study: str, config: Config, overrides: Sequence[str]) -> None:
    """Raises BadInput for an unknown method, or for an override of a field that a method does not have."""
    passed = [override for override in overrides if reads("pretrain", override)]
    given = [override for override in passed if key_of(override).startswith("method.")]
    known = [SUPERVISED, *methods()]
    for method in config.study.methods:
        if method not in known:
            raise BadInput(
                f"there is no method {method!r}{hint(method, known)} for study {study}: choose among {', '.join(known)}"
            )
        if given and method != SUPERVISED:
            load_config([f"study={study}", "stage=pretrain", f"method={method}", "run_dir=-", "data.root=-", *passed])
    if given and not set(config.study.methods) - {SUPERVISED}:
        raise BadInput(f"{given[0]} is a setting of a pretraining, and study.methods has none: leave it out")


def _seeds(text: str) -> list[int]:
    words = text.replace(",", " ").split()
    seeds = [int(word) for word in words if re.fullmatch("[0-9]{1,10}", word)]
    if not words or len(seeds) < len(words) or max(seeds) >= 2**32:
        raise BadInput(f'seeds must be whole numbers from 0 to {2**32 - 1}, like "0 1 2", not {text!r}')
    return list(dict.fromkeys(seeds))
