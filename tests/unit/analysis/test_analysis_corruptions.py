from pathlib import Path

import numpy as np
import pytest
from fake_study import FakeStudy, model_of, models_of

from analysis import corruptions
from analysis.figures import style
from analysis.sections import corruptions as section
from analysis.study import Study, read_study


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
        blocks = section.section(study, tmp_path).blocks
    means, by_corruption = (block["rows"] for block in blocks if block["kind"] == "table")
    assert [row[0] for row in means] == ["Supervised", "BYOL probe"]
    own = hits(fake, "byol-probe")
    assert means[1][2].startswith(f"{100 * own.mean():.1f} [")
    assert [cell.split(" ")[0] for cell in by_corruption[1][1:]] == [f"{100 * part.mean():.1f}" for part in own]
    assert (tmp_path / "corruptions.pdf").exists()


def test_a_difference_to_the_baseline_is_paired_by_image(study: Study, fake: FakeStudy, tmp_path: Path) -> None:
    found = corruptions.against(study, model_of("supervised"))
    assert list(found) == models_of("byol-probe")
    gap = found[model_of("byol-probe")].difference
    gaps = hits(fake, "byol-probe").mean(axis=(0, 1)) - hits(fake, "supervised").mean(axis=(0, 1))
    half = 1.98 * gaps.std(ddof=1) / len(gaps) ** 0.5
    assert (gap.low, gap.value, gap.high) == pytest.approx(
        (gaps.mean() - half, gaps.mean(), gaps.mean() + half), abs=1e-3
    )


def test_without_usable_hits_there_is_no_difference(fake: FakeStudy, tmp_path: Path) -> None:
    for model in ("supervised", "byol-probe"):
        run = fake.corruptions(model)
    with np.load(run / "corruptions.npz") as arrays:
        broken = {"clean": arrays["clean"], "hits": np.where(arrays["hits"] == 1, np.int8(-1), arrays["hits"])}
    np.savez(run / "corruptions.npz", **broken)
    study = read_study(fake.path)
    assert corruptions.against(study, model_of("supervised")) == {}
    with style.styled():
        means = next(block for block in section.section(study, tmp_path).blocks if block["kind"] == "table")
    assert means["headings"] == ["Model", "Clean", "Mean under corruption", "Relative to clean"]


def test_a_study_without_this_evaluation_has_no_section(fake: FakeStudy, tmp_path: Path) -> None:
    fake.probe("byol")
    assert section.section(read_study(fake.path), tmp_path).blocks == []
