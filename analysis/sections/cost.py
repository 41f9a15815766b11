"""What the study cost: time, core hours or GPU hours, images per second, and interruptions that it survived."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Final

from analysis import names, tables
from analysis.blocks import Section
from analysis.names import Model
from analysis.records import images_of, mapping
from analysis.run import Run
from analysis.shown import Shown
from analysis.study import Study
from ssl_pkg.catalogue import STAGES

_GPU: Final = "GPU hours"
_CORE: Final = "core hours"


def section(study: Study) -> Section:
    """Totals, time by model and stage, device hours by stage, and the speed of the trainings."""
    made = Section("Cost")
    runs = [run for run in study.complete() if run.seconds is not None]
    if not runs:
        return made
    made.text(_totals(runs))
    _times(made, study, runs)
    _stages(made, runs)
    _speeds(made, study, runs)
    return made


def _totals(runs: Sequence[Run]) -> str:
    found = {unit: sum(_device_hours(run).get(unit, 0.0) for run in runs) for unit in (_GPU, _CORE)}
    hours = names.listed(f"{tables.number(value)} {unit}" for unit, value in found.items() if value)
    time = duration(sum(run.seconds or 0.0 for run in runs))
    unit = "GPUs" if not found[_CORE] else "CPU threads" if not found[_GPU] else "GPUs or CPU threads"
    devices = (
        f", {hours}: the time of each run, over all its starts and without the work that an interruption lost, times "
        f"its {unit}"
        if hours
        else ""
    )
    unknown = sum(not _device_hours(run) for run in runs)
    devices += f" ({unknown} of them did not record their devices)" if hours and unknown else ""
    return f"The {len(runs)} complete runs took {time} together{devices}. {_resumes(runs)} Energy was not recorded."


def _resumes(runs: Sequence[Run]) -> str:
    """How often runs were interrupted and resumed, and for how many runs this is unknown."""
    counts = {run.name: resumes(run) for run in runs}
    unknown = sum(count is None for count in counts.values())
    resumed = [f"{name} ({count} times)" if count > 1 else name for name, count in counts.items() if count]
    total = sum(filter(None, counts.values()))
    if unknown == len(runs):
        return "Interruptions were not recorded."
    shown = f"{names.listed(resumed[:8])}{f' and {len(resumed) - 8} more' if len(resumed) > 8 else ''}"
    times = "once" if total == 1 else f"{total} times"
    text = f"Interrupted and resumed {times}: {shown}." if total else "No run was interrupted and resumed."
    return f"{text} Of {unknown} runs this was not recorded." if unknown else text


def resumes(run: Run) -> int | None:
    """How often the run was interrupted and resumed from a checkpoint; None if it is not recorded."""
    count = run.provenance.get("resumes")
    return count if type(count) is int else None


def _device_hours(run: Run) -> dict[str, float]:
    """The run's GPU hours or core hours: its time, times its processes, on CPUs also times their threads."""
    hardware, processes = mapping(run.provenance.get("hardware")), run.provenance.get("world_size", 1)
    if run.seconds is None or not isinstance(processes, int):
        return {}
    hours = run.seconds * processes / 3600
    if hardware.get("device") == "cuda":
        return {_GPU: hours}
    threads = hardware.get("threads")
    return {_CORE: hours * threads} if hardware.get("device") == "cpu" and isinstance(threads, int) else {}


def _times(made: Section, study: Study, runs: Sequence[Run]) -> None:
    seconds: dict[Model, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        seconds[run.model][run.stage].append(run.seconds or 0.0)
    stages = [stage for stage in STAGES if any(stage in found for found in seconds.values())]
    rows = []
    for model in names.in_order(seconds, study.methods):
        found = seconds[model]
        means = [duration(fmean(found[stage])) if stage in found else tables.ABSENT for stage in stages]
        rows.append([study.model_label(model), *means, duration(sum(map(sum, found.values())))])
    made.table(
        "time",
        ["Model", *stages, "Sum over seeds"],
        rows,
        "Time of the complete runs by model and stage, mean over seeds.",
        widths=[1.9, *(max(0.8, 0.13 * len(stage)) for stage in stages), 1],
    )


def _stages(made: Section, runs: Sequence[Run]) -> None:
    """Runs, time, device hours and resumes of each stage."""
    stages: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        stages[run.stage].append(run)
    units = [unit for unit in (_GPU, _CORE) if any(unit in _device_hours(run) for run in runs)]
    rows = []
    for stage in (stage for stage in STAGES if stage in stages):
        own = stages[stage]
        hours = [sum(_device_hours(run).get(unit, 0.0) for run in own) for unit in units]
        known = [count for count in map(resumes, own) if count is not None]
        rows.append(
            [
                stage,
                str(len(own)),
                duration(sum(run.seconds or 0.0 for run in own)),
                *map(tables.number, hours),
                str(sum(known)) if known else tables.ABSENT,
            ]
        )
    made.table(
        "cost",
        ["Stage", "Runs", "Time", *(unit.capitalize() if unit == _CORE else unit for unit in units), "Resumed"],
        rows,
        "Cost by stage, over all models and seeds. Resumed: how often a run was interrupted and continued from a "
        "checkpoint.",
    )


def _speeds(made: Section, study: Study, runs: Sequence[Run]) -> None:
    """The images per second of each training."""
    speeds: dict[tuple[Model, str], list[tuple[Run, float]]] = defaultdict(list)
    for run in runs:
        rate = images_per_second(run)
        if rate is not None:
            speeds[run.model, run.stage].append((run, rate))
    rows = []
    for model in names.in_order((model for model, _ in speeds), study.methods):
        for stage in ("pretrain", "finetune"):
            if found := speeds.get((model, stage)):
                devices = names.listed(_device(run) for run, _ in found)
                rate = fmean(rate for _, rate in found)
                rows.append([study.model_label(model), stage, devices, tables.number(rate)])
    made.table(
        "speed",
        ["Model", "Stage", "Device", "Images per second"],
        rows,
        "Speed of the trainings, mean over seeds: images of the batches, each counted once with all its views, between "
        "the first and the last line of the metrics log, which includes validation. For trainings on "
        "labels: of the final training.",
        left=3,
        widths=[1.2, 0.7, 2, 1],
    )


def _device(run: Run) -> str:
    return str(mapping(run.provenance.get("hardware")).get("name", tables.ABSENT))


def images_per_second(run: Run) -> float | None:
    """The images of the batches per second between the first and the last logged step; None if it is unknown."""
    frame, size = run.metrics, None
    if run.stage == "pretrain":
        size = mapping(run.config.get("method")).get("batch_size")
    elif run.stage == "finetune" and "phase" in frame:
        frame, size = frame[frame["phase"] == "final"], mapping(run.config.get("finetune")).get("batch_size")
        size = min(filter(None, (size, images_of(run, "train"))), default=None)
    if not isinstance(size, int) or not {"step", "seconds"} <= set(frame) or len(frame) < 2:
        return None
    steps, seconds = (float(frame[column].iloc[-1] - frame[column].iloc[0]) for column in ("step", "seconds"))
    return steps * size / seconds if steps > 0 and seconds > 0 else None


def duration(seconds: float) -> str:
    """A duration for people: `42 s`, `12 min`, `3.4 h`."""
    if seconds < 100:
        return Shown(f"{seconds:.0f} s", seconds=seconds)
    text = f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
    return Shown(text, seconds=seconds)
