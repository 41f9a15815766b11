"""How the numbers were obtained: hyperparameters from config.yaml, the data, and the compute time."""

# ruff: noqa: RUF001 (texts for people have Greek letters, dashes and minus signs)

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any, Final

from analysis import names, tables
from analysis.blocks import Section
from analysis.names import Model
from analysis.run import Run
from analysis.study import Study
from ssl_pkg.catalogue import STAGES

_SCALES: Final = {"linear": (1.0, " · B/256"), "sqrt": (0.5, " · √(B/256)"), "none": (0.0, "")}  # power of B/256


def section(study: Study) -> Section:
    """Hyperparameters, settings of the evaluations, data and compute time."""
    made = Section("How the numbers were obtained")
    made.text(
        "Every model is torchvision's ResNet-18 with its 7×7 stem and max-pool. Self-supervised methods are trained "
        "without labels. Labels are used to train probes and whole networks, and for the kNN accuracy, which "
        "influences no training. All choices are made on a holdout split of train, none on the test split or the OOD "
        "images."
    )
    _pretraining(made, study)
    _settings(made, study)
    _data(made, study)
    _compute(made, study)
    return made


def _pretraining(made: Section, study: Study) -> None:
    """A column for each method and a row for each setting, which in a sweep lists the values of all variants."""
    chosen = {run.model: run for run in reversed(study.of("pretrain")) if isinstance(run.config.get("method"), dict)}
    variants: dict[str, list[dict[str, str]]] = {}
    for encoder in (encoder for encoder in study.encoders if encoder in chosen):
        variants.setdefault(encoder.method, []).append(_recipe(chosen[encoder]))
    methods = list(variants)
    columns = {method: _merged(recipes) for method, recipes in variants.items()}
    keys = list(dict.fromkeys(key for recipe in columns.values() for key in recipe))
    keys = [key for key in keys if not key.startswith("view")] + [key for key in keys if key.startswith("view")]
    made.table(
        "settings-pretraining",
        ["Setting", *(study.method_label(method) for method in methods)],
        [[key, *(columns[method].get(key, tables.ABSENT) for method in methods)] for key in keys],
        "Settings of the training from random weights (config.yaml of the run with the first seed).",
        size=8,
        left=1 + len(methods),
        widths=[1.1, *([1.2] * len(methods))],
    )


def _merged(recipes: Sequence[dict[str, str]]) -> dict[str, str]:
    """One recipe from several: each setting with all its values."""
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    return {key: " | ".join(dict.fromkeys(recipe.get(key, tables.ABSENT) for recipe in recipes)) for key in keys}


def _recipe(run: Run) -> dict[str, str]:
    method: dict[str, Any] = run.config["method"]
    budget = _mapping(run.config.get("budget"))
    optimizer = _mapping(method.get("optimizer"))
    recipe = {
        "split": method.get("split"),
        "resolution": f"{budget['resolution']} px" if "resolution" in budget else None,
        "epochs": method.get("epochs"),
        "at most … steps": budget.get("max_steps"),
        "warm-up epochs": method.get("warmup_epochs"),
        "batch size": method.get("batch_size"),
        "optimizer": optimizer.get("name"),
        "peak learning rate": _peak_lr(optimizer, method.get("batch_size")),
        "weight decay": optimizer.get("weight_decay"),
        "momentum": None if optimizer.get("name") == "adamw" else optimizer.get("momentum"),
        "schedule": ("warm-up, then " if method.get("warmup_epochs") else "") + "cosine to zero, per step",
        "precision": run.config.get("precision"),
    }
    recipe |= {key: value for key, value in _mapping(method.get("model")).items() if key != "_target_"}
    for index, view in enumerate(method.get("views") or [], start=1):
        recipe[f"view {index}"] = _view(_mapping(view))
    return {key.replace("_", " "): _text(value) for key, value in recipe.items() if value is not None}


def _peak_lr(optimizer: Mapping[str, Any], batch_size: Any) -> str | None:
    base, scaling = optimizer.get("base_lr"), optimizer.get("lr_scaling", "none")
    if not isinstance(base, int | float) or not isinstance(batch_size, int) or scaling not in _SCALES:
        return None
    power, shown = _SCALES[scaling]
    return f"{base * (batch_size / 256) ** power:.4g}" + (f" = {base:g}{shown}" if shown else "")


def _view(view: Mapping[str, Any]) -> str:
    area, jitter = view.get("crop_area"), _mapping(view.get("jitter"))
    parts = [f"crop {area[0]:g}–{area[1]:g} of the area"] if isinstance(area, list) and len(area) == 2 else []
    if jitter:
        strengths = "/".join(_text(jitter.get(key)) for key in ("brightness", "contrast", "saturation", "hue"))
        parts.append(f"jitter {strengths} (p {_text(jitter.get('probability'))})")
    parts += [f"{key} p {_text(view[key])}" for key in ("flip", "grey", "blur", "solarize") if view.get(key)]
    return "; ".join(parts)


def _settings(made: Section, study: Study) -> None:
    """The settings of each stage."""
    rows = []
    for stage in STAGES.values():
        for run in study.of(stage.name):
            content = run.config.get(stage.name)
            if isinstance(content, dict):
                listed = "; ".join(f"{key.replace('_', ' ')} {_text(value)}" for key, value in content.items())
                rows.append([stage.heading, listed])
                break
    caption = "Settings of the stages (config.yaml)."
    made.table("settings-stages", ["Stage", "Settings"], rows, caption, left=2, widths=[1, 2.4])


def _data(made: Section, study: Study) -> None:
    """The files that were read, with their md5 sums."""
    files: dict[tuple[str, str], tuple[str, str]] = {}
    for run in study.complete():
        manifest = _mapping(run.provenance.get("data"))
        for file, facts in _mapping(manifest.get("files")).items():
            size = _mapping(facts).get("bytes")
            shown = f"{size:,}" if isinstance(size, int) else tables.ABSENT
            files[str(file), str(_mapping(facts).get("md5") or "not read")] = (str(manifest.get("name")), shown)
    made.table(
        "data",
        ["File", "Counts as", "Bytes", "md5"],
        [[file, name, size, digest] for (file, digest), (name, size) in sorted(files.items())],
        "The data that the runs read. Files count as STL-10 or CIFAR-10 only if their md5 is that of the published "
        "file.",
        size=8,
        left=2,
        widths=[1.5, 0.6, 0.7, 1.4],
    )


def _compute(made: Section, study: Study) -> None:
    """Compute time by model and stage, and the runs that are not complete."""
    seconds: dict[Model, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in study.complete():
        if run.seconds is not None:
            seconds[run.model][run.stage].append(run.seconds)
    stages = [stage for stage in STAGES if any(stage in found for found in seconds.values())]
    rows = []
    for model in names.in_order(seconds, study.methods):
        found = seconds[model]
        means = [_duration(fmean(found[stage])) if stage in found else tables.ABSENT for stage in stages]
        rows.append([study.model_label(model), *means, _duration(sum(map(sum, found.values())))])
    every = [value for found in seconds.values() for part in found.values() for value in part]
    made.table(
        "time",
        ["Model", *stages, "Sum over seeds"],
        rows,
        f"Time of the complete runs, mean over seeds; {len(every)} runs took {_duration(sum(every))} in total.",
        widths=[1.5, *(max(0.8, 0.13 * len(stage)) for stage in stages), 1],
    )
    _incomplete(made, study)


def _incomplete(made: Section, study: Study) -> None:
    seeds: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for run in study.runs:
        if not run.complete:
            seeds[run.stage, run.model.full_name, run.state].append(str(run.seed))
    rows = [[stage, model, ", ".join(own), state] for (stage, model, state), own in seeds.items()]
    caption = "Runs that were started and are not complete. Planned runs that were not started are on the first page."
    made.table("incomplete", ["Stage", "Model", "Seeds", "State"], rows, caption, left=4)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ", ".join(map(_text, value))
    return str(value)
