"""The figures of merit of t-SNE maps."""

from pathlib import Path

import numpy as np
import pytest
from fake_study import FakeStudy

from analysis.blocks import Block, Section
from analysis.figures import style
from analysis.reading import read_study
from analysis.sections import embed


def tables(section: Section) -> list[Block]:
    return [block for block in section.blocks if block["kind"] == "table"]


def test_the_figures_of_merit_of_every_map_are_shown(
    fake: FakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "save", lambda figure, folder, name: folder / name)
    for method, model in (("random", "supervised"), ("byol", "byol-finetune")):
        fake.finetune(method)
        fake.embed(model)
    study = read_study(fake.path)
    with style.styled():
        made = embed.section(study, tmp_path)
    (table,) = tables(made)
    values = {(row["model"], row["evaluation"], row["metric"]): row["value"] for row in fake.written}
    assert [row[0] for row in table["rows"]] == [study.model_label(model) for model in study.models]
    for model, (_, knn, on_map, trust) in zip(("supervised", "byol-finetune"), table["rows"], strict=True):
        assert knn == f"{100 * values[model, 'knn', 'accuracy']:.1f}"
        assert on_map == f"{100 * values[model, 'tsne', 'knn_accuracy']:.1f}"
        assert trust == f"{values[model, 'tsne', 'trustworthiness']:.3f}"
    captions = [block["caption"] for block in made.blocks if block["kind"] == "figure"]
    assert any("with perplexity 30," in caption for caption in captions)
    assert "standard deviation" not in table["caption"]


def test_the_deviation_of_a_figure_of_merit_over_seeds_is_called_so(
    fake: FakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(style, "save", lambda figure, folder, name: folder / name)
    for seed in range(2):
        fake.finetune("random", seed)
        fake.embed("supervised", seed)
    values = [row["value"] for row in fake.written if row["metric"] == "trustworthiness"]
    with style.styled():
        (table,) = tables(embed.section(read_study(fake.path), tmp_path))
    assert table["rows"][0][3] == f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"
    assert table["caption"].endswith("After ±: the standard deviation of the trustworthiness over seeds.")
