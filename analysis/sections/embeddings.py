"""t-SNE maps of the embeddings, and how fine-tuning moves them."""

# ruff: noqa: RUF001 (what people read has Greek letters, dashes and minus signs)

from pathlib import Path
from typing import Any

from analysis import names, tables
from analysis.blocks import Section
from analysis.estimates import estimate
from analysis.figures import tsne
from analysis.study import Study

_LABELS = {"knn_accuracy": "kNN accuracy (%)", "silhouette": "Silhouette"}


def section(study: Study, figures: Path) -> Section:
    """The maps and the numbers that belong to them."""
    made = Section("Embeddings")
    settings = _settings(study)
    made.figure(
        figures,
        "tsne-finetuning",
        tsne.frames(study),
        "t-SNE of the same test images while the model is fine-tuned, from before the first step to after the last; "
        "first seed. The frames of a row are aligned and share their axes.",
        "follow one colour from left to right: classes that drift apart are being separated by the labels.",
    )
    made.figure(
        figures,
        "tsne",
        tsne.maps(study),
        "t-SNE of the average-pool output (512 values) of train and of test images, one colour and marker a class, the "
        f"number at the class's median; first seed; at most 1,000 points are drawn{settings}. Train and test "
        "share one map; a probe's embedding is that of its frozen encoder.",
        "islands of one colour are classes that the embedding separates; sizes of islands and distances between them "
        "mean little.",
    )
    _numbers(made, study)
    return made


def _settings(study: Study) -> str:
    for run in study.complete("embed"):
        embed: Any = run.config.get("embed")
        if isinstance(embed, dict) and "perplexity" in embed:
            return f", perplexity {embed['perplexity']:g}"
    return ""


def _numbers(made: Section, study: Study) -> None:
    rows = study.results[study.results["evaluation"] == "embedding"]
    metrics = list(dict.fromkeys(rows["metric"]))
    cells = []
    for model in names.in_order(rows["model"], study.methods):
        found = {metric: estimate(study, model, "embedding", metric) for metric in metrics}
        texts = [
            tables.percent(value) if "accuracy" in metric else tables.number(value.value if value else None)
            for metric, value in found.items()
        ]
        cells.append([names.model_label(model), *texts])
    caption = "Numbers on the 512-dimensional embeddings themselves, not on the maps; means over seeds."
    if "silhouette" in metrics:
        caption += " Silhouette: from −1 to 1, how much nearer an image lies to its own class than to the next."
    made.table(
        ["Model", *(_LABELS.get(metric, metric) for metric in metrics)],
        cells,
        caption,
        widths=[1.5, *([1.0] * len(metrics))],
    )
