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
    return made


def _settings(study: Study) -> str:
    for run in study.complete("embed"):
        embed: Any = run.config.get("embed")
        if isinstance(embed, dict) and "perplexity" in embed:
            return f", perplexity {embed['perplexity']:g}"
    return ""
