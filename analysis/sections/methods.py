"""What each method of the study does: its idea, its loss as an equation, its paper, and its settings as run."""

# ruff: noqa: RUF001 (texts for people have Greek letters, dashes and minus signs)

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from analysis import names, tables
from analysis.blocks import Section
from analysis.method_texts import BASELINE, LABELLED, SELF_SUPERVISED, Explanation
from analysis.records import mapping, shown
from analysis.run import Run
from analysis.study import Study
from analysis.words import N_, _, localized, ngettext
from ssl_pkg.catalogue import SUPERVISED
from ssl_pkg.config.batch_sizes import peak_lr

_SCALES: Final = {"linear": " · B/256", "sqrt": " · √(B/256)", "none": ""}  # factors on the learning rate, as texts
_FIELDS: Final = (  # of `method.model`, which the catalogue translates
    *(N_("projector hidden"), N_("projector out"), N_("hidden"), N_("out"), N_("temperature"), N_("symmetric")),
    *(N_("queue size"), N_("key momentum"), N_("bn splits"), N_("target decay"), N_("predictor rate")),
)
_VIEW: Final = "view "  # before its number
_PROBABILITIES: Final = {  # by the field of a view with the probability
    "flip": N_("flip p {p}"),
    "grey": N_("grey p {p}"),
    "blur": N_("blur p {p}"),
    "solarize": N_("solarize p {p}"),
}


def section(study: Study) -> Section:
    """A part for each pretraining method, one for the labelled trainings, and the table of the settings."""
    made = Section(_("Methods"), ("pretrain",))
    searched = ""
    if by_study(study, tuned_fields):
        searched = _(", and to choose the values of the pretraining that are named on the first page")
    made.text(
        _(
            "Every model is torchvision's ResNet-18 with its 7×7 stem and max-pool; the embedding f(x) of an image is "
            "its average pool, 512 values. Self-supervised methods are trained without labels, on random views of "
            "images. Their projection head g is discarded after pretraining. Labels are used to train probes and whole "
            "networks, and for the kNN accuracy, which influences no training{searched}. All choices are made on a "
            "holdout split of train, none on the test split or the OOD images.",
            searched=searched,
        )
    )
    recipes = _recipes(study)
    for method, recipe in recipes.items():
        made.subheading(study.method_label(method))
        if method in SELF_SUPERVISED:
            explain(made, SELF_SUPERVISED[method], recipe)
        _papers(made, study, method)
    if study.of("finetune"):
        supervised = SUPERVISED in study.methods
        made.subheading(_("Supervised baseline and fine-tuning") if supervised else _("Fine-tuning"))
        explain(made, LABELLED, {}, more=_(BASELINE) if supervised else "")
        made.text(by_study(study, _labelled))
    _table(made, study, recipes)
    return made


def explain(made: Section, found: Explanation, recipe: Mapping[str, str], *, more: str = "") -> None:
    """Adds idea, equations and symbols.

    recipe: the settings as run, for the fields that the symbols name. more: follows the idea.
    """
    values = defaultdict(lambda: tables.ABSENT, {key.replace(" ", "_"): value for key, value in recipe.items()})
    made.text(_(found.idea) + more)
    for equation in found.equations:
        made.equation(equation)
    exchanged = found.exchanged if values["symmetric"] == shown(True) else ""
    made.text(_(found.symbols).format_map(values) + _(exchanged))


def by_study(study: Study, describe: Callable[[Study], str]) -> str:
    """A text about the study; of joined studies, each after the name of its study, unless all have the same text."""
    texts = {part.name: describe(part) for part in study.parts or (study,)}
    if len(set(texts.values())) == 1:
        return next(iter(texts.values()))
    return " ".join(f"{name}: {text}" for name, text in texts.items() if text)


def tuned_fields(study: Study) -> str:
    """The fields of each pretraining that a search changed: `SimCLR none, BYOL 1 (base lr)`; empty if none."""
    fields = {
        run.model.method: run.config["method"].get("tuned") or []
        for run in reversed(study.of("pretrain"))
        if isinstance(run.config.get("method"), dict)
    }
    if not any(fields.values()):
        return ""
    parts = []
    for method in (method for method in study.methods if method in fields):
        named = names.listed(str(name).rpartition(".")[2].replace("_", " ") for name in fields[method])
        label = study.method_label(method)
        parts.append(
            _("{method} {count} ({fields})", method=label, count=len(fields[method]), fields=named)
            if named
            else _("{method} none", method=label)
        )
    return names.separated(parts)


def _papers(made: Section, study: Study, method: str) -> None:
    found = [str(paper) for run in study.of("pretrain") if run.model.method == method for paper in _papers_of(run)]
    if found:
        made.text(_("Source: {papers}.", papers="; ".join(dict.fromkeys(found))))


def _papers_of(run: Run) -> Sequence[Any]:
    papers = mapping(run.config.get("method")).get("papers")
    return papers if isinstance(papers, list) else []


def _labelled(study: Study) -> str:
    """Epochs, batches and candidates of the labelled trainings; empty if they are not recorded."""
    settings = next((mapping(run.config.get("finetune")) for run in study.of("finetune")), {})
    tried = max((len(run.tried) for run in study.of("finetune")), default=0)
    if not {"epochs", "batch_size"} <= settings.keys():
        return ""
    number = ngettext("one candidate", "{n} candidates", tried) if tried else _("several candidates")
    selection = settings.get("selection_epochs")
    trial = "" if selection is None else _(", for {epochs} epochs", epochs=selection)
    return _(
        "As run: {epochs} epochs with AdamW in batches of {batch_size}. Each of {number} for learning rate, weight "
        "decay, jitter and initial head was first trained without the holdout split{trial}; the one with the highest "
        "accuracy on the holdout split was then trained on all of train (table of trials in the section “Learning "
        "curves”).",
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        number=number,
        trial=trial,
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
    keys.sort(key=lambda key: key.startswith(_VIEW))
    made.table(
        "settings-pretraining",
        [_("Setting"), *(study.method_label(method) for method in recipes)],
        [[_label(key), *(recipe.get(key, tables.ABSENT) for recipe in recipes.values())] for key in keys],
        _("Settings of the pretraining as run (config.yaml of the run with the first seed)."),
        size=8,
        left=1 + len(recipes),
    )


def _label(key: str) -> str:
    return _("view {n}", n=key.removeprefix(_VIEW)) if key.startswith(_VIEW) else _(key)


def merged(recipes: Sequence[dict[str, str]]) -> dict[str, str]:
    """One recipe from several: each setting with all its values."""
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    return {key: " | ".join(dict.fromkeys(recipe.get(key, tables.ABSENT) for recipe in recipes)) for key in keys}


def _recipe(run: Run) -> dict[str, str]:
    method: dict[str, Any] = run.config["method"]
    budget = mapping(run.config.get("budget"))
    optimizer = mapping(method.get("optimizer"))
    recipe = {
        N_("split"): method.get("split"),
        N_("resolution"): _("{n} px", n=budget["resolution"]) if "resolution" in budget else None,
        N_("epochs"): method.get("epochs"),
        N_("passes over the split in an epoch"): run.training.get("passes"),
        N_("steps"): run.training.get("steps"),
        N_("at most … steps"): budget.get("max_steps"),
        N_("warm-up epochs"): method.get("warmup_epochs"),
        N_("batch size"): method.get("batch_size"),
        N_("optimizer"): optimizer.get("name"),
        N_("peak learning rate"): _peak_lr(optimizer, method.get("batch_size")),
        N_("weight decay"): optimizer.get("weight_decay"),
        N_("momentum"): None if optimizer.get("name") == "adamw" else optimizer.get("momentum"),
        N_("schedule"): _("warm-up, then cosine to zero, per step")
        if method.get("warmup_epochs")
        else _("cosine to zero, per step"),
        N_("precision"): run.config.get("precision"),
    }
    recipe |= {key: value for key, value in mapping(method.get("model")).items() if key != "_target_"}
    for index, view in enumerate(method.get("views") or [], start=1):
        recipe[f"{_VIEW}{index}"] = _view(mapping(view))
    return {key.replace("_", " "): shown(value) for key, value in recipe.items() if value is not None}


def _peak_lr(optimizer: Mapping[str, Any], batch_size: Any) -> str | None:
    """The learning rate after warm-up; None if it is not recorded."""
    base, scaling = optimizer.get("base_lr"), optimizer.get("lr_scaling", "none")
    if not isinstance(base, int | float) or not isinstance(batch_size, int) or scaling not in _SCALES:
        return None
    factor = _SCALES[scaling]
    return localized(f"{peak_lr(base, scaling, batch_size):.4g}" + (f" = {base:g}{factor}" if factor else ""))


def _view(view: Mapping[str, Any]) -> str:
    area, jitter = view.get("crop_area"), mapping(view.get("jitter"))
    parts = []
    if isinstance(area, list) and len(area) == 2:
        parts.append(_("crop {low:g}–{high:g} of the area", low=area[0], high=area[1]))
    if jitter:
        strengths = "/".join(shown(jitter.get(key)) for key in ("brightness", "contrast", "saturation", "hue"))
        parts.append(_("jitter {strengths} (p {p})", strengths=strengths, p=shown(jitter.get("probability"))))
    parts += [_(text, p=shown(view[key])) for key, text in _PROBABILITIES.items() if view.get(key)]
    return "; ".join(parts)
