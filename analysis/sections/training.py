"""Learning curves: pretraining, probes, fine-tuning, and what was chosen on validation."""

from pathlib import Path

from analysis import names, tables
from analysis.blocks import Section
from analysis.estimates import Estimate, estimate
from analysis.figures import curves
from analysis.study import Study

_CHOSEN = {"accuracy": "Validation accuracy (%)", "l2": "l2", "lr": "learning rate", "weight_decay": "weight decay"}


def section(study: Study, figures: Path) -> Section:
    """The curves of every run that logged any."""
    made = Section("Learning curves")
    unfinished = [run.directory.name for run in study.runs if not run.complete and not run.metrics.empty]
    if unfinished:
        made.text(f"Curves of unfinished runs are drawn as far as they go: {', '.join(unfinished)}.")
    made.figure(
        figures,
        "curves-pretraining",
        curves.pretraining(study),
        "Training from random weights, from metrics.jsonl (values between two log lines are averaged). The loss is "
        "each method's own and is not comparable between methods. kNN: on held-out labelled train. Pretext task: "
        "share of views whose partner is found. Thin lines: further seeds." + _deviation(study),
        "a loss that falls while kNN rises is learning; where s.d. of z goes to zero, the method has collapsed.",
    )
    _choices(made, study)
    trials = highest = ""
    if curves.choosers(study):
        trials = " Choice: each pair of learning rate and weight decay on the validation part of train, first seed."
        highest = " In a panel of choice, the curve that ends highest is the pair that the final run took."
    made.figure(
        figures,
        "curves-finetuning",
        curves.finetuning(study),
        "Fine-tuning: loss and training accuracy of the final run. Thin lines: further seeds." + trials,
        "the lower the loss, the better the labels of train are fitted, which need not carry over to test." + highest,
    )
    made.figure(
        figures,
        "curves-probe",
        curves.probing(study),
        "Linear probes: accuracy on the validation part of train for each l2 penalty, first seed. The dot is the "
        "choice; the probe was then fitted again on all of train.",
        "a maximum inside the grid, not at its edge, means that the grid was wide enough.",
    )
    return made


def _deviation(study: Study) -> str:
    """What the deviation of z would be without a collapse, where the configuration tells the dimension."""
    for run in study.of("pretrain"):
        method = run.config.get("method")
        model = method.get("model") if isinstance(method, dict) else None
        out = model.get("out") if isinstance(model, dict) else None
        if "z_std" in run.metrics and isinstance(out, int) and out > 0:
            return (
                f" s.d. of z: mean over dimensions of the standard deviation over the batch of z/‖z‖; {out} dimensions "
                f"spread over the sphere give about {out**-0.5:.4f}, a collapse gives 0."
            )
    return ""


def _choices(made: Section, study: Study) -> None:
    """What the probes and the fine-tuning chose on validation, where there was more than one thing to choose from."""
    chose = {run.model for run in study.complete() if len(run.tried) > 1}
    rows = study.results
    rows = rows[(rows["evaluation"] == "validation") & rows["model"].isin(chose)]
    metrics = [*(key for key in _CHOSEN if key in set(rows["metric"])), *sorted(set(rows["metric"]) - _CHOSEN.keys())]
    cells = []
    for model in names.in_order(rows["model"], study.methods):
        found = [estimate(study, model, "validation", metric) for metric in metrics]
        texts = [_chosen(metric, value) for metric, value in zip(metrics, found, strict=True)]
        cells.append([study.model_label(model), *texts])
    made.table(
        ["Model", *(_CHOSEN.get(metric, metric) for metric in metrics)],
        cells,
        "What was chosen on a validation split of train, never on test (each seed chooses for itself).",
        widths=[1.5, *([1.0] * len(metrics))],
    )


def _chosen(metric: str, value: Estimate | None) -> str:
    if value is None:
        return tables.ABSENT
    if metric == "accuracy":
        return tables.percent(value)
    return ", ".join(f"{entry:.3g}" for entry in dict.fromkeys(value.by_seed.values()))
