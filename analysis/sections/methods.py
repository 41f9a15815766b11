"""What each method of the study does: its idea, its loss as an equation, its paper, and its settings as run."""

# ruff: noqa: RUF001 (texts for people have Greek letters, dashes and minus signs)

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from analysis import tables
from analysis.blocks import Section
from analysis.method_texts import BASELINE, LABELLED, SELF_SUPERVISED, Explanation
from analysis.records import mapping, shown
from analysis.run import Run
from analysis.study import Study
from ssl_pkg.catalogue import SUPERVISED

_SCALES: Final = {"linear": (1.0, " · B/256"), "sqrt": (0.5, " · √(B/256)"), "none": (0.0, "")}  # power of B/256


def section(study: Study) -> Section:
    """A part for each pretraining method, one for the labelled trainings, and the table of the settings."""
    made = Section("Methods", ("pretrain",))
    made.text(
        "Every model is torchvision's ResNet-18 with its 7×7 stem and max-pool; the embedding f(x) of an image is its "
        "average pool, 512 values. Self-supervised methods are trained without labels, on random views of images. "
        "Their projection head g is discarded after pretraining. Labels are used to train probes and whole networks, "
        "and for the kNN accuracy, which influences no training. All choices are made on a holdout split of train, "
        "none on the test split or the OOD images."
    )
    recipes = _recipes(study)
    for method, recipe in recipes.items():
        made.subheading(study.method_label(method))
        if method in SELF_SUPERVISED:
            explain(made, SELF_SUPERVISED[method], recipe)
        _papers(made, study, method)
    if study.of("finetune"):
        supervised = SUPERVISED in study.methods
        made.subheading("Supervised baseline and fine-tuning" if supervised else "Fine-tuning")
        explain(made, replace(LABELLED, idea=LABELLED.idea + BASELINE * supervised), {})
        made.text(by_study(study, _labelled))
    _table(made, study, recipes)
    return made


def explain(made: Section, found: Explanation, recipe: Mapping[str, str]) -> None:
    """Adds idea, equations and symbols. recipe: the settings as run, for the fields that the symbols name."""
    values = defaultdict(lambda: tables.ABSENT, {key.replace(" ", "_"): value for key, value in recipe.items()})
    made.text(found.idea)
    for equation in found.equations:
        made.equation(equation)
    made.text(found.symbols.format_map(values))


def by_study(study: Study, describe: Callable[[Study], str]) -> str:
    """A text about the study; of joined studies with different texts, each after the name of its study."""
    texts = {part.name: text for part in study.parts or (study,) if (text := describe(part))}
    different = set(texts.values())
    return " ".join(different if len(different) < 2 else [f"{name}: {text}" for name, text in texts.items()])


def _papers(made: Section, study: Study, method: str) -> None:
    found = [str(paper) for run in study.of("pretrain") if run.model.method == method for paper in _papers_of(run)]
    if found:
        made.text(f"Source: {'; '.join(dict.fromkeys(found))}.")


def _papers_of(run: Run) -> Sequence[Any]:
    papers = mapping(run.config.get("method")).get("papers")
    return papers if isinstance(papers, list) else []


def _labelled(study: Study) -> str:
    """Epochs, batches and candidates of the labelled trainings; empty if they are not recorded."""
    settings = next((mapping(run.config.get("finetune")) for run in study.of("finetune")), {})
    tried = max((len(run.tried) for run in study.of("finetune")), default=0)
    if not {"epochs", "batch_size"} <= settings.keys():
        return ""
    number = "one candidate" if tried == 1 else f"{tried} candidates" if tried else "several candidates"
    trial = f", for {settings['selection_epochs']} epochs" if "selection_epochs" in settings else ""
    return (
        f"As run: {settings['epochs']} epochs with AdamW in batches of {settings['batch_size']}. Each of {number} for "
        f"learning rate, weight decay, jitter and first head was first trained without the holdout split{trial}; the "
        "one with the highest accuracy on the holdout split was then trained on all of train (table of trials in the "
        "section “Learning curves”)."
    )


def _recipes(study: Study) -> dict[str, dict[str, str]]:
    """The settings of each method, which in a sweep list the values of all variants."""
    chosen = {run.model: run for run in reversed(study.of("pretrain")) if isinstance(run.config.get("method"), dict)}
    variants: dict[str, list[dict[str, str]]] = {}
    for encoder in (encoder for encoder in study.encoders if encoder in chosen):
        variants.setdefault(encoder.method, []).append(_recipe(chosen[encoder]))
    return {method: merged(recipes) for method, recipes in variants.items()}


def _table(made: Section, study: Study, recipes: Mapping[str, Mapping[str, str]]) -> None:
    """A column for each method and a row for each setting."""
    keys = list(dict.fromkeys(key for recipe in recipes.values() for key in recipe))
    keys = [key for key in keys if not key.startswith("view")] + [key for key in keys if key.startswith("view")]
    made.table(
        "settings-pretraining",
        ["Setting", *(study.method_label(method) for method in recipes)],
        [[key, *(recipe.get(key, tables.ABSENT) for recipe in recipes.values())] for key in keys],
        "Settings of the pretraining as run (config.yaml of the run with the first seed).",
        size=8,
        left=1 + len(recipes),
        widths=[1.1, *([1.2] * len(recipes))],
    )


def merged(recipes: Sequence[dict[str, str]]) -> dict[str, str]:
    """One recipe from several: each setting with all its values."""
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    return {key: " | ".join(dict.fromkeys(recipe.get(key, tables.ABSENT) for recipe in recipes)) for key in keys}


def _recipe(run: Run) -> dict[str, str]:
    method: dict[str, Any] = run.config["method"]
    budget = mapping(run.config.get("budget"))
    optimizer = mapping(method.get("optimizer"))
    recipe = {
        "split": method.get("split"),
        "resolution": f"{budget['resolution']} px" if "resolution" in budget else None,
        "epochs": method.get("epochs"),
        "passes over the split in an epoch": run.training.get("passes"),
        "steps": run.training.get("steps"),
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
    recipe |= {key: value for key, value in mapping(method.get("model")).items() if key != "_target_"}
    for index, view in enumerate(method.get("views") or [], start=1):
        recipe[f"view {index}"] = _view(mapping(view))
    return {key.replace("_", " "): shown(value) for key, value in recipe.items() if value is not None}


def _peak_lr(optimizer: Mapping[str, Any], batch_size: Any) -> str | None:
    base, scaling = optimizer.get("base_lr"), optimizer.get("lr_scaling", "none")
    if not isinstance(base, int | float) or not isinstance(batch_size, int) or scaling not in _SCALES:
        return None
    power, factor = _SCALES[scaling]
    return f"{base * (batch_size / 256) ** power:.4g}" + (f" = {base:g}{factor}" if factor else "")


def _view(view: Mapping[str, Any]) -> str:
    area, jitter = view.get("crop_area"), mapping(view.get("jitter"))
    parts = [f"crop {area[0]:g}–{area[1]:g} of the area"] if isinstance(area, list) and len(area) == 2 else []
    if jitter:
        strengths = "/".join(shown(jitter.get(key)) for key in ("brightness", "contrast", "saturation", "hue"))
        parts.append(f"jitter {strengths} (p {shown(jitter.get('probability'))})")
    parts += [f"{key} p {shown(view[key])}" for key in ("flip", "grey", "blur", "solarize") if view.get(key)]
    return "; ".join(parts)
