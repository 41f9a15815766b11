"""t-SNE maps of the embeddings, and how fine-tuning moves them."""

from pathlib import Path
from typing import Any

from analysis.blocks import Section
from analysis.figures import tsne
from analysis.study import Study


def section(study: Study, figures: Path) -> Section:
    """The t-SNE maps."""
    made = Section("Embeddings")
    settings = _settings(study)
    made.figure(
        figures,
        "tsne-finetuning",
        tsne.frames(study),
        "t-SNE of the same test images during fine-tuning, from before the first step to after the last; first seed. "
        "The frames of a row are aligned and share their axes.",
        "follow one colour from left to right: classes that move apart are being separated by the labels.",
    )
    made.figure(
        figures,
        "tsne",
        tsne.maps(study),
        "t-SNE of the average-pool output (512 values) of train and test images. Each class has a colour and a marker; "
        f"its number is at its median. First seed; at most 1,000 points are drawn{settings}. Train and test share one "
        "map. The embedding of a probe is that of its frozen encoder.",
        "islands of one colour are classes that the embedding separates; the sizes of islands and the distances "
        "between them have little meaning.",
    )
    return made


def _settings(study: Study) -> str:
    for run in study.complete("embed"):
        embed: Any = run.config.get("embed")
        if isinstance(embed, dict) and "perplexity" in embed:
            return f", perplexity {embed['perplexity']:g}"
    return ""
