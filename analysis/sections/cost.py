"""What the study cost: time, core hours or GPU hours, images per second, and interruptions that it survived."""

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean
from typing import Final

from analysis import names, tables
from analysis.blocks import Section
from analysis.names import Model
from analysis.number_text import NumberText
from analysis.records import batch_size, mapping
from analysis.run import Run
from analysis.study import Study
from analysis.words import N_, _, ngettext, pgettext
from ssl_pkg.catalogue import STAGES

_GPU, _CORE = "cuda", "cpu"  # devices, whose time is counted by GPU and by core
_HEADINGS: Final = {_GPU: N_("GPU hours"), _CORE: N_("Core hours")}
_HOURS: Final = {_GPU: N_("{hours} GPU hours"), _CORE: N_("{hours} core hours")}


def section(study: Study) -> Section:
    """Totals, time by model and stage, device hours by stage, and the speed of the trainings."""
    made = Section(_("Cost"))
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
    hours = names.listed(_(_HOURS[unit], hours=tables.number(value)) for unit, value in found.items() if value)
    if not found[_CORE]:
        unit = pgettext("number of", "GPUs")
    elif not found[_GPU]:
        unit = pgettext("number of", "CPU threads")
    else:
        unit = pgettext("number of", "GPUs or CPU threads")
    devices = (
        _(
            ", {hours}: each run's time over all its starts, without work lost to interruptions, times its number of "
            "{unit}",
            hours=hours,
            unit=unit,
        )
        if hours
        else ""
    )
    unknown = sum(not _device_hours(run) for run in runs)
    devices += _(" ({unknown} of them did not record their devices)", unknown=unknown) if hours and unknown else ""
    text = _(
        "The {complete} complete runs took {time} together{devices}. {interruptions} Energy was not recorded.",
        complete=len(runs),
        time=duration(sum(run.seconds or 0.0 for run in runs)),
        devices=devices,
        interruptions=_resumes(runs),
    )
    if found[_GPU] and any(mapping(run.config.get("study")).get("runs_per_gpu", 1) != 1 for run in runs):
        text += " " + _("Runs that shared a GPU count it in full, so the sum can exceed the GPU's time.")
    return text


def _resumes(runs: Sequence[Run]) -> str:
    """How often runs were interrupted and resumed, and for how many runs this is unknown."""
    counts = {run.name: resumes(run) for run in runs}
    unknown = sum(count is None for count in counts.values())
    resumed = [
        ngettext("{name} ({n} time)", "{name} ({n} times)", count, name=name) if count > 1 else name
        for name, count in counts.items()
        if count
    ]
    total = sum(filter(None, counts.values()))
    if unknown == len(runs):
        return _("Interruptions were not recorded.")
    shown = names.listed(resumed)
    text = (
        ngettext(
            "Interrupted and resumed once: {runs}.", "Interrupted and resumed {n} times: {runs}.", total, runs=shown
        )
        if total
        else _("No run was interrupted and resumed.")
    )
    return " ".join([text, _("Of {unknown} runs this was not recorded.", unknown=unknown)]) if unknown else text


def resumes(run: Run) -> int | None:
    """How often the run was interrupted and resumed from a checkpoint; None if it is not recorded."""
    count = run.provenance.get("resumes")
    return count if type(count) is int else None


def _device_hours(run: Run) -> dict[str, float]:
    """The run's GPU hours or core hours by _GPU or _CORE: its time, times its processes, and on CPUs their threads."""
    hardware, processes = mapping(run.provenance.get("hardware")), run.provenance.get("world_size", 1)
    if run.seconds is None or not isinstance(processes, int):
        return {}
    hours = run.seconds * processes / 3600
    if hardware.get("device") == _GPU:
        return {_GPU: hours}
    threads = hardware.get("threads")
    return {_CORE: hours * threads} if hardware.get("device") == _CORE and isinstance(threads, int) else {}


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
        [_("Model"), *stages, _("Total")],
        rows,
        _("Time of the complete runs by model and stage, mean over seeds. Total: the sum over stages and seeds."),
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
        [_("Stage"), _("Runs"), _("Time"), *(_(_HEADINGS[unit]) for unit in units), _("Resumed")],
        rows,
        _(
            "Cost by stage, over all models and seeds. Resumed: how often a run was interrupted and continued from a "
            "checkpoint."
        ),
    )


def _speeds(made: Section, study: Study, runs: Sequence[Run]) -> None:
    """The images per second of each training."""
    speeds: dict[tuple[Model, str], list[tuple[Run, float]]] = defaultdict(list)
    for run in runs:
        rate = images_per_second(run)
        if rate is not None:
            speeds[run.model, run.stage].append((run, rate))
    rows = []
    for model in names.in_order((model for model, _stage in speeds), study.methods):
        for stage in ("pretrain", "finetune"):
            if found := speeds.get((model, stage)):
                devices = names.listed(_device(run) for run, _rate in found)
                rate = fmean(rate for _run, rate in found)
                rows.append([study.model_label(model), stage, devices, tables.number(rate)])
    made.table(
        "speed",
        [_("Model"), _("Stage"), _("Device"), _("Images per second")],
        rows,
        _(
            "Speed of the trainings, mean over seeds: images of the batches, each counted once with all its views, "
            "between the first and the last line of the metrics log, which includes validation. For trainings on "
            "labels: of the final training."
        ),
        left=3,
    )


def _device(run: Run) -> str:
    return str(mapping(run.provenance.get("hardware")).get("name", tables.ABSENT))


def images_per_second(run: Run) -> float | None:
    """The images of the batches per second between the first and the last logged step; None if it is unknown."""
    frame, size = run.metrics, batch_size(run)
    if run.stage == "finetune" and "phase" in frame:
        frame = frame[frame["phase"] == "final"]
    if size is None or not {"step", "seconds"} <= set(frame) or len(frame) < 2:
        return None
    steps, seconds = (float(frame[column].iloc[-1] - frame[column].iloc[0]) for column in ("step", "seconds"))
    return steps * size / seconds if steps > 0 and seconds > 0 else None


def duration(seconds: float) -> str:
    """A duration for people: `42 s`, `12 min`, `3.4 h`."""
    if seconds < 100:
        text = _("{seconds:.0f} s", seconds=seconds)
    elif seconds < 6000:
        text = _("{minutes:.0f} min", minutes=seconds / 60)
    else:
        text = _("{hours:.1f} h", hours=seconds / 3600)
    return NumberText(text, seconds=seconds)
