from pathlib import Path

import numpy as np
import pytest
from fake_study import FakeStudy

from analysis import statistics
from analysis.few_labels import SCRATCH, gains, points
from analysis.figures import style
from analysis.names import Model
from analysis.reading import read_study
from analysis.sections import few_labels, probe

PROBE, FINETUNED = Model("simclr", "probe"), Model("simclr", "finetune")


@pytest.fixture
def study(fake: FakeStudy) -> FakeStudy:
    fake.images = 500
    fake.pretrain("simclr")
    fake.few_labels(
        "simclr", skills={(10, "probe"): 0.8, (50, "probe"): 0.8, (10, "finetune"): 0.6, (50, "finetune"): 0.3}
    )
    fake.few_labels(
        "random", skills={(10, "probe"): 0.2, (50, "probe"): 0.2, (10, "finetune"): 0.6, (50, "finetune"): 0.6}
    )
    return fake


def test_rows_belong_to_the_model_that_the_adaptation_makes(study: FakeStudy) -> None:
    rows = read_study(study.path).results
    rows = rows[(rows["evaluation"] == "few_labels") & (rows["draw"] == 1) & (rows["labels_per_class"] == 50)]
    values = dict(zip(rows["model"], rows["value"], strict=True))
    assert values.keys() == {PROBE, FINETUNED, SCRATCH, Model("random", "probe")}
    assert set(rows["adaptation"].dropna()) == {"probe", "finetune"}
    found = points(read_study(study.path))
    assert values[SCRATCH] == pytest.approx(found[SCRATCH][50].hits[1].mean())
    assert values[PROBE] == pytest.approx(found[PROBE][50].hits[1].mean())


def test_draws_of_all_seeds_are_the_repetitions_of_a_point(study: FakeStudy) -> None:
    study.few_labels("simclr", 1, skills={(10, "probe"): 0.8})
    point = points(read_study(study.path))[PROBE][10]
    assert point.draws == tuple((seed, draw) for seed in (0, 1) for draw in range(4))
    assert point.hits.shape == (8, 500)
    assert point.mean == statistics.mean(point.hits)


def test_the_comparisons_are_one_family(study: FakeStudy) -> None:
    found = points(read_study(study.path))
    family = gains(found)
    assert [(gain.model, gain.labels_per_class) for gain in family] == [
        (model, size) for model in (Model("random", "probe"), PROBE, FINETUNED) for size in (10, 50)
    ]
    smallest = min(gain.difference.p for gain in family)
    assert min(gain.p_holm for gain in family) == pytest.approx(len(family) * smallest)
    for gain in family:
        own, scratch = found[gain.model][gain.labels_per_class].hits, found[SCRATCH][gain.labels_per_class].hits
        assert gain.difference.value == pytest.approx(own.mean() - scratch.mean())


def test_the_section_says_where_pretraining_pays(study: FakeStudy, tmp_path: Path) -> None:
    with style.styled():
        made = few_labels.section(read_study(study.path), tmp_path)
    (sentences,) = (block["items"] for block in made.blocks if block["kind"] == "items")
    probe = next(text for text in sentences if "probe against Supervised from scratch: clearly above" in text)
    assert "10 labels per class" in probe
    assert "50 labels per class" in probe
    finetuned = next(text for text in sentences if "fine-tuned" in text)
    assert "clearly below" in finetuned
    assert finetuned.index("50 labels") < finetuned.index("not clearly different")
    (table,) = (block for block in made.blocks if block["kind"] == "table")
    assert table["headings"] == ["Labels per class", "10", "50"]
    assert (tmp_path / "few-labels.pdf").is_file()


def test_a_model_without_a_result_is_left_out(study: FakeStudy) -> None:
    file = study.path / "few_labels-simclr-s0" / "few_labels.npz"
    with np.load(file) as arrays:
        content = dict(arrays)
    content["hits"][content["finetuned"] == 1] = -1
    np.savez_compressed(file, **content)
    assert FINETUNED not in points(read_study(study.path))


def test_no_section_without_runs(fake: FakeStudy, tmp_path: Path) -> None:
    fake.pretrain("simclr")
    assert not few_labels.section(read_study(fake.path), tmp_path).blocks


def test_folds_of_a_probe_are_averaged(fake: FakeStudy, tmp_path: Path) -> None:
    fake.pretrain("simclr")
    file = fake.probe("simclr") / "predictions.npz"
    assert not probe.section(read_study(fake.path), tmp_path).blocks
    hits = np.zeros((2, 100), np.int8)
    hits[0, :60], hits[1, :40] = 1, 1
    with np.load(file) as arrays:
        np.savez_compressed(file, **arrays, fold_hits=hits)
    (table,) = (block for block in probe.section(read_study(fake.path), tmp_path).blocks if block["kind"] == "table")
    assert table["rows"][0][1:3] == ["50.0", "14.1"]
