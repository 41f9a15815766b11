"""Learning curves of pretraining, probes and fine-tuning, and the hyperparameters chosen on the holdout split."""

# ruff: noqa: RUF001 (texts for people have minus signs and primes)

from collections.abc import Sequence
from pathlib import Path

from analysis import names, tables, trials
from analysis.blocks import Section
from analysis.estimates import Estimate, estimate
from analysis.figures import curves
from analysis.number_text import NumberText
from analysis.records import mapping
from analysis.run import Run
from analysis.sections.methods import by_study
from analysis.study import Study
from analysis.words import N_, _, localized

_CHOSEN = {"accuracy": N_("Validation accuracy (%)"), "nll": N_("Log loss"), "l2": "l2"}


def section(study: Study, figures: Path) -> Section:
    """The curves of every run with a metrics log."""
    made = Section(_("Learning curves"), ("pretrain",))
    unfinished = [run.name for run in study.runs if not run.complete and not run.metrics.empty]
    if unfinished:
        made.text(
            _("The curves of these unfinished runs end at their last logged step: {runs}.", runs=", ".join(unfinished))
        )
    _pretraining(made, study, figures)
    _details(made, study, figures)
    _health(made, study, figures)
    _choices(made, study)
    trials.table(made, study)
    made.text(by_study(study, trials.below_probe))
    _finetuning(made, study, figures)
    _probes(made, study, figures)
    return made


def _pretraining(made: Section, study: Study, figures: Path) -> None:
    made.figure(
        figures,
        "curves-pretraining",
        curves.pretraining(study),
        _(
            "Training from random weights. Each value is the mean since the previous line of metrics.jsonl. The losses "
            "of different methods are not comparable. kNN on holdout: accuracy on the holdout split of labelled train. "
            "Pretext task: share of views for which the other view of the same image is the most similar. Thin lines: "
            "further seeds."
        ),
        _("a falling loss with a rising kNN accuracy means learning."),
    )


def _details(made: Section, study: Study, figures: Path) -> None:
    made.figure(
        figures,
        "curves-details",
        curves.details(study),
        _(
            "Loss of {methods} in detail.",
            methods=_labels(study, [*curves.without_negatives(study), *curves.with_queue(study)]),
        )
        + _no_negatives(study)
        + _queue(study),
        _(
            "a loss that falls while the s.d. of z goes to zero is a collapse. While a queue fills, the loss rises, "
            "because keys of images are harder to tell from the right one than random vectors. A rise after that has "
            "another cause, such as keys that become alike (s.d. of z in the next figure)."
        ),
    )


def _health(made: Section, study: Study, figures: Path) -> None:
    made.figure(
        figures,
        "curves-health",
        curves.health(study),
        _(
            "Health of the representation during pretraining; z is the output of the projection head with unit length. "
            "s.d. of z: over the batch, averaged over the D dimensions; about 1/√D if z is spread evenly over the "
            "sphere. Effective rank (Roy and Vetterli 2007): of the embeddings of labelled train, at most 512. "
            "Alignment (Wang and Isola 2020): mean squared distance between the two views of an image, or between "
            "query and key. Uniformity (likewise): log of the mean of exp(−2‖z − z′‖²) over different images. Thin "
            "lines: further seeds."
        ),
        _(
            "a collapse has an s.d. of 0, an effective rank of 1 and a uniformity of 0. Alignment and uniformity are "
            "both better the lower they are, and a good representation needs both. s.d. and uniformity depend on D, so "
            "compare them only between methods with the same D."
        ),
    )


def _finetuning(made: Section, study: Study, figures: Path) -> None:
    made.figure(
        figures,
        "curves-finetuning",
        curves.finetuning(study),
        _(
            "Training of all weights on labelled train, from random weights (supervised) or from a pretrained encoder. "
            "Top: loss and accuracy on the random crops of the final training. Bottom: validation, on the holdout "
            "split during the trial of the chosen candidate, which was trained without these images. Thin lines: "
            "further seeds."
        ),
        _(
            "a lower training loss is a better fit of the train labels, which does not imply a better test accuracy; a "
            "validation loss that rises while the training loss falls is overfitting."
        ),
        stages=("finetune",),
    )


def _probes(made: Section, study: Study, figures: Path) -> None:
    made.figure(
        figures,
        "curves-probe",
        curves.probing(study),
        _(
            "Linear probes: log loss and accuracy on the holdout split of train for each l2 penalty, first seed. The "
            "dot marks the penalty with the smallest log loss, with which the probe was then fitted on all of train."
        ),
        _("a minimum of the log loss inside the grid, not at its edge, shows that the grid is wide enough."),
        stages=("probe",),
    )


def _labels(study: Study, runs: Sequence[Run]) -> str:
    return names.listed(study.method_label(run.model.method) for run in runs)


def _no_negatives(study: Study) -> str:
    """What the panels of methods without negatives show; empty without such a method."""
    runs = curves.without_negatives(study)
    if not runs:
        return ""
    return _(
        " {methods}: is it a collapse? The loss (left axis) has its minimum also where all z are equal; the standard "
        "deviation of z/‖z‖ over the batch, averaged over its D dimensions (right axis, dashed), is then 0, and about "
        "1/√D for z spread evenly over the sphere.",
        methods=_labels(study, runs),
    )


def _queue(study: Study) -> str:
    """What the panels of methods with a queue show; empty without such a method."""
    runs = curves.with_queue(study)
    if not runs:
        return ""
    symmetric = any(found[-1] for run in runs if (found := curves.queue_of(run)))
    twice = _(", or twice that for a symmetric loss, which is a sum over both views") if symmetric else ""
    return _(
        " {methods}: the loss while the queue fills, first seed. The queue starts with random vectors, and each step "
        "replaces the oldest by the keys of a batch; the share that holds keys (right axis, dashed) follows from the "
        "step. Dotted: the loss of a guess, log(1 + size of the queue){twice}.",
        methods=_labels(study, runs),
        twice=twice,
    )


def _choices(made: Section, study: Study) -> None:
    """What probes and fine-tuning chose on the holdout split, for models with more than one candidate."""
    chose = {run.model for run in study.complete() if len(run.tried) > 1}
    rows = study.results
    rows = rows[(rows["evaluation"] == "validation") & rows["model"].isin(chose)]
    metrics = [*(key for key in _CHOSEN if key in set(rows["metric"])), *sorted(set(rows["metric"]) - _CHOSEN.keys())]
    cells = []
    for model in names.in_order(rows["model"], study.methods):
        found = [estimate(study, model, "validation", metric) for metric in metrics]
        texts = [choice(metric, value) for metric, value in zip(metrics, found, strict=True)]
        cells.append([study.model_label(model), *texts])
    settings = [mapping(run.config.get("finetune")) for run in study.complete("finetune")]
    shorter = any(found.get("selection_epochs", 0) < found.get("epochs", 0) for found in settings)
    made.table(
        "choices",
        [_("Model"), *(_(_CHOSEN.get(metric, metric)) for metric in metrics)],
        cells,
        _(
            "Choices on the holdout split of train, never on test. Each seed makes its own choice. The accuracy shown "
            "is that of the best of several candidates, so it is an overestimate; for fine-tuning and the baseline it "
            "is from the trial, which is shorter than the final training."
        )
        if shorter
        else _(
            "Choices on the holdout split of train, never on test. Each seed makes its own choice. The accuracy shown "
            "is that of the best of several candidates, so it is an overestimate; for fine-tuning and the baseline it "
            "is from the trial."
        ),
        stages=("probe", "finetune"),
    )
    runs: dict[str, list[str]] = {}
    for run in (run for run in study.complete() if run.stage != "few_labels"):  # which has a section of its own
        for note in run.notes:
            runs.setdefault(note, []).append(run.name)
    made.items([_("{runs}: {note}.", runs=names.listed(own), note=note) for note, own in runs.items()])


def choice(metric: str, value: Estimate | None) -> str:
    """An accuracy with its interval, or the choices of the seeds for another metric."""
    if value is None:
        return tables.ABSENT
    if metric == "accuracy":
        return tables.percent(value)
    chosen = dict.fromkeys(value.by_seed.values())
    texts = [localized(f"{entry:.3g}") for entry in chosen]
    return NumberText(names.separated(texts), **{f"choice {n}": x for n, x in enumerate(chosen, 1)})
