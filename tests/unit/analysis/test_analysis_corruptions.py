from pathlib import Path

import numpy as np
import pytest
from fake_contents import model_of, models_of
from fake_study import FakeStudy

from analysis import corruptions, statistics
from analysis.comparisons import MEAN_CORRUPTED, compared
from analysis.estimates import Estimate
from analysis.figures import style
from analysis.reading import read_study
from analysis.sections import corruptions as section
from analysis.study import Study
from analysis.tables import ABSENT


@pytest.fixture
def study(fake: FakeStudy) -> Study:
    fake.pretrain("supervised")
    fake.pretrain("byol")
    fake.probe("byol")
    for model in ("supervised", "byol-probe"):
        fake.corruptions(model)
    return read_study(fake.path)


def hits(fake: FakeStudy, model: str) -> np.ndarray:
    with np.load(fake.path / f"corruptions-{model}-s0" / "corruptions.npz") as arrays:
        return arrays["hits"]


def test_the_tables_show_the_means_of_the_hits(study: Study, fake: FakeStudy, tmp_path: Path) -> None:
    with style.styled():
        made = section.section(study, tmp_path)
    blocks = made.blocks
    means, by_corruption = (block["rows"] for block in blocks if block["kind"] == "table")
    assert [row[0] for row in means] == ["Supervised", "BYOL probe"]
    own = hits(fake, "byol-probe")
    assert means[1][2].startswith(f"{100 * own.mean():.1f} [")
    assert [cell.split(" ")[0] for cell in by_corruption[1][1:]] == [f"{100 * part.mean():.1f}" for part in own]
    assert [name for _, _, name in made.figures] == ["corruptions"]


def test_a_difference_to_the_baseline_is_paired_by_image(study: Study, fake: FakeStudy, tmp_path: Path) -> None:
    found = compared(study, MEAN_CORRUPTED, *models_of("byol-probe", "supervised"))
    assert found is not None
    assert found.difference.paired_by == "images"
    gaps = hits(fake, "byol-probe").mean(axis=(0, 1)) - hits(fake, "supervised").mean(axis=(0, 1))
    half = 1.98 * gaps.std(ddof=1) / len(gaps) ** 0.5
    expected = gaps.mean() - half, gaps.mean(), gaps.mean() + half
    assert (found.difference.low, found.difference.value, found.difference.high) == pytest.approx(expected, abs=1e-3)
    with style.styled():
        table = next(block for block in section.section(study, tmp_path).blocks if block["kind"] == "table")
    assert table["rows"][0][-3:] == [ABSENT] * 3
    assert table["rows"][1][-1] == found.verdict


def test_intervals_over_several_seeds_contain_seeds_and_images(fake: FakeStudy) -> None:
    fake.seeds = (0, 1, 2)
    fake.pretrain("byol")
    fake.probe("byol")
    for seed in fake.seeds:
        fake.corruptions("byol-probe", seed)
    study = read_study(fake.path)
    tables = []
    for seed in fake.seeds:
        with np.load(fake.path / f"corruptions-byol-probe-s{seed}" / "corruptions.npz") as arrays:
            tables.append(dict(arrays))
    model = model_of("byol-probe")
    for values, metric, key in (
        ([own["hits"].mean(axis=(0, 1)) for own in tables], "mean_accuracy", {}),
        ([own["hits"][1].mean(axis=0) for own in tables], "mean_accuracy", {"corruption": "gaussian_blur"}),
        ([own["hits"][1, 2] == 1 for own in tables], "accuracy", {"corruption": "gaussian_blur", "severity": 5}),
        ([own["clean"] == 1 for own in tables], "clean_accuracy", {}),
    ):
        expected = statistics.mean(np.stack(values), share=True)
        found = corruptions.number(study, model, metric, **key)
        assert found is not None
        assert (found.low, found.value, found.high) == pytest.approx((expected.low, expected.value, expected.high))


def test_the_spread_is_the_longer_half_of_the_interval() -> None:
    assert section._cell(Estimate(0.5, 0.38, 0.6, None, 100, {0: 0.5})) == "50.0 ± 12.0"
    assert section._cell(Estimate(0.5, 0.4, 0.63, None, 100, {0: 0.5})) == "50.0 ± 13.0"


def test_a_study_without_this_evaluation_has_no_section(fake: FakeStudy, tmp_path: Path) -> None:
    fake.probe("byol")
    assert section.section(read_study(fake.path), tmp_path).blocks == []


@pytest.mark.parametrize(
    ("seeds", "over"), [(1, "over the test images, of one seed."), (2, "over seeds and test images.")]
)
def test_the_interval_under_each_corruption_says_what_it_is_over(
    fake: FakeStudy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: int, over: str
) -> None:
    monkeypatch.setattr(style, "save", lambda figure, folder, name: folder / name)
    for seed in range(seeds):
        fake.finetune("random", seed)
        fake.corruptions("supervised", seed)
    with style.styled():
        blocks = section.section(read_study(fake.path), tmp_path).blocks
    *_, table = (block for block in blocks if block["kind"] == "table")
    assert table["caption"].endswith(f"±: the longer half of the 95 % interval {over}")
